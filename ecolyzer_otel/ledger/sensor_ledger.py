"""One sensor's part of the ledger: its counter, its intervals, and the shares of its joules."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from ecolyzer_otel.common.equal import equal_seconds
from ecolyzer_otel.ledger.account import Account, Part, Reserve
from ecolyzer_otel.ledger.counter_wraps import Counter
from ecolyzer_otel.ledger.idle import State
from ecolyzer_otel.ledger.learner import Learner, Observation
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.rates import Rates
from ecolyzer_otel.ledger.split import Work
from ecolyzer_otel.ledger.types import Charge, Interval, SensorSpec, Shares

__all__ = ["SensorLedger"]

#: Closed intervals whose joules are not divided finally among their requests.
_MAX_RESERVES: Final = 64
#: More requests than this in one interval are charged at once: later estimates would not separate them.
_SHARED_BY: Final = 24
#: Periods of the factors that an account remembers; older joules count for the first of these.
_MAX_PERIODS: Final = 256
#: True powers of requests that share an interval are taken to lie within this factor of each other: the bound
#: from which the uncertainty of a share by activity alone follows.
_POWER_RATIO: Final = 3.0
#: A request counts as measured when less than this part of its time is without a reading.
_UNREPORTED: Final = 0.001
#: After a fault, an interval with less than this part of idle power counts as not reported either.
_NO_READING: Final = 0.5
#: One standard uncertainty of joules charged by the model, beyond the spread of requests.
_MODELLED_UNCERTAINTY: Final = 0.2


class SensorLedger:
    """Charges the closed intervals of one sensor to requests, processes, host and idle.

    Attributes:
        spec: the sensor.
        counter: turns its readings into intervals.
        learner: its estimates.
        rates: mean watts in flight by kind.
        shares: its joules so far.
        waiting: intervals that are not closed.
        closed_ns: the time up to which intervals are closed; None before the first.
        last: the last closed interval.
    """

    def __init__(self, spec: SensorSpec) -> None:
        self.spec = spec
        self.counter = Counter(spec)
        self.learner = Learner(spec)
        self.rates = Rates()
        self.shares = Shares()
        self.waiting: deque[Interval] = deque()
        self.closed_ns: int | None = None
        self.last: Interval | None = None
        self._state: State = "cold"
        self._reserves: deque[Reserve] = deque()
        self._gap = _Gap()

    def charge(self, interval: Interval, live: Sequence[Live], work: Work, meters: int, state: State) -> None:
        """Divide one closed interval.

        Args:
            interval: the interval.
            live: the requests that overlap it and use the component.
            work: their activity and that of the rest of the host.
            meters: how many meters measure this sensor, each without the requests of the others.
            state: state of the device.
        """
        learner, sensor = self.learner, self.spec.id
        self._state = state
        seconds = (interval.end_ns - interval.start_ns) / 1e9
        members = [(one.account(sensor), amount) for one, amount in zip(live, work.seconds, strict=True)]
        observation = Observation(interval, seconds, live, members, work.process, work.host, state)
        learner.idle.observe(interval, state, quiet=not live)
        expected = None
        if work.by_activity and meters == 1:
            # After the counter stood still, an interval also holds earlier joules: nothing is learned from it.
            drawn, observation = learner.learn(observation, trust=interval.usable and not self._gap)
            if learner.trusted:
                expected = drawn + learner.idle.watts(state) * seconds
        if not interval.usable or self._gap:
            interval = self._adjust(interval, live, expected, state)
        if self._still_incomplete(interval, learner.idle.watts(state) * seconds):
            interval = replace(interval, reported=0.0)
        # The counter reports the same part of idle joules as of active joules.
        idle = min(interval.joules, learner.idle.watts(state) * seconds * interval.reported)
        self._charge_idle(interval, live, members, idle, meters)
        if expected is None or not self._charge_learned(observation, interval.joules - idle):
            self._charge_by_activity(members, work, interval.joules - idle)
        self.shares.measured += interval.joules
        self.closed_ns, self.last = interval.end_ns, interval

    def end_period(self, crossing: Iterable[Live], period: int) -> None:
        """End a period of the factors: the next interval belongs to another one.

        The accounts store the totals so far. Reserves are distributed by the present estimates, so that each joule
        keeps the period in which it was drawn.

        Args:
            crossing: the requests in flight that began in this period or before.
            period: the number of the period that ends.
        """
        while self._reserves:
            self._reserves.popleft().distribute()
        for one in crossing:
            account = one.accounts.get(self.spec.id)
            if account is not None:
                account.period_totals = (
                    *account.period_totals[1 - _MAX_PERIODS :],
                    (period, account.active, account.idle),
                )

    @property
    def idle_watts(self) -> float:
        """Idle power assumed in the device's present state, in watts."""
        return self.learner.idle.watts(self._state)

    @property
    def ceiling_watts(self) -> float | None:
        """The power ceiling found for the device, idle power included; None if none was found."""
        ceiling = self.learner.ceiling.watts
        return None if ceiling is None else ceiling + self.idle_watts

    def _charge_idle(
        self, interval: Interval, live: Sequence[Live], members: Sequence[Part], idle: float, meters: int
    ) -> None:
        self.shares.idle += idle
        if not live:
            return
        start, end, reported = interval.start_ns, interval.end_ns, interval.reported
        present = [
            (one.start_ns if one.start_ns > start else start, one.seen_ns if one.seen_ns < end else end)
            for one in live
        ]
        watts = idle / ((end - start) / 1e9) / meters
        for (account, _), (low, high), seconds in zip(members, present, equal_seconds(present), strict=False):
            account.idle += watts * seconds
            account.seconds += seconds / meters
            account.covered_ns += reported * (high - low)
            account.timed_ns += high - low

    # Rule 3.

    def _charge_by_activity(self, members: Sequence[Part], work: Work, active: float) -> None:
        shares, parts = self.shares, work.parts()
        for (account, _), part in zip(members, parts.requests, strict=True):
            account.active += active * part
            account.uncertainty += active * _share_uncertainty(part)
            shares.pending += active * part
        shares.process += active * parts.process
        shares.host += active * parts.host

    # Rule 4.

    def _charge_learned(self, observation: Observation, active: float) -> bool:
        """Divide by activity times learned watts. Returns False if all weights are zero."""
        shares = self.shares
        by_requests, by_process, by_host = self.learner.weights(observation)
        total = by_requests + by_process + by_host
        if total <= 0.0:
            return False
        shares.process += active * by_process / total
        shares.host += active * by_host / total
        if by_requests > 0.0:
            theirs = active * by_requests / total
            shares.pending += theirs
            idle_deviation = self.learner.idle.deviation(observation.state)
            if idle_deviation:
                uncertainty = observation.seconds * idle_deviation / total
                for account, amount in observation.members:
                    account.idle_uncertainty += uncertainty * account.watts * amount
            if len(observation.members) > _SHARED_BY:
                for account, amount in observation.members:
                    account.activity += amount
                    account.active += theirs * account.watts * amount / by_requests
            else:
                self._reserves.append(Reserve(theirs, observation.members))
                if len(self._reserves) > _MAX_RESERVES:
                    self._reserves.popleft().distribute()
        return True

    # Settling.

    def release(self, account: Account) -> float:
        """Take the active joules of a request that is no longer in flight out of pending and return them."""
        individuals, shares = self.learner.individuals, self.shares
        active = account.active
        if account.reserves:
            revision = individuals.revision
            for reserve, amount in account.reserves:
                active += reserve.take(account, amount, revision)
            account.reserves.clear()
        account.settled = True
        if account.row >= 0:
            individuals.mark_settled()
        left = shares.pending - active
        shares.pending = left if left > 0.0 else 0.0
        return active

    def settle(self, live: Live, account: Account) -> tuple[Charge | None, float]:
        """Move a request's joules from pending to requests, and add an estimate for its time without readings.

        Returns:
            The charge, None where there is no basis for one, and the variance of its active joules.
        """
        variance = (account.uncertainty + account.idle_uncertainty) ** 2
        if account.activity:
            variance += self.learner.individuals.expected_variance(account) * account.activity**2
        active = self.release(account)
        self.shares.requests += active
        length = live.seen_ns - live.start_ns
        unreported = length - account.covered_ns
        if unreported > _UNREPORTED * length:
            return self._settle_unreported(live, account, active, variance, unreported / 1e9)
        self.rates.learn(live.record.kind, active, length)
        gain = self.spec.relative_uncertainty * active
        return self._make_charge(live, account, active, self.spec.method), variance + gain**2

    def _make_charge(self, live: Live, account: Account, active: float, method: str) -> Charge:
        untimed = live.seen_ns - live.start_ns - account.timed_ns
        # It is unknown how many requests shared the time without readings: the request counts as alone.
        seconds = account.seconds + (untimed / 1e9 if untimed > 0.0 else 0.0)
        return Charge(self.spec.id, self.spec.component, active, account.idle, method, seconds)

    def _settle_unreported(
        self, live: Live, account: Account, active: float, variance: float, seconds: float
    ) -> tuple[Charge | None, float]:
        """Add modelled joules for the ``seconds`` that no reading covers, if the watts of its kind are known."""
        watts = self.rates.watts(live.record.kind)
        if watts is None:
            # Joules that it was charged are its own, even if the intervals reported only a part.
            if account.covered_ns <= 0.0 and active <= 0.0:
                return None, 0.0
            charge = self._make_charge(live, account, active, self.spec.method)
            return charge, variance + (self.spec.relative_uncertainty * active) ** 2
        modelled = watts * seconds
        shares = self.shares
        shares.measured += modelled
        shares.requests += modelled
        shares.modelled += modelled
        if self.closed_ns is None or live.seen_ns > self.closed_ns or self._gap:
            self._gap.modelled += modelled
        variance += (self.learner.intensity.spread + _MODELLED_UNCERTAINTY**2) * modelled**2
        covered = account.covered_ns > _UNREPORTED * (live.seen_ns - live.start_ns)
        method = "mixed" if covered else "modelled"
        active += modelled
        charge = self._make_charge(live, account, active, method)
        return charge, variance + (self.spec.relative_uncertainty * active) ** 2

    # Where a reading is missing.

    def _adjust(self, interval: Interval, live: Sequence[Live], expected: float | None, state: State) -> Interval:
        """Returns the interval with the joules that are left to divide, where it reported too few or too many."""
        gap, shares = self._gap, self.shares
        if expected is None:
            expected = self._expected_joules(interval, live, state)
        if interval.jumped:
            # Joules drawn while the machine was suspended belong to no request: the excess is idle.
            extra = max(0.0, interval.joules - expected)
            shares.idle += extra
            shares.measured += extra
            return replace(interval, joules=interval.joules - extra)
        if not interval.usable:
            if expected <= 0.0:
                return interval
            if interval.joules == 0.0:
                gap.start_ns = interval.start_ns if gap.start_ns is None else gap.start_ns
                gap.idle += self.learner.idle.watts(state) * (interval.end_ns - interval.start_ns) / 1e9
                self.counter.count_fault("stuck")
            return replace(interval, reported=min(1.0, interval.joules / expected))
        # It moves again. The excess was drawn earlier; requests have been charged their part of it by the model.
        extra = max(0.0, interval.joules - expected) if expected > 0.0 else 0.0
        idle = min(extra, gap.idle)
        modelled = min(extra - idle, gap.modelled)
        shares.idle += idle
        shares.measured += idle
        if extra > idle + modelled and gap.start_ns is not None:
            for one in live:  # the rest of the excess is theirs
                one.account(self.spec.id).covered_ns += one.overlap_ns(gap.start_ns, interval.start_ns)
        self._gap = _Gap()
        return replace(interval, joules=interval.joules - idle - modelled)

    def _still_incomplete(self, interval: Interval, idle: float) -> bool:
        """Whether the interval after an incomplete one shows far less than idle power: it is incomplete, too."""
        after = self.last is not None and not self.last.usable
        return after and interval.usable and interval.joules < _NO_READING * idle

    def _expected_joules(self, interval: Interval, live: Sequence[Live], state: State) -> float:
        """Joules expected while weights are not trusted: idle power, and the mean watts of the kinds in flight."""
        length = (interval.end_ns - interval.start_ns) / 1e9
        if self.counter.mean_watts <= 0.0:
            return 0.0  # it has never moved, so that nothing can be expected of it
        expected = self.learner.idle.watts(state) * length
        for one in live:
            watts = self.rates.watts(one.record.kind)
            if watts is None:
                return self.counter.mean_watts * length
            expected += watts * one.overlap_ns(interval.start_ns, interval.end_ns) / 1e9
        return expected


class _Gap:
    """A time that the counter has not reported and may still report."""

    __slots__ = ("idle", "modelled", "start_ns")

    def __init__(self) -> None:
        #: When it began to stand still; None where it could not be read at all.
        self.start_ns: int | None = None
        #: Idle joules that it should have counted.
        self.idle = 0.0
        #: Joules that were charged to requests by the model.
        self.modelled = 0.0

    def __bool__(self) -> bool:
        return self.start_ns is not None or self.modelled > 0.0


def _share_uncertainty(share: float) -> float:
    """One standard uncertainty of a share, as half of half of its bound.

    With true powers of co-active work within a factor rho of each other, a share s computed from activity alone
    lies in [s / (s + rho (1 - s)), rho s / (rho s + 1 - s)]; the half-width of that is taken as two standard
    uncertainties.
    """
    rest = 1.0 - share
    low = share / (share + _POWER_RATIO * rest)
    high = _POWER_RATIO * share / (_POWER_RATIO * share + rest)
    return (high - low) / 4.0
