"""What the tests here share: programs that are not of Python, files of the repository, ports, pages, waiting."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
#: Where make unpacks Debian's packages.
UNPACKED = ROOT / ".venv" / "servers" / "usr" / "bin"
#: What Debian calls them.
NAMES = {"alertmanager": ("alertmanager", "prometheus-alertmanager")}


def tool(name: str) -> str:
    """The path of a program.

    Without it the test is skipped, as on a machine of somebody who works on something else; with
    ECOLYZER_NEEDS_SERVERS=1 it fails, so that no check is left out unseen where all of them are to run.
    """
    for one in NAMES.get(name, (name,)):
        if found := shutil.which(one) or shutil.which(one, path=str(UNPACKED)):
            return found
    why = f"{name} is neither on PATH nor in {UNPACKED.relative_to(ROOT)}"
    if os.environ.get("ECOLYZER_NEEDS_SERVERS") == "1":
        pytest.fail(f"{why}, and ECOLYZER_NEEDS_SERVERS=1")
    pytest.skip(why)


def read_yaml(path: str | Path) -> Any:
    """A file of the repository that holds one YAML document."""
    return yaml.safe_load((ROOT / path).read_text())


def read_documents(path: str | Path) -> list[dict[str, Any]]:
    """All of a file's YAML documents."""
    return [one for one in yaml.safe_load_all((ROOT / path).read_text()) if one is not None]


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_for(done: Callable[[], object], seconds: float, what: str, *programs: processes.Program) -> Any:
    """What ``done`` gives once it is true; an error of connection counts as not yet."""
    return processes.wait_for(done, what, *programs, seconds=seconds)


def page(url: str) -> str:
    """The text of a page."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
