"""The watts of individual requests in flight, estimated from the intervals that they overlap.

A request's watts are taken as constant while it runs, p_i ~ N(w_kind, s^2 w_kind^2 + var w_kind), and every closed
interval measures one sum of them:  y = sum p_i a_i. The posterior given all closed intervals is kept as a mean and
a covariance over the requests in flight (Kalman; conditioning of a Gaussian on a linear equation). Where intervals
are short, requests begin and end between them, and each can be identified. Where they are long, the error of an
interval is assigned to the requests with the least certain watts.

A request that begins and ends within one interval is conditioned once and is not kept. Above
:data:`_MAX_COVARIANCES` requests only variances are kept: so many cannot be identified, and the cost stays linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Final

from ecolyzer_otel.ledger.account import Account, Part
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.live import Live

__all__ = ["Individuals"]

#: Covariances are kept for at most this many requests.
_MAX_COVARIANCES: Final = 16
#: A request's watts stay above this part of those of its kind.
_FLOOR: Final = 0.05
_RATE: Final = 0.01
#: Squared relative change of a request's watts from one interval to the next.
_DRIFT: Final = 0.01**2
_NOISE_RATE: Final = 0.02
_LEAST_NOISE: Final = 0.003
#: At first, errors are attributed to noise rather than to the spread of requests.
_FIRST_NOISE: Final = 20.0
_REGRET_RATE: Final = 0.5
#: A request counts as identified when only this part of its kind's variance is left.
_IDENTIFIED: Final = 0.1
_LEAST_MISFIT: Final = 0.2
#: The variance of other requests is multiplied by this.
_INFLATION: Final = 1.2
#: Errors beyond this many expected squares count as this many.
_ROBUST: Final = 16.0


class Individuals:
    """The requests in flight on one sensor.

    Args:
        intensity: the learned watts of their kinds.

    Attributes:
        misfit: mean of squared errors over their expected squares.
        noise: factor of the assumed noise.
        revision: increases whenever any watts change.
    """

    __slots__ = ("_covariance", "_intensity", "_kept", "_settled", "misfit", "noise", "revision")

    def __init__(self, intensity: Intensity) -> None:
        self.misfit = 1.0
        self.noise = _FIRST_NOISE
        self.revision = 0
        self._intensity = intensity
        self._kept: list[Account] = []
        self._covariance: list[list[float]] | None = []
        self._settled = 0

    def observe(
        self,
        members: Sequence[Part],
        live: Sequence[Live],
        end_ns: int,
        joules: float,
        noise: float,
        squares: Mapping[int, float],
    ) -> None:
        """Condition the watts on one interval.

        Args:
            members: requests that overlap it. New ones start at the watts of their kind.
            live: the same requests; those that do not end by ``end_ns`` are kept for later intervals.
            end_ns: end of the interval.
            joules: joules that the requests drew together.
            noise: variance of ``joules``.
            squares: by column, the square of the watts that the spread of its requests is relative to.
        """
        self.revision += 1
        if self._settled:
            self._drop_settled()
        kept, expected, fresh, amounts = self._start_new(members, squares)
        shared, by_kinds = self._shared(amounts)
        spans, by_kept = self._spans(kept)
        variance = noise + fresh + by_kinds + by_kept
        if variance <= 0.0:
            return
        error = joules - expected
        shift = 0.0
        for one, amount in kept:
            shift += one.shift * amount
        self._match_noise(error * error / variance, noise / variance, fresh / variance, error * shift / variance)
        if kept:
            self._correct(spans, error, variance)
        step, kinds = error / variance, self._intensity.watts
        before = len(self._kept)
        for (one, amount), request in zip(members, live, strict=False):
            if 0 <= one.row < before:
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
        """Start the new requests of an interval without a usable reading at the watts of their kind."""
        self.revision += 1
        self._start_new(members, squares)

    def _start_new(
        self, members: Sequence[Part], squares: Mapping[int, float]
    ) -> tuple[list[Part], float, float, dict[int, float]]:
        """Start new requests at the watts of their kind.

        Returns:
            The requests kept from earlier intervals; the joules expected of all requests; the variance of these by
            the spread of new requests; and the activity of new requests by kind.
        """
        watts, spread = self._intensity.watts, self._intensity.spread
        kept: list[Part] = []
        amounts: dict[int, float] = {}
        expected = fresh = 0.0
        for part in members:
            one, amount = part
            if one.row >= 0:
                kept.append(part)
                expected += one.watts * amount
            else:
                column = one.column
                one.watts = kind = watts[column]
                one.variance = own = spread * squares[column]
                expected += kind * amount
                fresh += own * amount * amount
                amounts[column] = amounts.get(column, 0.0) + amount
        return kept, expected, fresh, amounts

    def _shared(self, amounts: Mapping[int, float]) -> tuple[dict[int, tuple[float, float]], float]:
        """The uncertainty of the watts of kinds, which their new requests share.

        Returns:
            By column, the covariance of its watts with the joules of the interval and the variance of its watts;
            and the variance of the joules by all columns together.
        """
        covariance = self._intensity.covariance
        parts = list(amounts.items())
        shared = {}
        by_kinds = 0.0
        for column, amount in parts:
            row = covariance[column]
            span = 0.0
            for other, seconds in parts:
                span += row[other] * seconds
            shared[column] = span, row[column]
            by_kinds += span * amount
        return shared, by_kinds

    def _spans(self, kept: Sequence[Part]) -> tuple[list[float], float]:
        """Covariance of each kept request's watts with the joules of the interval, and their variance."""
        rows, drift = self._covariance, _DRIFT * min(1.0, self.noise)
        if rows is None:
            spans = [0.0] * len(self._kept)
            by_kept = 0.0
            for one, amount in kept:
                one.variance += drift * one.watts * one.watts
                spans[one.row] = one.variance * amount
                by_kept += spans[one.row] * amount
            return spans, by_kept
        places = [(one.row, amount) for one, amount in kept]
        for one, _ in kept:
            rows[one.row][one.row] += drift * one.watts * one.watts
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
        """Keep a new request that lasts, with its covariances. The first ``before`` requests were kept already."""
        rows, kept = self._covariance, self._kept
        one.row = len(kept)
        if rows is not None:
            gain, kinds = span / variance, self._intensity.covariance[one.column]
            row = [-gain * other for other in spans]
            for index in range(before, one.row):
                row[index] += kinds[kept[index].column]
            for other_row, value in zip(rows, row, strict=False):
                other_row.append(value)
            row.append(own)
            rows.append(row)
        spans.append(span)
        kept.append(one)
        if rows is not None and one.row >= _MAX_COVARIANCES:
            for other_one in kept:
                other_one.variance = rows[other_one.row][other_one.row]
            self._covariance = None

    def _match_noise(self, ratio: float, noise: float, fresh: float, regret: float) -> None:
        """Adapt the assumed noise and spread to the errors.

        Args:
            ratio: a squared error over its expected square.
            noise: part of the expected square that comes from noise.
            fresh: part that comes from the spread of new requests.
            regret: error times the change that the previous correction made to this interval, over the expected
                square. Its mean is zero where corrections are right, and negative where noise was taken for spread.
        """
        ratio = min(ratio, _ROBUST)
        self.misfit += _RATE * (ratio - self.misfit)
        self._intensity.match_spread(ratio, fresh)
        step = _NOISE_RATE * noise * (ratio - 1.0) - _REGRET_RATE * max(-1.0, min(1.0, regret))
        self.noise = min(1e4, max(_LEAST_NOISE, self.noise * exp(step)))

    def expected_variance(self, account: Account) -> float:
        """Returns the expected squared error of a request's watts, in watts squared.

        This is the filter's variance, corrected by the filter's errors so far. Where the error of an interval was
        only divided among requests, the estimated spread is itself uncertain, which the filter does not include.
        """
        rows = self._covariance
        own = account.variance if rows is None or account.row < 0 else max(0.0, rows[account.row][account.row])
        if own < _IDENTIFIED * self._intensity.variance(account.column):
            return own * max(_LEAST_MISFIT, self.misfit)
        return own * _INFLATION * max(1.0, self.misfit)

    def mark_settled(self) -> None:
        """Count a kept request that is settled; its account is marked ``settled``."""
        self._settled += 1

    def _drop_settled(self) -> None:
        kept = [one for one in self._kept if not one.settled]
        if self._covariance is not None:
            places = [one.row for one in kept]
            rows = [self._covariance[place] for place in places]
            self._covariance = [[row[place] for place in places] for row in rows]
        elif len(kept) < _MAX_COVARIANCES // 2:
            self._covariance = [[one.variance if one is other else 0.0 for other in kept] for one in kept]
        for place, one in enumerate(kept):
            one.row = place
        self._kept = kept
        self._settled = 0
