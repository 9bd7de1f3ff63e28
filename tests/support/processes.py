"""Programs that a test started, and what they wrote last."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: So many of a program's last lines are shown.
LINES = 40


class Program:
    """A started program, and the files that its output goes to."""

    def __init__(self, name: str, process: subprocess.Popen, *outputs: Path) -> None:
        self.name = name
        self.process = process
        self._outputs = outputs

    @property
    def output(self) -> str:
        """All that it wrote."""
        return "".join(one.read_text(errors="replace") for one in self._outputs if one.exists())

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def told(self) -> str:
        """Its exit status, if it has ended, and its last lines."""
        state = f"ended with status {self.process.returncode}" if self.ended else "runs"
        lines = self.output.splitlines()[-LINES:]
        if not lines:
            return f"{self.name} {state} and wrote nothing"
        return "\n".join([f"{self.name} {state}; its last lines:", *(f"  {line}" for line in lines)])
