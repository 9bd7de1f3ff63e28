"""Real folders in the shape of sysfs, procfs and the control group tree, which the tests then change."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
from nvml_library import FakeNvml, build

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


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libnvidia-ml.so.1 that answers from a file."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], FakeNvml]:
    """Put a library behind the NVML binding, as its own loading would, and give what it answers from."""
    pynvml = pytest.importorskip("pynvml")

    def use(path: Path) -> FakeNvml:
        monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(path)))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        monkeypatch.setenv("FAKE_NVML", str(tmp_path / "nvml"))
        return FakeNvml(tmp_path / "nvml")

    return use


@pytest.fixture
def driver(load: Callable[[Path], FakeNvml], library: Path) -> FakeNvml:
    """One H100, set to 600 of its 700 W."""
    driver = load(library)
    driver.set(
        count=1,
        gpu0_name="NVIDIA H100 80GB HBM3",
        gpu0_uuid="GPU-11111111-2222-3333-4444-555555555555",
        gpu0_architecture=9,
        gpu0_limit=600_000,
        gpu0_highest=700_000,
        gpu0_slowdown=87,
        gpu0_temperature=41,
        gpu0_energy=5_000,
        gpu0_power=100_000,
        gpu0_reasons=0,
    )
    return driver
