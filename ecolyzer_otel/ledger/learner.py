"""What one sensor has taught: idle power, what kinds of request draw, and what each request in flight draws."""

from __future__ import annotations

from collections.abc import Sequence
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
#: Errors of the model that no spread of requests explains: part of an interval's joules, and where within its update
#: period a counter was read. A beginning: what it must be multiplied by is learned.
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

    @property
    def others(self) -> list[tuple[object, float]]:
        """Columns that are no requests, with their activity."""
        return [(key, amount) for key, amount in ((PROCESS, self.process), (HOST, self.host)) if amount > _NO_SECONDS]


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
        intensity = self.intensity
        active = interval.joules - idle_watts * seconds
        activity = sum([amount for _, amount in scene.members]) + scene.process + scene.host
        if believe and scene.live and activity > 0.0:
            intensity.begin(max(0.0, active), activity)
        columns, own = self._columns(scene)
        watts = intensity.watts
        expected = sum([watts[column] * amount for column, amount in columns.items()])
        if not believe:
            self.individuals.assume(scene.members)
            return expected * self.saturation.at(expected / seconds)[0]
        noise = (_MODEL_ERROR * interval.joules) ** 2 + (_EDGE_SECONDS * interval.joules / seconds) ** 2
        noise *= self.individuals.noise
        gain, slope = self.saturation.at(expected / seconds)
        if scene.live:
            self.saturation.learn(expected / seconds, active / seconds)
            active = expected + (active - gain * expected) / slope
            noise /= slope * slope
            self._tell_apart(scene, active, noise)
        flat = active - intensity.mean_watts * activity if scene.live else None
        if intensity.learn_idle:
            columns[intensity.idle_column(interval.joules / seconds)] = seconds
            active += idle_watts * seconds
        if columns:
            intensity.observe(columns, active, own, noise, flat)
        return expected * gain

    def _columns(self, scene: Scene) -> tuple[dict[int, float], float]:
        """Activity by column, and the variance that the spread of requests makes, over that spread.

        What a request tells of its kind is told once, however many intervals it takes part in.
        """
        intensity = self.intensity
        columns: dict[int, float] = {}
        own = 0.0
        for one, (account, amount) in zip(scene.live, scene.members, strict=True):
            column = account.column
            if column < 0:
                column = account.column = intensity.column(one.record.kind)
            if amount > 0.0:
                columns[column] = columns.get(column, 0.0) + amount
                account.seen = seen = account.seen + amount
                own += intensity.scale(column) ** 2 * amount * seen
        for key, amount in scene.others:
            column = intensity.column(key)
            columns[column] = amount
            own += (intensity.scale(column) * amount) ** 2
        return columns, own

    def _tell_apart(self, scene: Scene, joules: float, noise: float) -> None:
        """Learn the watts of each request in flight from what the interval holds beyond idle and others."""
        intensity = self.intensity
        noise += (self.idle.deviation(scene.state) * scene.seconds) ** 2
        for key, amount in scene.others:
            column = intensity.column(key)
            drawn = intensity.watts[column] * amount
            joules -= drawn
            noise += intensity.spread * drawn**2 + intensity.covariance[column][column] * amount**2
        end = scene.interval.end_ns
        lasting = [one.end_ns is None or one.end_ns > end for one in scene.live]
        self.individuals.observe(scene.members, lasting, joules, noise)

    def weights(self, scene: Scene) -> tuple[float, float, float]:
        """What requests, their processes and the host are expected to draw, as weights."""
        by = {key: self.intensity.watts[self.intensity.column(key)] * amount for key, amount in scene.others}
        by_requests = sum([account.watts * amount for account, amount in scene.members])
        return by_requests, by.get(PROCESS, 0.0), by.get(HOST, 0.0)
