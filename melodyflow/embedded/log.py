"""Reads a tritonserver's log."""

import re
from pathlib import Path


class ServerLog:
    """The part of a log file that one tritonserver wrote. The file may be gone.

    `path`: the file, which is appended to. `begin`: where this server's part starts.
    """

    def __init__(self, path: Path, begin: int) -> None:
        self.path = path
        self._begin = begin

    def text(self) -> str:
        """Everything the server wrote; "" if the file can't be read."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._begin)
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def tail(self) -> str:
        """The last lines, without Triton's tables."""
        lines = [line for line in self.text().splitlines() if line and line[0] not in "+|"]
        return "\n".join(lines[-20:])


def failure_reason(log: str) -> str:
    """Why Triton didn't start: the model's own error if there is one, otherwise the log's end."""
    # Triton logs a message as one quoted line, with \n for line breaks and \" for quotes.
    for pattern in (
        r"failed to load '[^']+' version \d+: (?:\w+: )?(.+)",
        r"(Poll failed for model directory .+)",
        r"(failed to start .+)",
    ):
        found = re.search(pattern, log)
        if found:
            message = found.group(1).replace(r"\n", "\n").replace(r"\"", '"')
            return message.split("\n\nAt:")[0].strip().removesuffix('"').strip()
    return "\n".join(log.strip().splitlines()[-10:]) or "no output"
