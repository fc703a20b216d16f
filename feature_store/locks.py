"""Who holds a DuckDB file."""

import re


def holder(error: Exception) -> int | None:
    """The pid that DuckDB names as holding a file's lock, or None for any other error."""
    match = re.search(r"Conflicting lock is held in .*?\(PID (\d+)\)", str(error), re.DOTALL)
    return int(match.group(1)) if match else None
