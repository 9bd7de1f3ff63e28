"""Real folders in the shape of sysfs, procfs and the control group tree, which the tests then change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[[dict[str, object]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Write files by relative path under a named root in tmp_path; give the root."""

    def write(root: str, files: dict[str, object]) -> Path:
        base = tmp_path / root
        base.mkdir(exist_ok=True)
        for name, content in files.items():
            path = base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return base

    return write


@pytest.fixture
def zone() -> Callable[..., dict[str, object]]:
    """The files of one powercap zone."""

    def files(folder: str, name: str, energy_uj: int, wrap_uj: int = 262_143_328_850) -> dict[str, object]:
        base = f"class/powercap/{folder}"
        return {
            f"{base}/name": name,
            f"{base}/energy_uj": energy_uj,
            f"{base}/max_energy_range_uj": wrap_uj,
        }

    return files


class Clock:
    """Monotonic nanoseconds that move when the test says so."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()
