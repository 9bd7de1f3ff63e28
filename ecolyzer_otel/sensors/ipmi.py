"""Power of a whole server, reported by its management controller: ``ipmitool dcmi power reading``.

A reading takes 0.1 to 1 s, starts a process and needs root. It has a resolution of 1 W and 1 s, and includes power
supply, fans and disks. Therefore IPMI is read only if it is named (``--sensors ipmi``), in a separate thread.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from ecolyzer_otel.sensors.base import Absence, Reading, Sensor, SensorError, SensorInfo
from ecolyzer_otel.sensors.integrate import PowerIntegral
from ecolyzer_otel.sensors.power import power_info

__all__ = ["IpmiSensor", "open_ipmi"]

_COMMAND: Final = ("dcmi", "power", "reading")
_READING: Final = re.compile(r"Instantaneous power reading:\s*(\d+)\s*Watts")
_TIMEOUT: Final = 5.0
_PERIOD: Final = 1.0
#: The thread ends after this long without a read.
_UNUSED_SECONDS: Final = 15.0
_UNCERTAINTY: Final = 0.2
_REMEDY: Final = "run as root with /dev/ipmi0 (module ipmi_devintf), and try: ipmitool dcmi power reading"


class IpmiSensor(Sensor):
    """A server's power, integrated. A thread queries it once a second; reads use the latest answer."""

    def __init__(self, program: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._program = program
        self._clock = clock
        self._integral = PowerIntegral()
        self._info = power_info(
            "server", "cpu", "IPMI power of the whole server (with power supply and fans)", _PERIOD, _UNCERTAINTY
        )
        self._answer: float | SensorError | None = None
        self._wanted_ns = 0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def read(self) -> Reading:
        """Returns the joules since the first read. Only the first read waits for an answer.

        Raises:
            SensorError: the latest query failed: ``permission``, ``absent`` or ``io``.
        """
        self._wanted_ns = time.monotonic_ns()
        if self._answer is None:
            self._answer = self._query()
        if self._thread is None or not self._thread.is_alive():
            self._closed.clear()
            self._thread = threading.Thread(target=self._poll, name="ecolyzer-ipmi", daemon=True)
            self._thread.start()
        answer = self._answer
        if isinstance(answer, SensorError):
            raise answer
        t_ns = self._clock()
        return Reading(t_ns, self._integral.add(t_ns, answer))

    def faults(self) -> Mapping[str, int]:
        """Returns ``gap``: the number of reads that were too far apart to be integrated."""
        return {"gap": self._integral.gaps} if self._integral.gaps else {}

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _poll(self) -> None:
        while not self._closed.wait(_PERIOD) and time.monotonic_ns() - self._wanted_ns < _UNUSED_SECONDS * 1e9:
            self._answer = self._query()

    def _query(self) -> float | SensorError:
        try:
            done = subprocess.run(
                [self._program, *_COMMAND], capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return SensorError("io", f"ipmitool: {' '.join(str(error).split())}", _REMEDY)
        found = _READING.search(done.stdout)
        if done.returncode == 0 and found:
            return float(found[1])
        output = " ".join((done.stderr or done.stdout).split())[:200] or f"exit status {done.returncode}"
        denied = "ermission" in output or "/dev/ipmi" in output
        return SensorError("permission" if denied else "io", f"ipmitool: {output}", _REMEDY)


def open_ipmi(clock: Callable[[], int] = time.monotonic_ns) -> tuple[list[Sensor], list[Absence]]:
    """Returns the server's power meter, if ``ipmitool`` is in PATH and can read it."""
    program = shutil.which("ipmitool")
    if program is None:
        return [], [Absence("IPMI", "absent", "ipmitool is not in PATH", "install ipmitool", expected=True)]
    sensor = IpmiSensor(program, clock)
    try:
        sensor.read()
    except SensorError as error:
        sensor.close()
        return [], [Absence.of("IPMI", error)]
    return [sensor], []
