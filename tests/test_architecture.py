"""The import rules between the folders (contracts in pyproject.toml) hold, and the linter of them can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINTER = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code that can be broken."""
    for folder in ("ecolyzer_otel", "integrations"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> tuple[int, str]:
    done = subprocess.run(
        [LINTER, "--no-cache"], cwd=tree, env={"PYTHONPATH": f"{tree}:{tree / 'integrations'}"},
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_arrows_hold(tree: Path) -> None:
    status, output = lint(tree)
    assert status == 0, output


@pytest.mark.parametrize(
    ("module", "wrong", "contract"),
    [
        ("ecolyzer_otel/worker/call.py", "from ecolyzer_otel.meter import Meter", "worker imports common and wire"),
        ("ecolyzer_otel/wire/server.py", "from ecolyzer_otel.meter import Meter", "wire imports common only"),
        ("ecolyzer_otel/ledger/ledger.py", "from ecolyzer_otel.sensors import Sensor", "ledger imports"),
        ("ecolyzer_otel/meter/meter.py", "from ecolyzer_otel.boot.assembly import Setup", "meter knows"),
        (
            "integrations/ecolyzer_torch/facts.py",
            "from ecolyzer_otel.worker.call import Call",
            "integrations import",
        ),
        (
            "ecolyzer_otel/report/figures.py",
            "from ecolyzer_otel.export.otlp import configured",
            "report knows names",
        ),
        ("ecolyzer_otel/instrumentor.py", "from ecolyzer_otel.meter import Meter", "the public face imports"),
        (
            "ecolyzer_otel/boot/assembly.py",
            "from ecolyzer_sklearn import SklearnInstrumentor",
            "the core imports no",
        ),
        ("ecolyzer_otel/worker/spec.py", "from ecolyzer_otel.worker.call import Call", "no circles"),
    ],
)
def test_a_wrong_import_fails(tree: Path, module: str, wrong: str, contract: str) -> None:
    """Also where it is for annotations alone."""
    path = tree / module
    text = path.read_text().replace("from __future__ import annotations\n", (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        f"if TYPE_CHECKING:\n    {wrong}\n"
    ), 1)  # fmt: skip
    path.write_text(text)
    status, output = lint(tree)
    broken = [line for line in output.splitlines() if line.endswith("BROKEN")]
    assert status == 1, output
    assert [line for line in broken if line.startswith(contract)], output


def test_the_root_of_the_package_holds_the_public_face_only() -> None:
    assert sorted(path.name for path in (ROOT / "ecolyzer_otel").glob("*.py")) == [
        "__init__.py", "__main__.py", "instrumentor.py", "version.py",
    ]  # fmt: skip
