"""Learned intensity: watts per unit of activity of each kind of request, on one sensor.

Model of one closed interval:  y = sum over columns of w_c a_c + e,  with a_c the activity of column c in it
(seconds of CPU or kernels; for idle power the length of the interval) and w_c >= 0 its watts. Columns are the kinds
of request (model, phase, batch bucket), what else the owning processes do, the rest of the host, and idle power
where no table gives it. e has the variance  s^2 sum of (w_i a_i)^2: requests of one kind differ by a relative
spread s.

w is estimated by a Kalman filter (R. E. Kalman, 1960): causal, recursive, with memory of columns squared. Only the
columns that take part in an interval are updated (S. F. Schmidt's consider form, 1966), so that an update costs
columns times participants. With each participation a column drifts a little, so that old intervals lose weight;
where errors are larger than the filter expects, they lose it faster. A new column starts at the mean intensity of
all requests, which equals the split by activity alone. s^2 is learned from the errors.

The estimates are only used as weights: the joules that are divided are always the measured ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import exp
from typing import Final

__all__ = ["HOST", "IDLE", "PROCESS", "Intensity"]


class _Column:
    """The key of a column that is not a kind of request."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


IDLE: Final = _Column("IDLE")
HOST: Final = _Column("HOST")
PROCESS: Final = _Column("PROCESS")

#: The largest number of columns. The one unused for longest is replaced.
_MAX_COLUMNS: Final = 64
#: Intervals with requests before weights are used.
_ENOUGH: Final = 12
#: Weights are used while their squared errors are at most this many times those of equal weights.
_BETTER: Final = 1.1
#: Weights with this many times the squared errors of equal weights have diverged. Then learning restarts, but not
#: more often than after this many intervals.
_DIVERGED: Final = 2.0
_RESTART_AFTER: Final = 16
#: Weights are used while their squared errors are at most this many times those of a constant power.
_FOLLOWS: Final = 1.0
#: Relative standard deviation of a new column around the mean intensity.
_PRIOR_DEVIATION: Final = 0.7
#: Part of a device's power that is idle, before it is learned.
_PRIOR_IDLE: Final = 0.3
#: Relative standard deviation that :meth:`Intensity.add_uncertainty` adds.
_ADDED_DEVIATION: Final = 0.3
#: Relative drift of a column at each participation, squared.
_DRIFT: Final = 0.003**2
#: Drift and spread are relative to at least this part of the mean intensity.
_SCALE: Final = 0.25
#: Relative spread of requests of one kind, squared, before it is learned.
_SPREAD: Final = 0.25**2
_LEAST_SPREAD: Final = 0.01**2
#: Weight of a new interval in the means of errors.
_RATE: Final = 0.01
#: Weights stay above this part of the mean intensity: any activity draws some power.
_FLOOR: Final = 0.02
#: Errors beyond this many standard deviations count as this many.
_ROBUST: Final = 4.0


class Intensity:
    """Watts per unit of activity on one sensor.

    Args:
        learn_idle: whether idle power is a column.
        idle_prior: idle power according to tables, in watts.

    Attributes:
        learn_idle: whether idle power is a column.
        observations: intervals with requests so far.
        mean_watts: mean intensity of all activity, recent intervals more than old ones; 0.0 before any.
        watts: estimated watts by column.
        covariance: covariance of the watts of two columns, in watts squared.
        spread: relative spread of requests of one kind, squared.
        misfit: mean of squared errors over their expected squares; 1 where the filter's variances are right.
    """

    __slots__ = (
        "_activity",
        "_columns",
        "_flat_error",
        "_idle_prior",
        "_intervals",
        "_joules",
        "_keys",
        "_learned_error",
        "_since",
        "_steady_error",
        "_used",
        "covariance",
        "learn_idle",
        "mean_watts",
        "misfit",
        "observations",
        "spread",
        "watts",
    )  # fmt: skip

    def __init__(self, *, learn_idle: bool, idle_prior: float | None = None) -> None:
        self._idle_prior = idle_prior
        self.learn_idle = learn_idle
        self.observations = 0
        self.mean_watts = 0.0
        self.watts: list[float] = []
        self.spread = _SPREAD
        self.misfit = 1.0
        self._columns: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._used: list[int] = []
        self._intervals = 0
        self._since = 0
        self.covariance: list[list[float]] = []
        self._joules = self._activity = 0.0
        self._flat_error = self._learned_error = self._steady_error = 0.0

    @property
    def trusted(self) -> bool:
        """Whether weights may be used: after enough intervals, and if they predict better than equal weights."""
        if self.observations < _ENOUGH:
            return False
        # On a device that draws constant power, power does not depend on the kinds of request.
        return self._learned_error <= min(_BETTER * self._flat_error, _FOLLOWS * self._steady_error)

    def column(self, key: Hashable) -> int:
        """Returns the number of a column, which is created if needed."""
        number = self._columns.get(key)
        if number is not None:
            if self.covariance[number][number] == 0.0 and key is not IDLE:
                self._start_at_mean(number)  # created before there was a mean
            self._used[number] = self._intervals + 1  # no other column of the same interval replaces it
            return number
        if len(self._keys) < _MAX_COLUMNS:
            number = len(self._keys)
            self._keys.append(key)
            self._used.append(self._intervals + 1)
            self.watts.append(0.0)
            for row in self.covariance:
                row.append(0.0)
            self.covariance.append([0.0] * (number + 1))
        else:
            number = min(range(_MAX_COLUMNS), key=self._used.__getitem__)
            del self._columns[self._keys[number]]
            self._keys[number] = key
            self._used[number] = self._intervals + 1
            for row in self.covariance:
                row[number] = 0.0
            self.covariance[number] = [0.0] * _MAX_COLUMNS
        self._columns[key] = number
        self._start_at_mean(number)
        return number

    def _start_at_mean(self, number: int) -> None:
        mean = self.mean_watts
        self.watts[number] = mean
        self.covariance[number][number] = (_PRIOR_DEVIATION * mean) ** 2

    def scale(self, column: int) -> float:
        """Returns the watts that the spread of a column is relative to."""
        watts, least = self.watts[column], _SCALE * self.mean_watts
        return watts if watts > least else least

    def variance(self, column: int) -> float:
        """Returns the variance of the watts of one request around those of its kind."""
        return self.spread * self.scale(column) ** 2

    def watts_of(self, key: Hashable) -> float | None:
        """Returns the watts of a column, None if it does not exist."""
        number = self._columns.get(key)
        return None if number is None else self.watts[number]

    def add_uncertainty(self) -> None:
        """Make every column but idle power more uncertain: the estimates may be wrong."""
        for column, key in enumerate(self._keys):
            if key is not IDLE:
                self.covariance[column][column] += (_ADDED_DEVIATION * self.scale(column)) ** 2

    def deviation(self, key: Hashable) -> float:
        """Returns the standard deviation of a column's watts; infinite if it does not exist."""
        number = self._columns.get(key)
        return float("inf") if number is None else self.covariance[number][number] ** 0.5

    def update_mean(self, joules: float, activity: float) -> None:
        """Update the mean intensity with ``joules`` over ``activity`` seconds, before columns are created."""
        keep = 1.0 - _RATE
        self._joules = keep * self._joules + joules
        self._activity = keep * self._activity + activity
        if self._activity > 0.0:
            self.mean_watts = self._joules / self._activity

    def idle_column(self, watts: float) -> int:
        """Returns the column of idle power, which starts at the prior or a part of an interval's ``watts``."""
        number = self._columns.get(IDLE)
        if number is None:
            number = self.column(IDLE)
            prior = min(watts, self._idle_prior or _PRIOR_IDLE * watts)
            self.watts[number] = prior
            self.covariance[number][number] = (_PRIOR_IDLE * watts) ** 2
        return number

    def observe(
        self,
        taking_part: Mapping[int, float],
        joules: float,
        own: float,
        noise: float,
        plain: tuple[float, float] | None,
    ) -> None:
        """Learn from one interval.

        Args:
            taking_part: activity by column, in seconds.
            joules: measured.
            own: sum over requests of (their expected joules)^2, which the spread is multiplied by.
            noise: variance of everything else, in joules squared.
            plain: the errors in joules of equal weights and of constant power; None for an interval without
                requests.
        """
        covariance, watts = self.covariance, self.watts
        parts = list(taking_part.items())
        self._intervals += 1
        drift = _DRIFT * (self.misfit**2 if self.misfit > 1.0 else 1.0)
        expected = 0.0
        for column, amount in parts:
            self._used[column] = self._intervals
            expected += watts[column] * amount
            # Never zero, so that a column that fell to its floor can rise again.
            covariance[column][column] += drift * self.scale(column) ** 2
        error = joules - expected
        spans = [sum([row[column] * amount for column, amount in parts]) for row in covariance]
        variance = sum([spans[column] * amount for column, amount in parts]) + self.spread * own + noise
        if variance <= 0.0:
            return
        if plain is not None and self._compare_errors(error, variance, *plain):
            return
        if error * error > _ROBUST**2 * variance:
            variance = error * error / _ROBUST**2
        self._correct(parts, spans, error, variance)

    def _correct(
        self, parts: Sequence[tuple[int, float]], spans: list[float], error: float, variance: float
    ) -> None:
        covariance, watts, keys = self.covariance, self.watts, self._keys
        least = _FLOOR * self.mean_watts
        # All rows are computed from the old covariances, then replaced on both sides of the diagonal.
        rows = [
            (column, spans[column] / variance, [spans[column] / variance * span for span in spans])
            for column, _ in parts
        ]
        for column, gain, less in rows:
            covariance[column] = row = [x - y for x, y in zip(covariance[column], less, strict=False)]
            if row[column] < 0.0:
                row[column] = 0.0
            value = watts[column] + gain * error
            lowest = 0.0 if keys[column] is IDLE else least
            watts[column] = value if value > lowest else lowest
        if len(parts) < len(covariance):
            taking_part = {column for column, _ in parts}
            for other, row in enumerate(covariance):
                if other not in taking_part:
                    for column in taking_part:
                        row[column] = covariance[column][other]

    def _compare_errors(self, error: float, variance: float, flat: float, steady: float) -> bool:
        """Update the errors of the weights. Returns True if the weights had diverged and learning has restarted."""
        self.observations += 1
        rate = max(_RATE, 1.0 / self.observations)
        self.misfit += rate * (min(error * error / variance, _ROBUST**2) - self.misfit)
        self._learned_error += rate * (error * error - self._learned_error)
        self._flat_error += rate * (flat * flat - self._flat_error)
        self._steady_error += rate * (steady * steady - self._steady_error)
        self._since += 1
        if self._since >= _RESTART_AFTER and self._learned_error > _DIVERGED * self._flat_error:
            self._restart()
            return True
        return False

    def _restart(self) -> None:
        """Reset every column but idle power to the mean, with its first uncertainty."""
        self._since = 0
        for column, key in enumerate(self._keys):
            if key is not IDLE:
                for row in self.covariance:
                    row[column] = 0.0
                self.covariance[column] = [0.0] * len(self._keys)
                self._start_at_mean(column)
        self._learned_error = self._flat_error
        self.spread = _SPREAD

    def match_spread(self, ratio: float, part: float) -> None:
        """Learn the spread by covariance matching (R. K. Mehra, 1970): errors are to be as large as expected.

        Args:
            ratio: a squared error over its expected square.
            part: the part of the expected square that came from the spread.
        """
        rate = max(_RATE, 1.0 / (4.0 + self.observations))
        step = rate * part * (min(ratio, _ROBUST**2) - 1.0)
        self.spread = min(1.0, max(_LEAST_SPREAD, self.spread * exp(step)))
