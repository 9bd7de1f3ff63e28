"""What the tests here share: programs that are not of Python, files of the repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

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
