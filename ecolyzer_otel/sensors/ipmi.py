"""Power of a whole server as its management controller tells it: ``ipmitool dcmi power reading``.

It takes a tenth of a second to a second, starts a process, needs root, has 1 W and 1 s resolution, and includes
power supply, fans and disks; so it is read only where it is asked for by name (``--sensors ipmi``), in a thread of
its own.
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
from ecolyzer_otel.sensors.power import LONGEST_GAP_SECONDS, power_info

__all__ = ["IpmiSensor", "open_ipmi"]

_COMMAND: Final = ("dcmi", "power", "reading")
_READING: Final = re.compile(r"Instantaneous power reading:\s*(\d+)\s*Watts")
_TIMEOUT: Final = 5.0
_PERIOD: Final = 1.0
#: Nobody has read for this long: the thread ends.
_DESERTED: Final = 15.0
_UNCERTAINTY: Final = 0.2
_REMEDY: Final = "run as root with /dev/ipmi0 (module ipmi_devintf), and try: ipmitool dcmi power reading"


class IpmiSensor(Sensor):
    """A server's power, integrated. Reads give the last answer of a thread that asks once a second."""

    def __init__(self, program: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._program = program
        self._clock = clock
        self._integral = PowerIntegral(LONGEST_GAP_SECONDS)
        self._info = power_info(
            "server", "cpu", "IPMI power of the whole server (with power supply and fans)", _PERIOD, _UNCERTAINTY
        )
        self._answer: float | SensorError | None = None
        self._wanted_ns = 0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def info(self) -> SensorInfo:
        """What does not change."""
        return self._info

    def read(self) -> Reading:
        """Joules since the first read. Only the first one waits for an answer.

        Raises:
            SensorError: ``permission``, ``absent`` or ``io``, as the last answer was.
        """
        self._wanted_ns = time.monotonic_ns()
        if self._answer is None:
            self._answer = self._ask()
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
        """``gap``: reads too far apart for the joules between them to be known."""
        return {"gap": self._integral.gaps} if self._integral.gaps else {}

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _poll(self) -> None:
        while not self._closed.wait(_PERIOD) and time.monotonic_ns() - self._wanted_ns < _DESERTED * 1e9:
            self._answer = self._ask()

    def _ask(self) -> float | SensorError:
        try:
            done = subprocess.run(
                [self._program, *_COMMAND], capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return SensorError("io", f"ipmitool: {' '.join(str(error).split())}", _REMEDY)
        found = _READING.search(done.stdout)
        if done.returncode == 0 and found:
            return float(found[1])
        said = " ".join((done.stderr or done.stdout).split())[:200] or f"exit status {done.returncode}"
        denied = "ermission" in said or "/dev/ipmi" in said
        return SensorError("permission" if denied else "io", f"ipmitool: {said}", _REMEDY)


def open_ipmi(clock: Callable[[], int] = time.monotonic_ns) -> tuple[list[Sensor], list[Absence]]:
    """The server's power meter, if ``ipmitool`` is in PATH and may be used."""
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
