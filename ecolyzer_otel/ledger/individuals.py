"""Below the mean of a kind: the watts of each request in flight, from the intervals that it took part in.

A request's watts are taken as constant while it runs, p_i ~ N(w_kind, s^2 w_kind^2 + var w_kind), and every closed
interval tells one sum of them:  y = sum p_i a_i. The posterior given all closed intervals is kept as a mean and a
covariance over the requests in flight (Kalman; conditioning of a Gaussian on a linear equation). Where intervals are
short, requests come and go between them, and each is told apart; where they are long, an interval's surprise goes to
those whose watts were least certain.

Above :data:`_TOGETHER` requests only variances are kept: nothing tells so many apart, and cost stays linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Final

from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.intensity import Intensity

__all__ = ["Individuals"]

#: Requests whose covariances are kept.
_TOGETHER: Final = 16
#: A request's watts stay above this part of its kind's.
_FLOOR: Final = 0.05
_RATE: Final = 0.01
#: Squared relative change of a request's watts from one interval to the next.
_WOBBLE: Final = 0.01**2
_NOISE_RATE: Final = 0.02
_LEAST_NOISE: Final = 0.03


class Individuals:
    """The requests in flight on one sensor.

    Args:
        intensity: what is known of their kinds.
    """

    __slots__ = ("_accounts", "_covariance", "_gone", "_intensity", "misfit", "noise")

    def __init__(self, intensity: Intensity) -> None:
        #: Mean of squared errors over what was expected of them.
        self.misfit = 1.0
        #: What the assumed noise must be multiplied by.
        self.noise = 1.0
        self._intensity = intensity
        self._accounts: list[Account] = []
        self._covariance: list[list[float]] | None = []
        self._gone = 0

    def enroll(self, accounts: Sequence[Account]) -> None:
        """Requests that the sensor's intervals overlap from now on; those known already stay as they are."""
        if self._gone:
            self._compact()
        for account in accounts:
            if account.place < 0:
                self._add(account)

    def _add(self, account: Account) -> None:
        intensity, column = self._intensity, account.column
        account.watts = intensity.watts[column]
        account.variance = intensity.spread * intensity.scale(column) ** 2 + intensity.covariance(column, column)
        account.place = len(self._accounts)
        if self._covariance is not None and account.place >= _TOGETHER:
            for one, row in zip(self._accounts, self._covariance, strict=True):
                one.variance = row[one.place]
            self._covariance = None
        if self._covariance is not None:
            shared = [intensity.covariance(column, one.column) for one in self._accounts]
            for row, value in zip(self._covariance, shared, strict=True):
                row.append(value)
            self._covariance.append([*shared, account.variance])
        self._accounts.append(account)

    def observe(self, accounts: Sequence[Account], amounts: Sequence[float], joules: float, noise: float) -> None:
        """One interval.

        Args:
            accounts: requests that took part, enrolled.
            amounts: activity of each, in seconds.
            joules: what they drew together.
            noise: variance of ``joules``.
        """
        error = joules - sum([one.watts * amount for one, amount in zip(accounts, amounts, strict=True)])
        if self._covariance is None:
            self._observe_apart(accounts, amounts, error, noise)
            return
        places = [one.place for one in accounts]
        for one in accounts:
            self._covariance[one.place][one.place] += _WOBBLE * one.watts * one.watts
        spans = [
            sum([row[place] * amount for place, amount in zip(places, amounts, strict=True)])
            for row in self._covariance
        ]
        variance = noise + sum([spans[place] * amount for place, amount in zip(places, amounts, strict=True)])
        if variance <= 0.0:
            return
        self._judge(error, variance, noise, self._fresh(accounts, amounts))
        step = error / variance
        for one, span in zip(self._accounts, spans, strict=True):
            one.watts = max(_FLOOR * self._intensity.watts[one.column], one.watts + span * step)
        self._covariance = [
            [x - span / variance * y for x, y in zip(row, spans, strict=True)]
            for row, span in zip(self._covariance, spans, strict=True)
        ]

    def _observe_apart(
        self, accounts: Sequence[Account], amounts: Sequence[float], error: float, noise: float
    ) -> None:
        for one in accounts:
            one.variance += _WOBBLE * one.watts * one.watts
        variance = noise + sum([one.variance * a * a for one, a in zip(accounts, amounts, strict=True)])
        if variance <= 0.0:
            return
        self._judge(error, variance, noise, self._fresh(accounts, amounts))
        for one, amount in zip(accounts, amounts, strict=True):
            span = one.variance * amount
            one.watts = max(_FLOOR * self._intensity.watts[one.column], one.watts + span * error / variance)
            one.variance -= span * span / variance

    def _fresh(self, accounts: Sequence[Account], amounts: Sequence[float]) -> float:
        """Variance that comes from the spread of those of whom nothing was told before."""
        intensity = self._intensity
        return intensity.spread * sum(
            [
                (intensity.scale(one.column) * amount) ** 2
                for one, amount in zip(accounts, amounts, strict=True)
                if one.seen <= amount
            ]
        )

    def _judge(self, error: float, variance: float, noise: float, fresh: float) -> None:
        ratio = error * error / variance
        self.misfit += _RATE * (min(ratio, 16.0) - self.misfit)
        self._intensity.match(ratio, fresh / variance)
        self.noise = min(1e4, max(_LEAST_NOISE, self.noise * exp(_NOISE_RATE * noise / variance * (min(ratio, 16.0) - 1.0))))

    def variance(self, account: Account) -> float:
        """Variance of a request's watts, in watts squared."""
        if self._covariance is None or account.place < 0:
            return max(0.0, account.variance)
        return max(0.0, self._covariance[account.place][account.place])

    def dismiss(self, account: Account) -> None:
        """A request that is settled."""
        if account.place >= 0:
            account.gone = True
            self._gone += 1

    def _compact(self) -> None:
        kept = [one for one in self._accounts if not one.gone]
        if self._covariance is not None:
            places = [one.place for one in kept]
            rows = [self._covariance[place] for place in places]
            self._covariance = [[row[place] for place in places] for row in rows]
        elif len(kept) < _TOGETHER // 2:
            self._covariance = [
                [one.variance if i == j else 0.0 for j in range(len(kept))] for i, one in enumerate(kept)
            ]
        for place, one in enumerate(kept):
            one.place = place
        self._accounts = kept
        self._gone = 0
