"""``ecolyzer report`` as it is typed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ecolyzer_otel
from ecolyzer_otel.cli.report import add_parser, period, run
from ecolyzer_otel.common.errors import ConfigError

from .made import DAY, OCTOBER


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ecolyzer")
    add_parser(parser.add_subparsers(dest="command"))
    return parser.parse_args(["report", *arguments])


def test_a_report_from_a_journal(two_days: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = parsed("--journal", str(two_days), "--from", "2026-10-01", "--to", "2026-10-03", "--out", str(out))
    assert run(options) == 0
    assert capsys.readouterr().out == f"ecolyzer: {out}/report.html and 6 files beside it\n"
    assert {path.name for path in out.iterdir()} == {
        "report.html", "report.md", "figures.csv", "figures.json", "timeline.svg", "devices.svg", "models.svg",
    }  # fmt: skip


def test_from_a_meter_to_a_report(tmp_path: Path, start: Callable[..., Any]) -> None:
    """A real meter on a recording of 50 W, its journal, and the report of it."""
    start(journal=str(tmp_path / "j"), market_factor=10.0, pue=1.5)
    for _ in range(3):
        with ecolyzer_otel.request("toy", operation="predict"):
            time.sleep(0.05)
    ecolyzer_otel.flush()
    ecolyzer_otel.stop()
    out = tmp_path / "out"
    assert run(parsed("--journal", str(tmp_path / "j"), "--since", "1h", "--out", str(out))) == 0
    told = json.loads((out / "figures.json").read_text())
    total = told["figures"]["total"][0]
    assert total["requests"]["value"] == 3
    # How much depends on other meters of this host: they divide idle joules among them.
    assert 0.0 < total["energy"]["value"] < told["whole_devices"]["energy"]["value"]
    assert total["co2e_market"]["value"] == pytest.approx(total["energy"]["value"] / 3.6e6 * 1.5 * 10.0)
    assert {factor["kind"] for factor in told["factors"]} == {"carbon", "market", "pue", "water", "wue"}
    assert [one["difference"] for one in told["quality"]["agreements"]] == pytest.approx([0.0, 0.0, 0.0], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--journal", "/nowhere"],
            "--journal: /nowhere cannot be read (No such file or directory); give the folder",
        ),
        (
            ["--prometheus", "localhost"],
            "--prometheus: not an http(s) address; give one such as http://localhost:9090",
        ),
        (
            ["--prometheus", "http://x", "--selector", "up} or {a"],
            "--selector: not label matchers; give some such as",
        ),
        (["--journal", "/", "--selector", 'a="b"'], "--selector: a journal has no labels of scrapes"),
        (["--journal", "/", "--since", "1 month"], "--since: '1 month' cannot be used; give an age such as 12h"),
        (
            ["--journal", "/", "--from", "yesterday"],
            "--from: 'yesterday' is not a date; give one such as 2026-10-01",
        ),
        (["--journal", "/", "--to", "2026-10-01"], "--to: has no --from; give both, or --since alone"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parsed(*arguments)) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"ecolyzer: {line}")
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_one_source_and_one_only(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["--journal", "a", "--prometheus", "b"],
        ["--journal", "a", "--since", "1d", "--from", "x"],
    ):
        with pytest.raises(SystemExit):
            parsed(*arguments)
    assert "required" in capsys.readouterr().err


def test_periods() -> None:
    now = OCTOBER + 40 * DAY
    assert period(None, None, None, now) == (now - 30 * DAY, now)
    assert period("90m", None, None, now) == (now - 5400, now)
    assert period("1.5w", None, None, now) == (now - 10.5 * DAY, now)
    assert period(None, "2026-10-01", "2026-11-01", now) == (OCTOBER, OCTOBER + 31 * DAY)
    assert period(None, "2026-10-01T02:00+02:00", None, now) == (OCTOBER, now)
    assert period(None, "2026-10-01T00:00:00Z", "2027-01-01", now) == (OCTOBER, now), "the future is not yet told"
    for begin, end in (("2026-10-02", "2026-10-01"), ("2026-12-01", None), ("2026-10-01", "2026-10-01")):
        with pytest.raises(ConfigError, match=r"--from: .* is not before .*; give an earlier one"):
            period(None, begin, end, now)
    for since in ("0d", "5", "d", "-3d", "99999w"):
        with pytest.raises(ConfigError, match="--since"):
            period(since, None, None, now)


BARE = """
import argparse, sys
from importlib.machinery import PathFinder

real = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name in ("jinja2", "matplotlib") else real(name, *rest)
from ecolyzer_otel.cli.report import add_parser, run

parser = argparse.ArgumentParser()
add_parser(parser.add_subparsers())
sys.exit(run(parser.parse_args(["report", "--journal", sys.argv[1]])))
"""


def test_without_its_libraries_it_says_what_to_install(two_days: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(two_days)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == (
        "ecolyzer: report: jinja2 and matplotlib not installed; pip install 'ecolyzer-otel[report]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_the_command_line_alone_imports_no_library_for_reports() -> None:
    code = (
        "import argparse, sys\n"
        "from ecolyzer_otel.cli.report import add_parser\n"
        "add_parser(argparse.ArgumentParser().add_subparsers())\n"
        "print([name for name in ('matplotlib', 'jinja2', 'numpy', 'urllib.request') if name in sys.modules])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
