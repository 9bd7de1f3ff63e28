"""Builds the library of fake_nvml.c and writes the file that it answers from."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


def build(folder: Path, *flags: str) -> Path:
    """Compile libnvidia-ml.so.1 into ``folder``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        why = "no C compiler on PATH for the fake libnvidia-ml.so.1; make test brings one where there is apt-get"
        if os.environ.get("ECOLYZER_NEEDS_SERVERS") == "1":
            pytest.fail(f"{why}, and ECOLYZER_NEEDS_SERVERS=1")
        pytest.skip(why)
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", *flags]
    subprocess.run([*command, "-o", str(library), str(SOURCE)], check=True)
    return library


class FakeNvml:
    """What the driver says: keys of fake_nvml.c. ``set(gpu0_power=70_000)``; None takes a key away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[str, str] = {}
        self._write()

    def set(self, **values: object) -> None:
        for key, value in values.items():
            gpu, _, rest = key.partition("_")
            name = f"{gpu}.{rest.replace('_', '.')}" if rest else gpu
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = str(value)
        self._write()

    def unload(self) -> None:
        """The driver is gone until the next :meth:`set`."""
        self.path.unlink()

    def _write(self) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{key} {value}\n" for key, value in self._values.items()))
        fresh.replace(self.path)
