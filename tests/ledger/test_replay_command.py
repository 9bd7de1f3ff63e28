"""``ecolyzer replay`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [str(Path(sys.executable).with_name("ecolyzer")), "replay"]
DOCUMENT = {
    "version": 1,
    "sensors": [{"id": "cpu0", "component": "cpu", "idle_watts": 0, "samples": [[0, 0], [1_000_000_000, 8]]}],
    "requests": [{"id": "r", "pid": 1, "start_ns": 0, "end_ns": 1_000_000_000, "cpu_ns": 5}],
}


def ecolyzer(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, text=True, timeout=240)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "replay.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


def test_a_file_gives_its_result_as_json(file: Path) -> None:
    done = ecolyzer(str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "version": 1,
        "requests": {
            "r": {
                "active_joules": 8.0,
                "idle_joules": 0.0,
                "uncertainty_joules": pytest.approx(0.008),
                "method": "measured",
                "sensors": {"cpu0": {"active": 8.0, "idle": 0.0}},
            }
        },
        "sensors": {
            "cpu0": {"measured_joules": 8.0, "requests": 8.0, "process": 0, "host": 0, "idle": 0, "pending": 0}
        },
    }


def test_a_dash_reads_standard_input(file: Path) -> None:
    assert ecolyzer("-", given=file.read_text()).stdout == ecolyzer(str(file)).stdout != ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ('{"version": 3}', "version: must be 1"),
        ("[" * 100_000, "is not JSON"),
        ("", "is not JSON"),
    ],
    ids=["half", "version", "deep", "empty"],
)
def test_what_cannot_be_used_is_told_in_one_line(text: str, problem: str) -> None:
    done = ecolyzer("-", given=text)
    assert (done.returncode, done.stdout) == (1, "")
    assert problem in done.stderr
    assert done.stderr.startswith("ecolyzer: -: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["absent", "binary"])
def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    done = ecolyzer(str(path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"ecolyzer: {path}: ")


def test_no_file_is_a_wrong_use() -> None:
    done = ecolyzer()
    assert done.returncode == 2
    assert "usage:" in done.stderr
