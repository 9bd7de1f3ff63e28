"""A machine played in real time: counters that move, faults on demand, behind the sensors' own interfaces.

A sysfs tree (RAPL package and DRAM, coretemp) and a libnvidia-ml.so.1 with one GPU. The processor draws what fits
the real load of the host, so that joules are where work is.

    with Machine(folder) as machine:
        subprocess.Popen(["ecolyzer-instrument", *machine.options(), ...], env=os.environ | machine.environment())
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType

import psutil
from sensors.nvml_library import FakeNvml, build

PERIOD_SECONDS = 0.08
WRAP_UJ = 262_143_328_850
#: Watts at rest, and what full load adds.
CPU_WATTS = 22.0, 90.0
DRAM_WATTS = 3.0, 6.0
GPU_WATTS = 70.0, 600.0
CPU_LIMIT_CELSIUS = 100
GPU_LIMIT_CELSIUS = 87
#: nvmlClocksEventReasonSwThermalSlowdown (nvml.h).
SW_THERMAL = 0x20
_PACKAGE = "class/powercap/intel-rapl:0"
_DRAM = "class/powercap/intel-rapl:0:0"
_HWMON = "class/hwmon/hwmon0"


class _Number:
    """A file whose number changes in place: never missing and never half there, whoever reads it meanwhile."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)

    def write(self, value: int) -> None:
        os.pwrite(self._fd, b"%012d\n" % value, 0)

    def close(self) -> None:
        os.close(self._fd)


class Machine:
    """Everything that a meter reads of a server with one GPU, in ``folder``. Moves between enter and exit.

    Attributes:
        gpu_load: how busy the GPU is, 0 to 1; may be changed at any time.
    """

    def __init__(self, folder: Path, gpu_load: float = 0.02) -> None:
        self.folder = folder
        self.gpu_load = gpu_load
        self._sysfs = folder / "sys"
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine", daemon=True)
        self._lost = self._throttled = False
        self._package_uj, self._dram_uj, self._gpu_mj = 0.0, 0.0, 0.0
        self._celsius = 42.0
        #: NVML's ring of utilisation samples, which comes every 1/6 s on real boards.
        self._samples: deque[str] = deque(maxlen=12)
        self._sampled = 0.0

    def __enter__(self) -> Machine:
        self._build()
        self._step(0.0)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for number in (self._package, self._dram, self._coretemp):
            number.close()

    def environment(self) -> dict[str, str]:
        """What the process that reads the sensors has to have, from its very start."""
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("LD_LIBRARY_PATH"))))
        return {"FAKE_NVML": str(self._nvml.path), "LD_LIBRARY_PATH": path}

    def options(self) -> list[str]:
        """Of ``ecolyzer-instrument`` and ``ecolyzer agent``. Named sensors: real ones of this host are left out."""
        return ["--sysfs", str(self._sysfs), "--sensors", "rapl,nvml"]

    def throttle(self, on: bool) -> None:
        """The GPU gets hot, and the driver lowers its clocks."""
        with self._lock:
            self._throttled = on

    def lose_gpu(self) -> None:
        """The driver is gone."""
        with self._lock:
            self._lost = True
            self._nvml.unload()

    def find_gpu(self) -> None:
        """The driver is back, its counter at 0. The meter looks for it after 1, 2, 4 … 30 s."""
        with self._lock:
            self._lost = False
            self._gpu_mj = 0.0
        self._step(0.0)

    def _build(self) -> None:
        build(self.folder)
        still = {
            f"{_PACKAGE}/name": "package-0",
            f"{_PACKAGE}/max_energy_range_uj": WRAP_UJ,
            f"{_PACKAGE}/constraint_0_name": "long_term",
            f"{_PACKAGE}/constraint_0_power_limit_uw": 150_000_000,
            f"{_DRAM}/name": "dram",
            f"{_DRAM}/max_energy_range_uj": WRAP_UJ,
            f"{_HWMON}/name": "coretemp",
            f"{_HWMON}/temp1_label": "Package id 0",
            f"{_HWMON}/temp1_crit": CPU_LIMIT_CELSIUS * 1000,
        }
        for name, content in still.items():
            path = self._sysfs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        self._package = _Number(self._sysfs / _PACKAGE / "energy_uj")
        self._dram = _Number(self._sysfs / _DRAM / "energy_uj")
        self._coretemp = _Number(self._sysfs / _HWMON / "temp1_input")
        self._nvml = FakeNvml(self.folder / "nvml")

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(PERIOD_SECONDS):
            now = time.monotonic()
            self._step(now - last)
            last = now

    def _step(self, seconds: float) -> None:
        """Move everything by what ``seconds`` bring."""
        load = psutil.cpu_percent(None) / 100.0
        with self._lock:
            self._package_uj += (CPU_WATTS[0] + CPU_WATTS[1] * load) * seconds * 1e6
            self._dram_uj += (DRAM_WATTS[0] + DRAM_WATTS[1] * load) * seconds * 1e6
            # Warms up and cools down within some 10 s.
            self._celsius += (42.0 + 40.0 * load - self._celsius) * min(1.0, seconds / 10.0)
            self._package.write(round(self._package_uj) % WRAP_UJ)
            self._dram.write(round(self._dram_uj) % WRAP_UJ)
            self._coretemp.write(round(self._celsius * 1000))
            if not self._lost:
                self._tell_gpu(seconds)

    def _tell_gpu(self, seconds: float) -> None:
        watts = GPU_WATTS[0] + GPU_WATTS[1] * self.gpu_load
        self._gpu_mj += watts * seconds * 1e3
        now = time.time()
        if now - self._sampled >= 1 / 6:
            self._sampled = now
            self._samples.append(f"{round(now * 1e6)}:{round(self.gpu_load * 100)}")
        warm = 45.0 + 35.0 * self.gpu_load
        self._nvml.set(
            count=1,
            gpu0_name="NVIDIA H100 80GB HBM3",
            gpu0_uuid="GPU-0f0e0d0c-1111-2222-3333-444455556666",
            gpu0_architecture=9,
            gpu0_limit=700_000,
            gpu0_highest=700_000,
            gpu0_slowdown=GPU_LIMIT_CELSIUS,
            gpu0_temperature=round(GPU_LIMIT_CELSIUS - 1 if self._throttled else warm),
            gpu0_energy=round(self._gpu_mj),
            gpu0_power=round(watts * 1e3),
            gpu0_reasons=SW_THERMAL if self._throttled else 0,
            gpu0_samples=",".join(self._samples),
            gpu0_processes="nobody",
        )
