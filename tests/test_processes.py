"""A server that does not come up is shown with its own words, and nobody waits for one that has ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import LINES, Program
from support.waiting import until


def started(folder: Path, *command: str) -> Program:
    out = folder / "out"
    with out.open("wb") as file:
        process = subprocess.Popen([sys.executable, *command], stdout=file, stderr=subprocess.STDOUT)
    return Program("the server", process, out)


def never() -> bool:
    raise ConnectionRefusedError("nobody listens")


def test_a_server_with_a_wrong_flag_fails_at_once_with_its_own_error(tmp_path: Path) -> None:
    server = started(tmp_path, "-m", "http.server", "--no-such-flag")
    began = time.monotonic()
    with pytest.raises(AssertionError, match="ended with status 2") as caught:
        until(never, "the page", server, seconds=100.0)
    assert time.monotonic() - began < 60.0
    assert "unrecognized arguments: --no-such-flag" in str(caught.value)
    assert "nobody listens" in str(caught.value)


def test_one_that_runs_and_does_not_answer_is_shown_at_the_deadline(tmp_path: Path) -> None:
    code = f"import time\nfor n in range({LINES + 5}): print('line', n, flush=True)\ntime.sleep(100)"
    server = started(tmp_path, "-c", code)
    try:
        until(lambda: f"line {LINES + 4}" in server.output, "its lines", server)
        with pytest.raises(AssertionError, match="the page: not within 0 s") as caught:
            until(never, "the page", server, seconds=0.3)
    finally:
        server.process.kill()
        server.process.wait()
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert "the server runs; its last lines:" in lines
    assert [line for line in lines if line.startswith("line ")] == [f"line {n}" for n in range(5, LINES + 5)]


def test_what_came_before_its_end_counts(tmp_path: Path) -> None:
    server = started(tmp_path, "-c", "print('done')")
    server.process.wait()
    assert until(lambda: server.output, "its line", server) == "done\n"


def test_one_that_wrote_nothing_is_named(tmp_path: Path) -> None:
    server = started(tmp_path, "-c", "raise SystemExit(7)")
    with pytest.raises(AssertionError, match="the server ended with status 7 and wrote nothing"):
        until(never, "the page", server)
