"""Below the mean of a kind: the watts of each request in flight, from the intervals that it took part in.

A request's watts are taken as constant while it runs, p_i ~ N(w_kind, s^2 w_kind^2 + var w_kind), and every closed
interval tells one sum of them:  y = sum p_i a_i. The posterior given all closed intervals is kept as a mean and a
covariance over the requests in flight (Kalman; conditioning of a Gaussian on a linear equation). Where intervals
are short, requests come and go between them, and each is told apart; where they are long, an interval's surprise
goes to those whose watts were least certain.

A request that begins and ends within one interval is conditioned once and need not be kept. Above :data:`_TOGETHER`
requests only variances are kept: nothing tells so many apart, and cost stays linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Final

from ecolyzer_otel.ledger.account import Account, Part
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.live import Live

__all__ = ["Individuals"]

#: Requests whose covariances are kept.
_TOGETHER: Final = 16
#: A request's watts stay above this part of its kind's.
_FLOOR: Final = 0.05
_RATE: Final = 0.01
#: Squared relative change of a request's watts from one interval to the next.
_WOBBLE: Final = 0.01**2
_NOISE_RATE: Final = 0.02
_LEAST_NOISE: Final = 0.003
#: Until errors tell otherwise, some of them are taken for noise rather than for the spread of requests.
_FIRST_NOISE: Final = 20.0
_REGRET_RATE: Final = 0.5
#: A request of which so little of its kind's variance is left is told apart.
_IDENTIFIED: Final = 0.1
_LEAST_MISFIT: Final = 0.2
#: What the variance of others is multiplied by.
_UNSURE: Final = 1.2
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
        self.noise = _FIRST_NOISE
        #: Grows whenever anybody's watts change.
        self.turn = 0
        self._intensity = intensity
        self._kept: list[Account] = []
        self._covariance: list[list[float]] | None = []
        self._gone = 0

    def observe(
        self,
        members: Sequence[Part],
        live: Sequence[Live],
        end_ns: int,
        joules: float,
        noise: float,
        squares: Mapping[int, float],
    ) -> None:
        """One interval.

        Args:
            members: requests that took part. Those not known yet begin at what their kind draws.
            live: the same requests; those that do not end by ``end_ns`` are told more of later.
            end_ns: end of the interval.
            joules: what they drew together.
            noise: variance of ``joules``.
            squares: by column, the square of the watts that the spread of its requests is relative to.
        """
        self.turn += 1
        if self._gone:
            self._forget_gone()
        known, expected, fresh, amounts = self._begin(members, squares)
        shared, unsure = self._shared(amounts)
        spans, told = self._spans(known)
        variance = noise + fresh + unsure + told
        if variance <= 0.0:
            return
        error = joules - expected
        shift = 0.0
        for one, amount in known:
            shift += one.shift * amount
        self._judge(error * error / variance, noise / variance, fresh / variance, error * shift / variance)
        if known:
            self._correct(spans, error, variance)
        step, kinds = error / variance, self._intensity.watts
        before = len(self._kept)
        for (one, amount), request in zip(members, live, strict=False):
            if 0 <= one.place < before:
                continue
            column = one.column
            common, certain = shared[column]
            span = one.variance * amount + common
            watts, least = one.watts + span * step, _FLOOR * kinds[column]
            one.watts = watts if watts > least else least
            one.shift = span * step
            left = one.variance + certain - span * span / variance
            one.variance = left = left if left > 0.0 else 0.0
            if request.end_ns is None or request.end_ns > end_ns:
                self._keep(one, span, left, spans, before, variance)

    def assume(self, members: Sequence[Part], squares: Mapping[int, float]) -> None:
        """Requests of an interval that told nothing: those not known yet draw what their kind does."""
        self.turn += 1
        self._begin(members, squares)

    def _begin(
        self, members: Sequence[Part], squares: Mapping[int, float]
    ) -> tuple[list[Part], float, float, dict[int, float]]:
        """New requests begin at what their kind draws.

        Returns:
            Those known before; joules expected of all; their variance by the spread of new requests; and the
            activity of new requests by kind.
        """
        watts, spread = self._intensity.watts, self._intensity.spread
        known: list[Part] = []
        amounts: dict[int, float] = {}
        expected = fresh = 0.0
        for part in members:
            one, amount = part
            if one.place >= 0:
                known.append(part)
                expected += one.watts * amount
            else:
                column = one.column
                one.watts = kind = watts[column]
                one.variance = own = spread * squares[column]
                expected += kind * amount
                fresh += own * amount * amount
                amounts[column] = amounts.get(column, 0.0) + amount
        return known, expected, fresh, amounts

    def _shared(self, amounts: Mapping[int, float]) -> tuple[dict[int, tuple[float, float]], float]:
        """Of kinds with new requests: covariance of a kind's watts with the joules of the interval, and variance.

        Also the variance of the joules by all of them.
        """
        covariance = self._intensity.covariance
        parts = list(amounts.items())
        shared = {}
        unsure = 0.0
        for column, amount in parts:
            row = covariance[column]
            span = 0.0
            for other, seconds in parts:
                span += row[other] * seconds
            shared[column] = span, row[column]
            unsure += span * amount
        return shared, unsure

    def _spans(self, known: Sequence[Part]) -> tuple[list[float], float]:
        """Covariance of each kept request's watts with the joules of the interval, and their variance."""
        rows, wobble = self._covariance, _WOBBLE * min(1.0, self.noise)
        if rows is None:
            spans = [0.0] * len(self._kept)
            told = 0.0
            for one, amount in known:
                one.variance += wobble * one.watts * one.watts
                spans[one.place] = one.variance * amount
                told += spans[one.place] * amount
            return spans, told
        places = [(one.place, amount) for one, amount in known]
        for one, _ in known:
            rows[one.place][one.place] += wobble * one.watts * one.watts
        spans = [sum([row[place] * amount for place, amount in places]) for row in rows]
        return spans, sum([spans[place] * amount for place, amount in places])

    def _correct(self, spans: Sequence[float], error: float, variance: float) -> None:
        watts, rows, step = self._intensity.watts, self._covariance, error / variance
        for place, (one, span) in enumerate(zip(self._kept, spans, strict=False)):
            if not span:
                continue
            value, least = one.watts + span * step, _FLOOR * watts[one.column]
            one.watts = value if value > least else least
            one.shift = span * step
            gain = span / variance
            if rows is None:
                one.variance -= gain * span
            else:
                rows[place] = [x - gain * y for x, y in zip(rows[place], spans, strict=False)]

    def _keep(
        self, one: Account, span: float, own: float, spans: list[float], before: int, variance: float
    ) -> None:
        """Keep a new request that lasts, with its covariances; the first ``before`` were known."""
        rows, kept = self._covariance, self._kept
        one.place = len(kept)
        if rows is not None:
            gain, kinds = span / variance, self._intensity.covariance[one.column]
            row = [-gain * other for other in spans]
            for index in range(before, one.place):
                row[index] += kinds[kept[index].column]
            for other_row, value in zip(rows, row, strict=False):
                other_row.append(value)
            row.append(own)
            rows.append(row)
        spans.append(span)
        kept.append(one)
        if rows is not None and one.place >= _TOGETHER:
            for other_one in kept:
                other_one.variance = rows[other_one.place][other_one.place]
            self._covariance = None

    def _judge(self, ratio: float, noise: float, fresh: float, regret: float) -> None:
        """Match what is expected to the errors.

        Args:
            ratio: a squared error over its expected square.
            noise: part of the expected square that is noise,
            fresh: and that is the spread of new requests.
            regret: error times what the correction after the interval before changed in this one, over the expected
                square. Zero in the mean where corrections are right; below, where noise was taken for spread.
        """
        ratio = min(ratio, _ROBUST)
        self.misfit += _RATE * (ratio - self.misfit)
        self._intensity.match(ratio, fresh)
        step = _NOISE_RATE * noise * (ratio - 1.0) - _REGRET_RATE * max(-1.0, min(1.0, regret))
        self.noise = min(1e4, max(_LEAST_NOISE, self.noise * exp(step)))

    def expected_variance(self, account: Account) -> float:
        """Square of what a request's watts are expected to be wrong by, in watts squared.

        The filter's variance, corrected by how wrong the filter was so far. Where an interval's surprise was only
        spread over requests, the estimated spread is itself uncertain, which the filter does not know.
        """
        rows = self._covariance
        own = (
            account.variance if rows is None or account.place < 0 else max(0.0, rows[account.place][account.place])
        )
        if own < _IDENTIFIED * self._intensity.variance(account.column):
            return own * max(_LEAST_MISFIT, self.misfit)
        return own * _UNSURE * max(1.0, self.misfit)

    def dismiss(self) -> None:
        """One of those that are kept is settled, and marked as gone."""
        self._gone += 1

    def _forget_gone(self) -> None:
        kept = [one for one in self._kept if not one.gone]
        if self._covariance is not None:
            places = [one.place for one in kept]
            rows = [self._covariance[place] for place in places]
            self._covariance = [[row[place] for place in places] for row in rows]
        elif len(kept) < _TOGETHER // 2:
            self._covariance = [[one.variance if one is other else 0.0 for other in kept] for one in kept]
        for place, one in enumerate(kept):
            one.place = place
        self._kept = kept
        self._gone = 0
