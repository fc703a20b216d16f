"""What a job would ask, without asking: for the estimate before it starts."""

from dataclasses import dataclass, field

from autointerp.asking.records import Failed, Request, writable


@dataclass
class Dry:
    """An asker that only looks. What depends on an answer is not asked in a dry run."""

    model: str = ""
    logprobs: bool = False
    requests: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key → bytes of the prompt, most tokens of the reply; equal requests once."""

    async def ask(self, request: Request) -> Failed:
        """Note the request."""
        n_bytes = sum(len(writable(message.content).encode()) for message in request.messages)
        self.requests[request.key] = (n_bytes, request.max_tokens)
        return Failed("empty", "A dry run asks nobody.")
