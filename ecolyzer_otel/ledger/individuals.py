"""Below the mean of a kind: the watts of each request in flight, from the intervals that it took part in.

A request's watts are taken as constant while it runs, p_i ~ N(w_kind, s^2 w_kind^2 + var w_kind), and every closed
interval tells one sum of them:  y = sum p_i a_i. The posterior given all closed intervals is kept as a mean and a
covariance over the requests in flight (Kalman; conditioning of a Gaussian on a linear equation). Where intervals are
short, requests come and go between them, and each is told apart; where they are long, an interval's surprise goes to
those whose watts were least certain.

A request that begins and ends within one interval is conditioned once and need not be kept. Above :data:`_TOGETHER`
requests only variances are kept: nothing tells so many apart, and cost stays linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Final

from ecolyzer_otel.ledger.account import Account, Part
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
#: Errors beyond this many expected squares count as this many.
_ROBUST: Final = 16.0

class Individuals:
    """The requests in flight on one sensor.

    Args:
        intensity: what is known of their kinds.
    """

    __slots__ = ("_covariance", "_gone", "_intensity", "_kept", "misfit", "noise", "turn")

    def __init__(self, intensity: Intensity) -> None:
        #: Mean of squared errors over what was expected of them.
        self.misfit = 1.0
        #: What the assumed noise must be multiplied by.
        self.noise = 1.0
        #: Grows whenever anybody's watts change.
        self.turn = 0
        self._intensity = intensity
        self._kept: list[Account] = []
        self._covariance: list[list[float]] | None = []
        self._gone = 0

    def observe(self, members: Sequence[Part], lasting: Sequence[bool], joules: float, noise: float) -> None:
        """One interval.

        Args:
            members: requests that took part. Those not known yet begin at what their kind draws.
            lasting: of each, whether intervals to come will tell more of it.
            joules: what they drew together.
            noise: variance of ``joules``.
        """
        self.turn += 1
        if self._gone:
            self._forget_gone()
        known = [part for part in members if part[0].place >= 0]
        new = [part for part in members if part[0].place < 0]
        fresh, unsure, shared = self._begin(new)
        spans, told = self._spans(known)
        variance = noise + fresh + unsure + told
        if variance <= 0.0:
            return
        error = joules - sum([one.watts * amount for one, amount in members])
        self._judge(error * error / variance, noise / variance, fresh / variance)
        self._correct(spans, error, variance)
        watts, step = self._intensity.watts, error / variance
        spans_new = []
        for one, amount in new:
            span = one.variance * amount + shared[one.column]
            kind = watts[one.column]
            one.watts = max(_FLOOR * kind, kind + span * step)
            spans_new.append(span)
        self._keep(members, lasting, spans, spans_new, variance)

    def assume(self, members: Sequence[Part]) -> None:
        """Requests of an interval that told nothing: those not known yet draw what their kind does."""
        self.turn += 1
        self._begin([part for part in members if part[0].place < 0])

    def _begin(self, new: Sequence[Part]) -> tuple[float, float, dict[int, float]]:
        """Variance of joules by the spread of new requests, and by what is unsure of their kinds; also by kind."""
        intensity = self._intensity
        fresh = 0.0
        amounts: dict[int, float] = {}
        for one, amount in new:
            column = one.column
            one.variance = intensity.spread * intensity.scale(column) ** 2
            one.watts = intensity.watts[column]
            fresh += one.variance * amount * amount
            amounts[column] = amounts.get(column, 0.0) + amount
        shared = {}
        unsure = 0.0
        for column, amount in amounts.items():
            row = intensity.covariance[column]
            shared[column] = span = sum([row[other] * seconds for other, seconds in amounts.items()])
            unsure += span * amount
        return fresh, unsure, shared

    def _spans(self, known: Sequence[Part]) -> tuple[list[float], float]:
        """Covariance of each kept request's watts with the joules of the interval, and their variance."""
        rows = self._covariance
        if rows is None:
            spans = [0.0] * len(self._kept)
            told = 0.0
            for one, amount in known:
                one.variance += _WOBBLE * one.watts * one.watts
                spans[one.place] = one.variance * amount
                told += spans[one.place] * amount
            return spans, told
        places = [(one.place, amount) for one, amount in known]
        for one, _ in known:
            rows[one.place][one.place] += _WOBBLE * one.watts * one.watts
        spans = [sum([row[place] * amount for place, amount in places]) for row in rows]
        return spans, sum([spans[place] * amount for place, amount in places])

    def _correct(self, spans: Sequence[float], error: float, variance: float) -> None:
        watts, rows, step = self._intensity.watts, self._covariance, error / variance
        for place, (one, span) in enumerate(zip(self._kept, spans, strict=True)):
            if span:
                one.watts = max(_FLOOR * watts[one.column], one.watts + span * step)
                if rows is None:
                    one.variance -= span * span / variance
                else:
                    gain = span / variance
                    rows[place] = [x - gain * y for x, y in zip(rows[place], spans, strict=True)]

    def _keep(
        self,
        members: Sequence[Part],
        lasting: Sequence[bool],
        spans: list[float],
        spans_new: list[float],
        variance: float,
    ) -> None:
        """What remains to be known of new requests: only those that last are kept with their covariances."""
        covariance, rows = self._intensity.covariance, self._covariance
        coming = iter(spans_new)
        before = len(self._kept)
        for (one, _), lasts in zip(members, lasting, strict=True):
            if 0 <= one.place < before:
                continue
            span = next(coming)
            kinds = covariance[one.column]
            own = max(0.0, one.variance + kinds[one.column] - span * span / variance)
            one.variance = own
            if not lasts:
                continue
            one.place = len(self._kept)
            if rows is not None:
                gain = span / variance
                row = [-gain * other for other in spans]
                for index in range(before, one.place):
                    row[index] += kinds[self._kept[index].column]
                for other_row, value in zip(rows, row, strict=True):
                    other_row.append(value)
                row.append(own)
                rows.append(row)
            spans.append(span)
            self._kept.append(one)
            if rows is not None and one.place >= _TOGETHER:
                for kept in self._kept:
                    kept.variance = rows[kept.place][kept.place]
                rows = self._covariance = None

    def _judge(self, ratio: float, noise: float, fresh: float) -> None:
        """Match what is expected to the errors: ``ratio`` of a squared one, parts of the expected square."""
        ratio = min(ratio, _ROBUST)
        self.misfit += _RATE * (ratio - self.misfit)
        self._intensity.match(ratio, fresh)
        self.noise = min(1e4, max(_LEAST_NOISE, self.noise * exp(_NOISE_RATE * noise * (ratio - 1.0))))

    def variance(self, account: Account) -> float:
        """Variance of a request's watts, in watts squared."""
        if self._covariance is None or account.place < 0:
            return account.variance
        return max(0.0, self._covariance[account.place][account.place])

    def dismiss(self, account: Account) -> None:
        """A request that is settled."""
        account.gone = True
        if account.place >= 0:
            self._gone += 1

    def _forget_gone(self) -> None:
        kept = [one for one in self._kept if not one.gone]
        if self._covariance is not None:
            places = [one.place for one in kept]
            rows = [self._covariance[place] for place in places]
            self._covariance = [[row[place] for place in places] for row in rows]
        elif len(kept) < _TOGETHER // 2:
            self._covariance = [
                [one.variance if one is other else 0.0 for other in kept] for one in kept
            ]
        for place, one in enumerate(kept):
            one.place = place
        self._kept = kept
        self._gone = 0
