"""The estimates of one sensor: idle power, the watts of kinds of request, and the watts of requests in flight."""

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

__all__ = ["Learner", "Observation"]

#: Less activity than this, in seconds, is rounding.
_NO_SECONDS: Final = 1e-9
#: Errors of the model that no spread of requests explains: a part of an interval's joules, and the time within its
#: update period at which a counter was read. These are first values; a factor of them is learned.
_MODEL_ERROR: Final = 0.01
_EDGE_SECONDS: Final = 20e-6
#: Relative uncertainty of the joules while the ceiling was reached.
_CEILING_ERROR: Final = 0.02
#: Intervals after which intensities are accurate enough to look for a ceiling.
_SETTLED: Final = 40
#: Weight of a new interval in the mean power.
_STEADY_RATE: Final = 0.02


class Observation(NamedTuple):
    """One closed interval and the activity in it.

    Attributes:
        interval: the interval.
        seconds: its length.
        live: the requests that overlap it.
        members: their accounts and activity, in the same order.
        process: activity of their processes outside requests, in seconds.
        host: activity of the rest of the host, in seconds.
        state: state of the device.
    """

    interval: Interval
    seconds: float
    live: Sequence[Live]
    members: Sequence[Part]
    process: float
    host: float
    state: State


class Learner:
    """The estimates of one sensor. Pure: the same observations in the same order give the same estimates.

    Args:
        spec: the sensor.
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

    def learn(self, observation: Observation, *, trust: bool) -> tuple[float, Observation]:
        """Learn from an observation.

        Args:
            observation: the observation.
            trust: whether the interval holds the joules drawn in it; if not, nothing is learned.

        Returns:
            The active joules expected before learning, and the observation with the activity to be charged.
        """
        seconds, intensity = observation.seconds, self.intensity
        active = observation.interval.joules - self.idle.watts(observation.state) * seconds
        if trust and observation.live:
            activity = observation.process + observation.host + sum([amount for _, amount in observation.members])
            if activity > 0.0:
                intensity.update_mean(active if active > 0.0 else 0.0, activity)
        for one, (account, _) in zip(observation.live, observation.members, strict=False):
            if account.column < 0:
                account.column = intensity.column(one.record.kind)
        if not trust:
            _, squares, _ = self._columns(observation)
            self.individuals.assume(observation.members, squares)
            return self._expected(observation), observation
        learned, charged, capped = self._at_ceiling(observation, active)
        expected = self._expected(learned) + capped
        if self._steady_watts is None:
            self._steady_watts = active / seconds
        steady = active - self._steady_watts * seconds
        self._steady_watts += _STEADY_RATE * steady / seconds
        self._update(learned, active - capped, (_CEILING_ERROR * capped) ** 2, steady)
        return expected, charged

    def _at_ceiling(self, observation: Observation, active: float) -> tuple[Observation, Observation, float]:
        """Apply the ceiling found so far, then learn it. Returns the same as :meth:`_under_ceiling`."""
        ceiling, watts = self.ceiling, self.ceiling.watts
        if len(observation.live) < 2:
            return observation, observation, 0.0
        due = ceiling.is_due(active / observation.seconds) and self.intensity.observations >= _SETTLED
        if not due and watts is None:
            return observation, observation, 0.0
        spans, base = self._spans(observation)
        parts = observation, observation, 0.0
        if watts is not None:
            parts = self._under_ceiling(observation, spans, base, watts)
        if due:
            ceiling.learn(spans, base, observation.seconds, active)
            if (watts is None) != (ceiling.watts is None):
                self.intensity.add_uncertainty()  # intensities were learned under the opposite assumption
        return parts

    def _expected(self, observation: Observation) -> float:
        watts = self.intensity.watts
        others = self._other(PROCESS, observation.process) + self._other(HOST, observation.host)
        return others + sum([watts[account.column] * amount for account, amount in observation.members])

    def _spans(self, observation: Observation) -> tuple[list[Span], float]:
        """When each request was active and its expected watts; and the expected watts of everything else."""
        watts, interval = self.intensity.watts, observation.interval
        start, end = interval.start_ns, interval.end_ns
        spans = []
        for one, (account, amount) in zip(observation.live, observation.members, strict=False):
            low, high = one.span(interval.sensor, start, end)
            high = max(high, low + 1)
            spans.append((low, high, watts[account.column] * amount / ((high - low) / 1e9)))
        base = (
            self._other(PROCESS, observation.process) + self._other(HOST, observation.host)
        ) / observation.seconds
        return spans, base

    @staticmethod
    def _under_ceiling(
        observation: Observation, spans: Sequence[Span], base: float, ceiling: float
    ) -> tuple[Observation, Observation, float]:
        """Apply a ceiling to an observation.

        Returns:
            The observation to learn from, limited to the time below the ceiling; the observation to charge; and the
            joules of the time at the ceiling.
        """
        free, scale, reached = Ceiling.apply(spans, base, ceiling)
        below = 1.0 - reached / observation.seconds
        learned = [
            (account, amount * part) for (account, amount), part in zip(observation.members, free, strict=True)
        ]
        charged = [
            (account, amount * part) for (account, amount), part in zip(observation.members, scale, strict=True)
        ]
        return (
            observation._replace(
                members=learned, process=observation.process * below, host=observation.host * below
            ),
            observation._replace(members=charged),
            ceiling * reached,
        )

    def _update(self, observation: Observation, active: float, noise: float, steady: float) -> None:
        intensity, seconds, joules = self.intensity, observation.seconds, observation.interval.joules
        columns, squares, own = self._columns(observation)
        error = _MODEL_ERROR * joules
        edge = _EDGE_SECONDS * joules / seconds
        noise += (error * error + edge * edge) * self.individuals.noise
        plain = None
        if observation.live:
            self._learn_requests(observation, active, noise, squares)
            activity = observation.process + observation.host + sum([amount for _, amount in observation.members])
            plain = active - intensity.mean_watts * activity, steady
        if intensity.learn_idle:
            columns[intensity.idle_column(joules / seconds)] = seconds
            active += self.idle.watts(observation.state) * seconds
        if columns:
            intensity.observe(columns, active, own, noise, plain)

    def _columns(self, observation: Observation) -> tuple[dict[int, float], dict[int, float], float]:
        """The activity of an observation by column of the intensity.

        A request counts once as evidence of its kind, however many intervals it overlaps.

        Returns:
            Activity by column; by column, the square of the watts that its spread is relative to; and the sum over
            requests of their squared expected joules.
        """
        intensity = self.intensity
        columns: dict[int, float] = {}
        squares: dict[int, float] = {}
        own = 0.0
        for account, amount in observation.members:
            column = account.column
            if column not in squares:
                squares[column] = intensity.scale(column) ** 2
            if amount > 0.0:
                columns[column] = columns.get(column, 0.0) + amount
                account.observed = observed = account.observed + amount
                own += squares[column] * amount * observed
        for key, amount in ((PROCESS, observation.process), (HOST, observation.host)):
            if amount > _NO_SECONDS:
                column = intensity.column(key)
                columns[column] = amount
                own += (intensity.scale(column) * amount) ** 2
        return columns, squares, own

    def _learn_requests(
        self, observation: Observation, joules: float, noise: float, squares: Mapping[int, float]
    ) -> None:
        """Learn the watts of each request in flight from the joules beyond idle, process and host."""
        intensity = self.intensity
        if intensity.learn_idle:
            deviation = self.idle.deviation(observation.state) * observation.seconds
            noise += deviation * deviation
        for key, amount in ((PROCESS, observation.process), (HOST, observation.host)):
            if amount > _NO_SECONDS:
                column = intensity.column(key)
                joules -= intensity.watts[column] * amount
                noise += (intensity.variance(column) + intensity.covariance[column][column]) * amount**2
        self.individuals.observe(
            observation.members, observation.live, observation.interval.end_ns, joules, noise, squares
        )

    def weights(self, observation: Observation) -> tuple[float, float, float]:
        """Returns the expected joules of requests, of their processes, and of the host, to be used as weights."""
        by_requests = sum([account.watts * amount for account, amount in observation.members])
        return by_requests, self._other(PROCESS, observation.process), self._other(HOST, observation.host)

    def _other(self, key: object, amount: float) -> float:
        if amount <= _NO_SECONDS:
            return 0.0
        return self.intensity.watts[self.intensity.column(key)] * amount
