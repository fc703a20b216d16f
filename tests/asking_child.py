"""A job's process for tests that kill it: asks 0…N-1 of a server, and writes notes to stdout."""

import asyncio
import sys
from pathlib import Path

from autointerp.llm import CallLog, LlmServer, open_asker
from autointerp.llm import call_log as calls_module
from tests.asking import QUICK, question


def say(line: str) -> None:
    """To the parent, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(base_url: str, path: str, n: str, concurrency: str, then: str = "") -> None:
    """Ask them all, many at once; `stay` afterwards with the file open, or leave."""
    if then == "stay":
        calls_module.FLUSH_S = 0.1
    with CallLog(Path(path), note=say) as calls:
        server = LlmServer("test", base_url, concurrency=int(concurrency))
        async with open_asker(server, "m", calls, retry_policy=QUICK) as asker:
            say("begun")
            await asyncio.gather(*(asker.ask(question(str(i))) for i in range(int(n))))
        if then == "stay":
            for _ in range(400):  # until the rows are in the database
                await asyncio.sleep(0.05)
                if not any(Path(path).with_suffix(".journal").glob("*.calls")):
                    break
        say(f"cached {asker.cached}")
        if then == "stay":
            await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
