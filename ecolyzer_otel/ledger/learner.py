"""What one sensor has taught: idle power, what kinds of request draw, and what each request in flight draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ecolyzer_otel.ledger.account import Part
from ecolyzer_otel.ledger.idle import IdleLevels, State
from ecolyzer_otel.ledger.individuals import Individuals
from ecolyzer_otel.ledger.intensity import HOST, PROCESS, Intensity
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.saturation import Saturation
from ecolyzer_otel.ledger.types import Interval, SensorSpec

__all__ = ["Learner", "Scene"]

#: Less activity than this, in seconds, is rounding.
_NO_SECONDS: Final = 1e-9
#: Errors of the model that no spread of requests explains: part of an interval's joules, and where within its
#: update period a counter was read. A beginning: what it must be multiplied by is learned.
_MODEL_ERROR: Final = 0.01
_EDGE_SECONDS: Final = 20e-6


class Scene(NamedTuple):
    """One closed interval and who was active in it.

    Attributes:
        interval: the interval.
        seconds: its length.
        live: requests that overlap it.
        members: their accounts and activity, in the same order.
        process: activity of their processes outside requests, in seconds.
        host: activity of everybody else.
        state: of the device.
    """

    interval: Interval
    seconds: float
    live: Sequence[Live]
    members: Sequence[Part]
    process: float
    host: float
    state: State


class Learner:
    """The estimates of one sensor. Pure: the same scenes in the same order give the same estimates.

    Args:
        spec: of the sensor.
    """

    def __init__(self, spec: SensorSpec) -> None:
        self.intensity = Intensity(learn_idle=spec.idle_watts is None)
        self.individuals = Individuals(self.intensity)
        self.saturation = Saturation()
        self.idle = IdleLevels(spec, self.intensity)

    @property
    def trusted(self) -> bool:
        """Whether intensities may be used as weights."""
        return self.intensity.trusted

    def learn(self, scene: Scene, *, believe: bool) -> float:
        """Learn from a scene. Active joules that were expected of it before.

        Args:
            scene: the scene.
            believe: whether the interval tells what was drawn in it; if not, nothing is learned.
        """
        interval, seconds, idle_watts = scene.interval, scene.seconds, self.idle.watts(scene.state)
        intensity, joules = self.intensity, interval.joules
        active = joules - idle_watts * seconds
        activity = scene.process + scene.host
        for _, amount in scene.members:
            activity += amount
        if believe and scene.live and activity > 0.0:
            intensity.begin(active if active > 0.0 else 0.0, activity)
        columns, squares, own = self._columns(scene)
        watts, expected = intensity.watts, 0.0
        for column, amount in columns.items():
            expected += watts[column] * amount
        gain, slope = self.saturation.at(expected / seconds)
        if not believe:
            self.individuals.assume(scene.members, squares)
            return expected * gain
        error = _MODEL_ERROR * joules
        edge = _EDGE_SECONDS * joules / seconds
        noise = (error * error + edge * edge) * self.individuals.noise
        flat = None
        if scene.live:
            self.saturation.learn(expected / seconds, active / seconds)
            if slope < 1.0:
                active = expected + (active - gain * expected) / slope
                noise /= slope * slope
            self._tell_apart(scene, active, noise, squares)
            flat = active - intensity.mean_watts * activity
        if intensity.learn_idle:
            columns[intensity.idle_column(joules / seconds)] = seconds
            active += idle_watts * seconds
        if columns:
            intensity.observe(columns, active, own, noise, flat)
        return expected * gain

    def _columns(self, scene: Scene) -> tuple[dict[int, float], dict[int, float], float]:
        """Activity by column; the square of the watts that its spread is relative to; and both together, squared.

        What a request tells of its kind is told once, however many intervals it takes part in.
        """
        intensity = self.intensity
        columns: dict[int, float] = {}
        squares: dict[int, float] = {}
        own = 0.0
        for one, (account, amount) in zip(scene.live, scene.members, strict=False):
            column = account.column
            if column < 0:
                column = account.column = intensity.column(one.record.kind)
            if column not in squares:
                squares[column] = intensity.scale(column) ** 2
            if amount > 0.0:
                columns[column] = columns.get(column, 0.0) + amount
                account.seen = seen = account.seen + amount
                own += squares[column] * amount * seen
        for key, amount in ((PROCESS, scene.process), (HOST, scene.host)):
            if amount > _NO_SECONDS:
                column = intensity.column(key)
                columns[column] = amount
                own += (intensity.scale(column) * amount) ** 2
        return columns, squares, own

    def _tell_apart(self, scene: Scene, joules: float, noise: float, squares: Mapping[int, float]) -> None:
        """Learn the watts of each request in flight from what the interval holds beyond idle and others."""
        intensity = self.intensity
        if intensity.learn_idle:
            unsure = self.idle.deviation(scene.state) * scene.seconds
            noise += unsure * unsure
        for key, amount in ((PROCESS, scene.process), (HOST, scene.host)):
            if amount > _NO_SECONDS:
                column = intensity.column(key)
                joules -= intensity.watts[column] * amount
                noise += (intensity.variance(column) + intensity.covariance[column][column]) * amount**2
        self.individuals.observe(scene.members, scene.live, scene.interval.end_ns, joules, noise, squares)

    def weights(self, scene: Scene) -> tuple[float, float, float]:
        """What requests, their processes and the host are expected to draw, as weights."""
        by_requests = sum([account.watts * amount for account, amount in scene.members])
        return by_requests, self._other(PROCESS, scene.process), self._other(HOST, scene.host)

    def _other(self, key: object, amount: float) -> float:
        if amount <= _NO_SECONDS:
            return 0.0
        return self.intensity.watts[self.intensity.column(key)] * amount
