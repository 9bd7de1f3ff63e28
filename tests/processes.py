"""Programs that a test started: what one wrote last, and waiting that stops as soon as one has ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def wait_for(
    done: Callable[[], object], what: str, *programs: Program, seconds: float = 60.0, grace: float = 0.0
) -> Any:
    """What ``done`` gives once it is true; an error of connection counts as not yet.

    Fails at the deadline, with what every program told last, and before it where one of them has ended, so many
    seconds of ``grace`` ago: what it started may go on a little longer.
    """
    deadline = time.monotonic() + seconds
    end: float | None = None
    while True:
        ended = [one for one in programs if one.ended]
        if ended and end is None:
            end = time.monotonic() + grace
        error: OSError | None = None
        try:
            if found := done():
                return found
        except OSError as one:
            error = one
        late = time.monotonic() > deadline
        if late or (end is not None and time.monotonic() >= end):
            why = f"not within {seconds:.0f} s" if late else "what has to run for it has ended"
            last = [f"the last error: {error!r}"] if error else []
            raise AssertionError("\n".join([f"{what}: {why}", *last, *(one.told() for one in ended or programs)]))
        time.sleep(0.05)
