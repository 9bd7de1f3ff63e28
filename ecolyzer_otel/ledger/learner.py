"""What one sensor has taught: idle power, what kinds of request draw, and what each request in flight draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ecolyzer_otel.ledger.account import Part
from ecolyzer_otel.ledger.ceiling import Ceiling, Span
from ecolyzer_otel.ledger.idle import IdleLevels, State
from ecolyzer_otel.ledger.individuals import Individuals
from ecolyzer_otel.ledger.intensity import HOST, PROCESS, Intensity
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.types import Interval, SensorSpec

__all__ = ["Learner", "Scene"]

#: Less activity than this, in seconds, is rounding.
_NO_SECONDS: Final = 1e-9
#: Errors of the model that no spread of requests explains: part of an interval's joules, and where within its
#: update period a counter was read. A beginning: what it must be multiplied by is learned.
_MODEL_ERROR: Final = 0.01
_EDGE_SECONDS: Final = 20e-6
#: Of the joules of the time in which a ceiling was reached.
_CEILING_ERROR: Final = 0.02
#: Intervals after which intensities are near enough to look for a ceiling.
_SETTLED: Final = 40
#: Weight of a new interval in the mean power.
_STEADY_RATE: Final = 0.02


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
        self.intensity = Intensity(learn_idle=spec.idle_watts is None, idle_prior=spec.idle_prior_watts)
        self.individuals = Individuals(self.intensity)
        self.ceiling = Ceiling()
        self.idle = IdleLevels(spec, self.intensity)
        self._steady_watts: float | None = None

    @property
    def trusted(self) -> bool:
        """Whether intensities may be used as weights."""
        return self.intensity.trusted

    def learn(self, scene: Scene, *, believe: bool) -> tuple[float, Scene]:
        """Learn from a scene.

        Args:
            scene: the scene.
            believe: whether the interval tells what was drawn in it; if not, nothing is learned.

        Returns:
            Active joules that were expected of it before, and the scene with activity as it is to be charged.
        """
        seconds, intensity = scene.seconds, self.intensity
        active = scene.interval.joules - self.idle.watts(scene.state) * seconds
        if believe and scene.live:
            activity = scene.process + scene.host + sum([amount for _, amount in scene.members])
            if activity > 0.0:
                intensity.begin(active if active > 0.0 else 0.0, activity)
        for one, (account, _) in zip(scene.live, scene.members, strict=False):
            if account.column < 0:
                account.column = intensity.column(one.record.kind)
        if not believe:
            _, squares, _ = self._columns(scene)
            self.individuals.assume(scene.members, squares)
            return self._expected(scene), scene
        capped = 0.0
        taught = charged = scene
        if len(scene.live) > 1:
            due = self.ceiling.is_due(active / seconds) and intensity.observations >= _SETTLED
            if due or self.ceiling.watts is not None:
                spans, base = self._spans(scene)
                if self.ceiling.watts is not None:
                    taught, charged, capped = self._under_ceiling(scene, spans, base, self.ceiling.watts)
                if due:
                    before = self.ceiling.watts
                    self.ceiling.learn(spans, base, seconds, active)
                    if (before is None) != (self.ceiling.watts is None):
                        intensity.doubt()  # what was learned was learned of another device
        expected = self._expected(taught) + capped
        if self._steady_watts is None:
            self._steady_watts = active / seconds
        steady = active - self._steady_watts * seconds
        self._steady_watts += _STEADY_RATE * steady / seconds
        self._teach(taught, active - capped, (_CEILING_ERROR * capped) ** 2, steady)
        return expected, charged

    def _expected(self, scene: Scene) -> float:
        watts = self.intensity.watts
        others = self._other(PROCESS, scene.process) + self._other(HOST, scene.host)
        return others + sum([watts[account.column] * amount for account, amount in scene.members])

    def _spans(self, scene: Scene) -> tuple[list[Span], float]:
        """When each request was active, at how many watts; and the watts of all others."""
        watts, interval = self.intensity.watts, scene.interval
        start, end = interval.start_ns, interval.end_ns
        spans = []
        for one, (account, amount) in zip(scene.live, scene.members, strict=False):
            low, high = one.span(interval.sensor, start, end)
            high = max(high, low + 1)
            spans.append((low, high, watts[account.column] * amount / ((high - low) / 1e9)))
        base = (self._other(PROCESS, scene.process) + self._other(HOST, scene.host)) / scene.seconds
        return spans, base

    @staticmethod
    def _under_ceiling(
        scene: Scene, spans: Sequence[Span], base: float, ceiling: float
    ) -> tuple[Scene, Scene, float]:
        """A scene as it teaches, as it is charged, and the joules of the time in which the ceiling was reached."""
        free, scale, reached = Ceiling.apply(spans, base, ceiling)
        below = 1.0 - reached / scene.seconds
        taught = [(account, amount * part) for (account, amount), part in zip(scene.members, free, strict=True)]
        charged = [(account, amount * part) for (account, amount), part in zip(scene.members, scale, strict=True)]
        return (
            scene._replace(members=taught, process=scene.process * below, host=scene.host * below),
            scene._replace(members=charged),
            ceiling * reached,
        )

    def _teach(self, scene: Scene, active: float, noise: float, steady: float) -> None:
        intensity, seconds, joules = self.intensity, scene.seconds, scene.interval.joules
        columns, squares, own = self._columns(scene)
        error = _MODEL_ERROR * joules
        edge = _EDGE_SECONDS * joules / seconds
        noise += (error * error + edge * edge) * self.individuals.noise
        plain = None
        if scene.live:
            self._tell_apart(scene, active, noise, squares)
            activity = scene.process + scene.host + sum([amount for _, amount in scene.members])
            plain = active - intensity.mean_watts * activity, steady
        if intensity.learn_idle:
            columns[intensity.idle_column(joules / seconds)] = seconds
            active += self.idle.watts(scene.state) * seconds
        if columns:
            intensity.observe(columns, active, own, noise, plain)

    def _columns(self, scene: Scene) -> tuple[dict[int, float], dict[int, float], float]:
        """Activity by column; the square of the watts that its spread is relative to; and both together, squared.

        What a request tells of its kind is told once, however many intervals it takes part in.
        """
        intensity = self.intensity
        columns: dict[int, float] = {}
        squares: dict[int, float] = {}
        own = 0.0
        for account, amount in scene.members:
            column = account.column
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
