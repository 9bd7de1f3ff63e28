"""Recorded counters, played in real time through the sensor interface.

The file has the ``sensors`` part of a replay file (docs/replay.md)::

    {"loop": false,
     "sensors": [{"id": "gpu0", "component": "gpu", "method": "measured", "idle_watts": 60.0, "wrap_joules": null,
                  "samples": [[0, 0.0], [100000000, 9.5]], "celsius": [[0, 41.0]]}]}

A GPU may also have its ``uuid``, ``partitions`` (MIG instances: fraction of the device by UUID), ``busy``
(cumulative seconds during which anything ran on it, ``[[t_ns, seconds], ...]``) and ``processes`` (the same by
PID).

All sensors of a file share its clock: its earliest sample is played when the file is loaded. Unknown keys are
ignored, so that a complete replay file can be played.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NoReturn, get_args

from ecolyzer_otel.common.curve import Curve
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.sensors.base import Component, Method, Reading, Sensor, SensorError, SensorInfo, Usage

__all__ = ["RecordedCounter", "load_recording"]

_Samples = Sequence[tuple[int, float]]
_SHAPE = 'give JSON as {"sensors": [{"id", "component", "method", "samples": [[t_ns, joules], ...]}]}'


@dataclass(frozen=True, slots=True)
class _Entry:
    """A sensor of a recording.

    Attributes:
        info: its properties.
        samples: (t_ns, joules) in order, at least one; the counter as it was, wraps included.
        celsius: (t_ns, degrees Celsius) in order.
        busy: (t_ns, cumulative busy seconds) in order.
        processes: the same by PID.
    """

    info: SensorInfo
    samples: _Samples
    celsius: _Samples
    busy: _Samples
    processes: Mapping[int, _Samples]


@dataclass(frozen=True, slots=True)
class _Playback:
    """The time of a recording, which all of its sensors share.

    Attributes:
        clock: monotonic nanoseconds.
        started_ns: the start on ``clock``.
        origin_ns: the recorded time that is played at the start.
        loop_ns: length of one round, None to play once.
    """

    clock: Callable[[], int]
    started_ns: int
    origin_ns: int
    loop_ns: int | None

    def position(self, now_ns: int) -> tuple[int, int]:
        """Returns the number of complete rounds, and the recorded time that is played at ``now_ns``."""
        elapsed = now_ns - self.started_ns
        rounds = elapsed // self.loop_ns if self.loop_ns else 0
        return rounds, self.origin_ns + elapsed - rounds * (self.loop_ns or 0)


class RecordedCounter(Sensor):
    """One recorded counter. It moves at its recorded times, as the real one did.

    In a loop the counter continues: each round adds the growth of the recording, with wraps unwrapped, and resets
    counted as no growth.
    """

    def __init__(self, entry: _Entry, playback: _Playback) -> None:
        self._info = entry.info
        self._playback = playback
        self._times = [t_ns for t_ns, _ in entry.samples]
        self._joules = [joules for _, joules in entry.samples]
        self._growth = 0.0
        if playback.loop_ns:
            self._joules = _unwrapped(self._joules, entry.info.wrap_joules)
            self._growth = self._joules[-1] - self._joules[0]
        self._celsius_times = [t_ns for t_ns, _ in entry.celsius]
        self._celsius = [degrees for _, degrees in entry.celsius]
        self._busy = _curve(entry.busy)
        self._processes = {pid: _curve(samples) for pid, samples in entry.processes.items()}
        self._gave_last = False

    @property
    def info(self) -> SensorInfo:
        """The properties of the sensor."""
        return self._info

    def read(self) -> Reading:
        """Returns the last sample at or before now; before the first one, the counter has not moved yet.

        The last sample is returned at least once, however late the read is: its joules were measured.

        Raises:
            SensorError: ``ended`` after that, unless the recording loops.
        """
        now = self._playback.clock()
        rounds, t_ns = self._playback.position(now)
        looping = self._playback.loop_ns is not None
        if t_ns >= self._times[-1] and not looping:
            if t_ns > self._times[-1] and self._gave_last:
                problem = f"the recording of {self._info.id} has ended"
                raise SensorError("ended", problem, 'set "loop": true in the file')
            self._gave_last = True
        joules = self._joules[max(0, bisect_right(self._times, t_ns) - 1)] + rounds * self._growth
        if looping and self._info.wrap_joules:
            joules %= self._info.wrap_joules
        return Reading(now, joules)

    def celsius(self) -> float | None:
        """Returns the last recorded temperature at or before now, None if there is none."""
        _, t_ns = self._playback.position(self._playback.clock())
        index = bisect_right(self._celsius_times, t_ns) - 1
        return self._celsius[index] if index >= 0 else None

    def usage(self) -> Usage | None:
        """Returns the recorded use of the device, interpolated linearly between samples."""
        if not self._busy and not self._processes:
            return None
        rounds, t_ns = self._playback.position(self._playback.clock())
        return Usage(
            _grown(self._busy, t_ns, rounds) if self._busy else None,
            {pid: _grown(curve, t_ns, rounds) for pid, curve in self._processes.items()},
        )


def _curve(samples: _Samples) -> Curve:
    curve = Curve()
    for t_ns, seconds in samples:
        curve.add(t_ns, seconds)
    return curve


def _grown(curve: Curve, t_ns: int, rounds: int) -> float:
    """A cumulative quantity in a round: each earlier round has added the growth of the recording."""
    return curve.at(t_ns) + rounds * curve.growth(-(1 << 62), 1 << 62)


def _unwrapped(joules: Sequence[float], wrap: float | None) -> list[float]:
    """The counter without wraps; a fall of a counter that does not wrap is a reset and adds nothing."""
    result = [joules[0]]
    for before, after in pairwise(joules):
        grown = after - before
        if grown < 0:
            grown = grown + wrap if wrap else 0.0
        result.append(result[-1] + max(0.0, grown))
    return result


def load_recording(path: str | Path, clock: Callable[[], int] = time.monotonic_ns) -> tuple[RecordedCounter, ...]:
    """Returns the counters of a recording, starting now.

    Raises:
        ConfigError: with key ``sensors``; the text names the file and the key in it that is wrong.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "sensors", f"{path} cannot be read ({error.strerror})", "set --sensors replay:FILE to a readable file"
        ) from error
    except ValueError as error:
        raise ConfigError("sensors", f"{path} is not JSON ({error})", "correct the file") from error
    reader = _Reader(str(path))
    entries = content.get("sensors") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        reader.refuse("sensors", "must be a list with at least one sensor")
    loop = content.get("loop", False)
    if not isinstance(loop, bool):
        reader.refuse("loop", "must be true or false")
    parsed = [reader.sensor(f"sensors[{index}]", entry) for index, entry in enumerate(entries)]
    ids = [one.info.id for one in parsed]
    if len(set(ids)) < len(ids):
        reader.refuse("sensors", "holds the same id twice")
    origin_ns = min(one.samples[0][0] for one in parsed)
    length_ns = max(one.samples[-1][0] for one in parsed) - origin_ns
    if loop and length_ns == 0:
        reader.refuse("loop", "needs samples at two times at least")
    playback = _Playback(clock, clock(), origin_ns, length_ns if loop else None)
    return tuple(RecordedCounter(one, playback) for one in parsed)


class _Reader:
    """Checks the entries of a recording; an error names the first key that is wrong."""

    def __init__(self, path: str) -> None:
        self._path = path

    def refuse(self, where: str, problem: str) -> NoReturn:
        raise ConfigError("sensors", f"{self._path}: {where} {problem}", _SHAPE)

    def sensor(self, where: str, entry: Any) -> _Entry:
        if not isinstance(entry, dict):
            self.refuse(where, "must be an object")
        samples = self._series(f"{where}.samples", entry.get("samples"), lowest=0.0)
        if not samples:
            self.refuse(f"{where}.samples", "must hold at least one [t_ns, joules]")
        steps = [(after[0] - before[0]) / 1e9 for before, after in pairwise(samples)]
        identity = entry.get("id")
        if not isinstance(identity, str) or not identity:
            self.refuse(f"{where}.id", "must be a string that is not empty")
        method: Method = self._word(f"{where}.method", entry.get("method"), get_args(Method))
        component: Component = self._word(f"{where}.component", entry.get("component"), get_args(Component))
        info = SensorInfo(
            id=identity,
            component=component,
            method=method,
            description=f"recorded {identity}",
            idle_watts=self._number(f"{where}.idle_watts", entry.get("idle_watts"), 0.0),
            wrap_joules=self._number(f"{where}.wrap_joules", entry.get("wrap_joules"), 1e-9),
            update_period_seconds=median(steps) if steps else 0.1,
            relative_uncertainty=0.03 if method == "measured" else 0.2,
            uuid=self._uuid(f"{where}.uuid", entry.get("uuid")),
            partitions=self._partitions(f"{where}.partitions", entry.get("partitions", {})),
        )
        wrap = info.wrap_joules
        if wrap is not None and max(joules for _, joules in samples) > wrap:
            self.refuse(f"{where}.samples", f"holds more than wrap_joules ({wrap:g})")
        celsius = self._series(f"{where}.celsius", entry.get("celsius", []), lowest=-273.15)
        busy = self._series(f"{where}.busy", entry.get("busy", []), lowest=0.0)
        return _Entry(info, samples, celsius, busy, self._processes(where, entry.get("processes", {})))

    def _processes(self, where: str, value: Any) -> dict[int, _Samples]:
        if not isinstance(value, dict) or not all(isinstance(pid, str) and pid.isdecimal() for pid in value):
            self.refuse(f"{where}.processes", "must be an object with PIDs as keys")
        return {int(pid): self._series(f"{where}.processes.{pid}", one, lowest=0.0) for pid, one in value.items()}

    def _uuid(self, where: str, value: Any) -> str | None:
        if value is not None and not (isinstance(value, str) and value):
            self.refuse(where, "must be null or a string that is not empty")
        return value

    def _partitions(self, where: str, value: Any) -> tuple[tuple[str, float], ...]:
        if not isinstance(value, dict) or not all(
            uuid and _is_number(part) and 0.0 < part <= 1.0 for uuid, part in value.items()
        ):
            self.refuse(where, "must be an object of UUIDs with a number above 0 and at most 1 each")
        return tuple((uuid, float(part)) for uuid, part in value.items())

    def _word(self, where: str, value: Any, words: tuple[str, ...]) -> Any:
        if value not in words:
            self.refuse(where, f"must be one of {', '.join(words)}")
        return value

    def _number(self, where: str, value: Any, lowest: float) -> float | None:
        if value is None:
            return None
        if not _is_number(value) or value < lowest:
            self.refuse(where, f"must be null or a number of at least {lowest:g}")
        return float(value)

    def _series(self, where: str, value: Any, lowest: float) -> list[tuple[int, float]]:
        if not isinstance(value, list):
            self.refuse(where, "must be a list of [t_ns, number]")
        series: list[tuple[int, float]] = []
        for index, pair in enumerate(value):
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], int):
                self.refuse(f"{where}[{index}]", "must be [t_ns, number] with an integer t_ns")
            t_ns, number = pair
            if not _is_number(number) or number < lowest:
                self.refuse(f"{where}[{index}]", f"must hold a number of at least {lowest:g}")
            if series and t_ns <= series[-1][0]:
                self.refuse(f"{where}[{index}]", "must come after the one before it")
            series.append((t_ns, float(number)))
        return series


def _is_number(value: Any) -> bool:
    """Whether a float can hold it. JSON in Python also allows NaN, Infinity and integers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
