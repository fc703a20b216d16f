"""A server that answers explainers and judges at once, by the form that they ask for.

It counts 3.6 bytes of a prompt as a token, which no rule of ours does.
"""

import json
import sys
import threading
from typing import Any

from tests.openai_server import Said, asked, serve

BYTES = 3.6


def rule(body: dict[str, Any]) -> Said:
    """As many answers as the schema wants, or a sentence."""
    form = body["response_format"]["json_schema"]["schema"]["properties"]
    text = asked(body)
    reply: dict[str, Any] = {"explanation": f"words such as word{len(text) % 997}"}
    if "answers" in form:
        reply = {"answers": [len(text) % 2] * form["answers"]["minItems"]}
    words = json.dumps(reply)
    return Said(words, tokens_in=int(len(text.encode()) / BYTES), tokens_out=len(words) // 3)


def main() -> None:
    """Print the port, and answer until killed."""
    with serve(rule, keep=False) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
