"""One sensor's part of the ledger: its counter, its intervals, and where its joules went."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from ecolyzer_otel.common.equal import equal_seconds
from ecolyzer_otel.ledger.account import Account, Part, Pot
from ecolyzer_otel.ledger.counter import Counter
from ecolyzer_otel.ledger.idle import State
from ecolyzer_otel.ledger.learner import Learner, Scene
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.rates import Rates
from ecolyzer_otel.ledger.split import Work
from ecolyzer_otel.ledger.types import Charge, Interval, SensorSpec, Shares

__all__ = ["SensorBook"]

#: Closed intervals whose joules may still move between the requests that shared them.
_POTS: Final = 64
#: More requests than this in one interval are charged at once: nothing learned later would tell them apart.
_SHARED_BY: Final = 24
#: Periods of the factors that a request in flight remembers; what was before counts for the first of these.
_TURNS: Final = 256
#: True powers of requests that share an interval are taken to lie within this factor of each other: the bound
#: from which the uncertainty of a share by activity alone follows.
_POWER_RATIO: Final = 3.0
#: A request less of whose time than this part is without a reading counts as measured.
_UNTOLD: Final = 0.001
#: After a fault an interval with less than this part of idle power tells nothing either.
_NO_READING: Final = 0.5
#: One standard uncertainty of joules charged by the model, beyond the spread of requests.
_MODELLED_UNCERTAINTY: Final = 0.2


class SensorBook:
    """Charges the closed intervals of one sensor to requests, processes, host and idle."""

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
        self._pots: deque[Pot] = deque()
        self._gap = _Gap()

    def charge(self, interval: Interval, live: Sequence[Live], work: Work, meters: int, state: State) -> None:
        """Divide one closed interval.

        Args:
            interval: the interval.
            live: requests that overlap it and use the component.
            work: their activity and everybody else's.
            meters: that measure this sensor and know nothing of each other's requests.
            state: of the device.
        """
        learner, sensor = self.learner, self.spec.id
        self._state = state
        seconds = (interval.end_ns - interval.start_ns) / 1e9
        members = [(one.account(sensor), amount) for one, amount in zip(live, work.seconds, strict=True)]
        scene = Scene(interval, seconds, live, members, work.process, work.host, state)
        learner.idle.see(interval, state, quiet=not live)
        expected = None
        if work.told and meters == 1:
            # What a counter shows after it stood still is not of this interval alone: nothing to learn from.
            drawn, scene = learner.learn(scene, believe=interval.usable and not self._gap)
            if learner.trusted:
                expected = drawn + learner.idle.watts(state) * seconds
        if not interval.usable or self._gap:
            interval = self._missing(interval, live, expected, state)
        if self._still_odd(interval, learner.idle.watts(state) * seconds):
            interval = replace(interval, told=0.0)
        # What an interval did not tell of its active joules, it did not tell of its idle joules either.
        idle = min(interval.joules, learner.idle.watts(state) * seconds * interval.told)
        self._charge_idle(interval, live, members, idle, meters)
        if expected is None or not self._charge_learned(scene, interval.joules - idle):
            self._charge_by_activity(members, work, interval.joules - idle)
        self.shares.measured += interval.joules
        self.closed_ns, self.last = interval.end_ns, interval

    def turn(self, crossing: Iterable[Live], period: int) -> None:
        """The next interval belongs to another period of the factors: note what was charged up to here.

        What requests in flight share is divided by what is known now, so that each joule keeps the time that it was
        drawn at.

        Args:
            crossing: requests that began before.
            period: the number of the period that ends.
        """
        while self._pots:
            self._pots.popleft().freeze()
        for one in crossing:
            account = one.accounts.get(self.spec.id)
            if account is not None:
                account.turns = (*account.turns[1 - _TURNS :], (period, account.active, account.idle))

    @property
    def idle_watts(self) -> float:
        """What is taken for idle power in the device's present state, in watts."""
        return self.learner.idle.watts(self._state)

    @property
    def ceiling_watts(self) -> float | None:
        """Power, idle included, that the device was found not to exceed; None if no such was found."""
        ceiling = self.learner.ceiling.watts
        return None if ceiling is None else ceiling + self.idle_watts

    def _charge_idle(
        self, interval: Interval, live: Sequence[Live], members: Sequence[Part], idle: float, meters: int
    ) -> None:
        self.shares.idle += idle
        if not live:
            return
        start, end, told = interval.start_ns, interval.end_ns, interval.told
        present = [
            (one.start_ns if one.start_ns > start else start, one.seen_ns if one.seen_ns < end else end)
            for one in live
        ]
        watts = idle / ((end - start) / 1e9) / meters
        for (account, _), (low, high), seconds in zip(members, present, equal_seconds(present), strict=False):
            account.idle += watts * seconds
            account.seconds += seconds / meters
            account.covered_ns += told * (high - low)
            account.timed_ns += high - low

    # Rule 3.

    def _charge_by_activity(self, members: Sequence[Part], work: Work, active: float) -> None:
        shares, parts = self.shares, work.parts()
        for (account, _), part in zip(members, parts.requests, strict=True):
            account.active += active * part
            account.doubt += active * _share_uncertainty(part)
            shares.pending += active * part
        shares.process += active * parts.process
        shares.host += active * parts.host

    # Rule 4.

    def _charge_learned(self, scene: Scene, active: float) -> bool:
        """By activity times learned watts. False where these give no weight to anybody."""
        shares = self.shares
        by_requests, by_process, by_host = self.learner.weights(scene)
        total = by_requests + by_process + by_host
        if total <= 0.0:
            return False
        shares.process += active * by_process / total
        shares.host += active * by_host / total
        if by_requests > 0.0:
            theirs = active * by_requests / total
            shares.pending += theirs
            idle_deviation = self.learner.idle.deviation(scene.state)
            if idle_deviation:
                doubt = scene.seconds * idle_deviation / total
                for account, amount in scene.members:
                    account.idle_doubt += doubt * account.watts * amount
            if len(scene.members) > _SHARED_BY:
                for account, amount in scene.members:
                    account.activity += amount
                    account.active += theirs * account.watts * amount / by_requests
            else:
                self._pots.append(Pot(theirs, scene.members))
                if len(self._pots) > _POTS:
                    self._pots.popleft().freeze()
        return True

    # Settling.

    def release(self, account: Account) -> float:
        """Take a request's joules, no longer in flight, out of pending: its active joules."""
        individuals, shares = self.learner.individuals, self.shares
        active = account.active
        if account.pots:
            turn = individuals.turn
            for pot, amount in account.pots:
                active += pot.take(account, amount, turn)
            account.pots.clear()
        account.gone = True
        if account.place >= 0:
            individuals.dismiss()
        left = shares.pending - active
        shares.pending = left if left > 0.0 else 0.0
        return active

    def settle(self, live: Live, account: Account) -> tuple[Charge | None, float]:
        """Take a request's joules out of pending and give them to it, with what it drew while nothing was read.

        Returns:
            The charge, None where nothing at all is known, and the variance of its active joules.
        """
        variance = (account.doubt + account.idle_doubt) ** 2
        if account.activity:
            variance += self.learner.individuals.expected_variance(account) * account.activity**2
        active = self.release(account)
        self.shares.requests += active
        length = live.seen_ns - live.start_ns
        untold = length - account.covered_ns
        if untold > _UNTOLD * length:
            return self._settle_untold(live, account, active, variance, untold / 1e9)
        self.rates.learn(live.record.kind, active, length)
        gain = self.spec.relative_uncertainty * active
        return self._charge_of(live, account, active, self.spec.method), variance + gain**2

    def _charge_of(self, live: Live, account: Account, active: float, method: str) -> Charge:
        untimed = live.seen_ns - live.start_ns - account.timed_ns
        # How many shared the time of which nothing was read is not known: it is taken to have been alone.
        seconds = account.seconds + (untimed / 1e9 if untimed > 0.0 else 0.0)
        return Charge(self.spec.id, self.spec.component, active, account.idle, method, seconds)

    def _settle_untold(
        self, live: Live, account: Account, active: float, variance: float, seconds: float
    ) -> tuple[Charge | None, float]:
        """Add what a request drew in the ``seconds`` of which no reading told, as far as its kind is known."""
        watts = self.rates.watts(live.record.kind)
        if watts is None:
            # What it was charged, if only by an interval that told less than it should have, is its own.
            if account.covered_ns <= 0.0 and active <= 0.0:
                return None, 0.0
            charge = self._charge_of(live, account, active, self.spec.method)
            return charge, variance + (self.spec.relative_uncertainty * active) ** 2
        modelled = watts * seconds
        shares = self.shares
        shares.measured += modelled
        shares.requests += modelled
        shares.modelled += modelled
        if self.closed_ns is None or live.seen_ns > self.closed_ns or self._gap:
            self._gap.told += modelled
        variance += (self.learner.intensity.spread + _MODELLED_UNCERTAINTY**2) * modelled**2
        told = account.covered_ns > _UNTOLD * (live.seen_ns - live.start_ns)
        method = "mixed" if told else "modelled"
        active += modelled
        charge = self._charge_of(live, account, active, method)
        return charge, variance + (self.spec.relative_uncertainty * active) ** 2

    # Where a reading is missing.

    def _missing(self, interval: Interval, live: Sequence[Live], expected: float | None, state: State) -> Interval:
        """What is left to divide of an interval that did not tell all, or that tells more than its own."""
        gap, shares = self._gap, self.shares
        if expected is None:
            expected = self._usual(interval, live, state)
        if interval.jumped:
            # Whatever a machine draws while it is suspended is nobody's: what is beyond the expected is idle.
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
                self.counter.note("stuck")
            return replace(interval, told=min(1.0, interval.joules / expected))
        # It moves again. What it shows beyond its own time was drawn before; of that, requests were told their
        # part.
        extra = max(0.0, interval.joules - expected) if expected > 0.0 else 0.0
        idle = min(extra, gap.idle)
        told = min(extra - idle, gap.told)
        shares.idle += idle
        shares.measured += idle
        if extra > idle + told and gap.start_ns is not None:
            for one in live:  # what was drawn then and is not told yet is theirs
                one.account(self.spec.id).covered_ns += one.overlap_ns(gap.start_ns, interval.start_ns)
        self._gap = _Gap()
        return replace(interval, joules=interval.joules - idle - told)

    def _still_odd(self, interval: Interval, idle: float) -> bool:
        """Whether a counter that did not tell all shows far less than idle power next: it does not tell yet."""
        after = self.last is not None and not self.last.usable
        return after and interval.usable and interval.joules < _NO_READING * idle

    def _usual(self, interval: Interval, live: Sequence[Live], state: State) -> float:
        """Joules expected where weights are not trusted: idle power, and what these kinds draw in flight."""
        length = (interval.end_ns - interval.start_ns) / 1e9
        if self.counter.mean_watts <= 0.0:
            return 0.0  # it has never moved: nothing says that it should
        expected = self.learner.idle.watts(state) * length
        for one in live:
            watts = self.rates.watts(one.record.kind)
            if watts is None:
                return self.counter.mean_watts * length
            expected += watts * one.overlap_ns(interval.start_ns, interval.end_ns) / 1e9
        return expected


class _Gap:
    """A time of which the counter has told nothing, and may yet."""

    __slots__ = ("idle", "start_ns", "told")

    def __init__(self) -> None:
        #: When it began to stand still; None where it could not be read at all.
        self.start_ns: int | None = None
        #: Idle joules that it should have counted.
        self.idle = 0.0
        #: Joules that requests were charged by the model.
        self.told = 0.0

    def __bool__(self) -> bool:
        return self.start_ns is not None or self.told > 0.0


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
