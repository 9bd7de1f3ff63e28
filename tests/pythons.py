"""Runs the core's tests on every CPython at hand: ``make test-pythons``.

The core runs without frameworks of models: worker, wire, ledger, meter, launcher. Each interpreter gets an
environment of its own beside the others'. Interpreters are found on PATH (``python3.N``) and in pyenv;
``PYTHONS="3.10 3.13"`` chooses versions, ``PYTHONS=/opt/python/bin/python3`` names others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 10)
#: Later ones than these are tried as soon as they are there.
MINORS = range(10, 20)
CORE = (
    "tests/boot",
    "tests/common",
    "tests/export",
    "tests/launcher",
    "tests/ledger",
    "tests/meter",
    "tests/wire",
    "tests/worker",
)


def version_of(python: str) -> tuple[int, int] | None:
    """The version of a CPython; None for what does not run (a shim of pyenv) or is another Python."""
    code = "import platform, sys; print(platform.python_implementation(), *sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, cwd="/")
    except OSError:
        return None
    name, *numbers = done.stdout.split() or [""]
    return (int(numbers[0]), int(numbers[1])) if done.returncode == 0 and name == "CPython" else None


def candidates() -> list[str]:
    """Interpreters that may be there, best first."""
    found = [shutil.which(f"python3.{minor}") for minor in MINORS]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [one for one in found if one] + [str(one) for one in sorted(pyenv.glob("versions/*/bin/python3"))]


def interpreters() -> dict[tuple[int, int], str]:
    """One interpreter for each supported version, or those that ``PYTHONS`` names."""
    wanted = os.environ.get("PYTHONS", "").split()
    paths = [one for one in wanted if "/" in one]
    found: dict[tuple[int, int], str] = {}
    for python in paths or candidates():
        version = version_of(python)
        if version is not None and version >= OLDEST and (paths or not wanted or f"3.{version[1]}" in wanted):
            found.setdefault(version, python)
    return dict(sorted(found.items()))


def environment(python: str, version: tuple[int, int]) -> Path:
    """An environment with the core and what its tests need."""
    folder = ROOT / ".venv" / "pythons" / f"{version[0]}.{version[1]}"
    stamp = folder / ".core-test"
    if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "pyproject.toml").stat().st_mtime:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        subprocess.run([*pip, "--editable", ".", "--group", "core-test"], check=True, cwd=ROOT)
        stamp.touch()
    return folder / "bin" / "python"


def main(arguments: list[str]) -> int:
    """Run them; the status is that of the first that failed."""
    found = interpreters()
    if not found:
        print(f"no CPython >= {OLDEST[0]}.{OLDEST[1]} was found; name some: make test-pythons PYTHONS=3.12")
        return 1
    paths = [path for path in CORE if (ROOT / path).exists()]
    results: dict[str, tuple[int, float]] = {}
    for version, python in found.items():
        name = f"{version[0]}.{version[1]}"
        print(f"== CPython {name} ({python})", flush=True)
        own = environment(python, version)
        began = time.monotonic()
        done = subprocess.run(
            [own, "-m", "pytest", "-q", "-n", "4", "--dist", "loadfile", *paths, *arguments], cwd=ROOT, check=False
        )
        results[name] = done.returncode, time.monotonic() - began
    for name, (status, seconds) in results.items():
        print(f"CPython {name}: {'passed' if status == 0 else 'FAILED'} in {seconds:.0f} s")
    return next((status for status, _ in results.values() if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
