"""One sensor's part of the ledger: its counter, what is learned of it, and where its joules went."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from ecolyzer_otel.ledger.account import Account, Pot
from ecolyzer_otel.ledger.counter import Counter
from ecolyzer_otel.ledger.idle import IdleLevels, State
from ecolyzer_otel.ledger.individuals import Individuals
from ecolyzer_otel.ledger.intensity import HOST, PROCESS, Intensity
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.rates import Rates
from ecolyzer_otel.ledger.saturation import Saturation
from ecolyzer_otel.ledger.split import Work, idle_seconds
from ecolyzer_otel.ledger.types import Interval, SensorSpec, Shares

__all__ = ["Charged", "SensorBook"]

#: Closed intervals whose joules may still move between the requests that shared them.
_POTS: Final = 64
#: More requests than this in one interval are charged at once: nothing learned later would tell them apart.
_SHARED_BY: Final = 24
#: True powers of requests that share an interval are taken to lie within this factor of each other: the bound
#: from which the uncertainty of a share by activity alone follows.
_POWER_RATIO: Final = 3.0
#: A request less of whose time than this part is without a reading counts as measured.
_UNTOLD: Final = 0.001
#: One standard uncertainty of joules charged by the model, beyond the spread of requests.
_MODELLED_UNCERTAINTY: Final = 0.2
#: Less activity than this, in seconds, is rounding.
_NO_SECONDS: Final = 1e-9
#: Errors of the model that no spread of requests explains: part of an interval's joules, and where within its update
#: period a counter was read.
_MODEL_ERROR: Final = 0.01
_EDGE_SECONDS: Final = 20e-6


class Charged(NamedTuple):
    """What one sensor charges one request: joules, the square of the uncertainty of the active ones, and how."""

    active: float
    idle: float
    variance: float
    method: str


class SensorBook:
    """Charges the closed intervals of one sensor to requests, processes, host and idle."""

    def __init__(self, spec: SensorSpec) -> None:
        self.spec = spec
        self.counter = Counter(spec)
        self.intensity = Intensity(learn_idle=spec.idle_watts is None)
        self.individuals = Individuals(self.intensity)
        self.saturation = Saturation()
        self.idle = IdleLevels(spec, self.intensity)
        self.rates = Rates()
        self.shares = Shares()
        self.waiting: deque[Interval] = deque()
        self.closed_ns: int | None = None
        self.last: Interval | None = None
        self._pots: deque[Pot] = deque()
        #: Joules that requests were charged by the model, and that the counter may yet show.
        self._owed = 0.0

    def charge(self, interval: Interval, live: Sequence[Live], work: Work, meters: int, state: State) -> None:
        """Divide one closed interval.

        Args:
            interval: the interval.
            live: requests that overlap it and use the component.
            work: their activity and everybody else's.
            meters: that measure this sensor and know nothing of each other's requests.
            state: of the device.
        """
        self.idle.see(interval, state)
        if not live:
            self.idle.learn(interval, state)
        seconds = (interval.end_ns - interval.start_ns) / 1e9
        accounts = [one.account(self.spec.id) for one in live]
        expected = None
        if work.told and meters == 1:
            expected = self._learn(interval, live, accounts, work, seconds, state)
            interval = self._without_owed(interval, expected)
        idle = min(interval.joules, self.idle.watts(state) * seconds)
        active = interval.joules - idle
        self._charge_idle(live, accounts, interval, idle, meters)
        if expected is not None:
            self._charge_learned(accounts, work, active, seconds * self.idle.deviation(state))
        else:
            self._charge_by_activity(accounts, work, active)
        self._cover(interval, live, accounts, expected)
        self.shares.measured += interval.joules
        self.closed_ns, self.last = interval.end_ns, interval

    def _charge_idle(
        self, live: Sequence[Live], accounts: Sequence[Account], interval: Interval, idle: float, meters: int
    ) -> None:
        self.shares.idle += idle
        if idle > 0.0 and live:
            watts = idle / ((interval.end_ns - interval.start_ns) / 1e9) / meters
            for account, seconds in zip(
                accounts, idle_seconds(live, interval.start_ns, interval.end_ns), strict=True
            ):
                account.idle += watts * seconds

    # Rule 3.

    def _charge_by_activity(self, accounts: Sequence[Account], work: Work, active: float) -> None:
        shares = self.shares
        for account, part in zip(accounts, work.parts, strict=True):
            account.active += active * part
            account.doubt += active * _share_uncertainty(part)
            shares.pending += active * part
        shares.process += active * work.process_part
        shares.host += active * work.host_part

    # Rule 4.

    def _learn(
        self,
        interval: Interval,
        live: Sequence[Live],
        accounts: Sequence[Account],
        work: Work,
        seconds: float,
        state: State,
    ) -> float | None:
        """Learn from an interval. Joules that were expected of it before, None where nothing can be said."""
        intensity = self.intensity
        idle = self.idle.watts(state)
        activity = sum(work.seconds) + work.process + work.host
        if interval.usable and live and activity > 0.0:
            intensity.begin(max(0.0, interval.joules - idle * seconds), activity)
        columns, own = self._columns(live, accounts, work)
        expected = sum([intensity.watts[column] * amount for column, amount in columns.items()])
        if interval.usable:
            noise = (_MODEL_ERROR * interval.joules) ** 2 + (_EDGE_SECONDS * interval.joules / seconds) ** 2
            noise *= self.individuals.noise
            active = interval.joules - idle * seconds
            gain = self.saturation.gain(expected / seconds)
            if live:
                self.saturation.learn(expected / seconds, active / seconds)
            joules = interval.joules + active * (1.0 / gain - 1.0)
            if live:
                self._tell_apart(joules, accounts, work, seconds, state, noise)
            flat = joules - idle * seconds - intensity.mean_watts * activity
            if not intensity.learn_idle:
                joules -= idle * seconds
            if intensity.learn_idle:
                columns[intensity.idle_column(interval.joules / seconds)] = seconds
            if columns:
                intensity.observe(columns, joules, own, noise, flat if live else None)
            expected *= gain
        return expected + idle * seconds if intensity.trusted else None

    def _columns(
        self, live: Sequence[Live], accounts: Sequence[Account], work: Work
    ) -> tuple[dict[int, float], float]:
        """Activity by column, and the sum of the squares of what each single draw is expected to be."""
        intensity = self.intensity
        columns: dict[int, float] = {}
        own = 0.0
        for one, account, amount in zip(live, accounts, work.seconds, strict=True):
            column = account.column
            if column < 0:
                column = account.column = intensity.column(one.record.kind)
            if amount > 0.0:
                columns[column] = columns.get(column, 0.0) + amount
                # What a request tells of its kind is told once, however many intervals it takes part in.
                account.seen += amount
                own += intensity.scale(column) ** 2 * amount * account.seen
        for key, amount in ((HOST, work.host), (PROCESS, work.process)):
            if amount > _NO_SECONDS:
                column = intensity.column(key)
                columns[column] = amount
                own += (intensity.scale(column) * amount) ** 2
        return columns, own

    def _tell_apart(
        self,
        joules: float,
        accounts: Sequence[Account],
        work: Work,
        seconds: float,
        state: State,
        noise: float,
    ) -> None:
        """Learn the watts of each request in flight from what the interval holds beyond idle and others."""
        intensity = self.intensity
        joules -= self.idle.watts(state) * seconds
        noise += (self.idle.deviation(state) * seconds) ** 2
        for key, amount in ((HOST, work.host), (PROCESS, work.process)):
            if amount > _NO_SECONDS:
                column = intensity.column(key)
                drawn = intensity.watts[column] * amount
                joules -= drawn
                noise += intensity.spread * drawn**2 + intensity.covariance(column, column) * amount**2
        self.individuals.enroll(accounts)
        self.individuals.observe(accounts, work.seconds, joules, noise)

    def _charge_learned(
        self, accounts: Sequence[Account], work: Work, active: float, idle_doubt: float
    ) -> None:
        intensity, shares = self.intensity, self.shares
        drawn = [account.watts * amount for account, amount in zip(accounts, work.seconds, strict=True)]
        by_requests = sum(drawn)
        by_process = intensity.watts[intensity.column(PROCESS)] * work.process if work.process > _NO_SECONDS else 0.0
        by_host = intensity.watts[intensity.column(HOST)] * work.host if work.host > _NO_SECONDS else 0.0
        total = by_requests + by_process + by_host
        if total <= 0.0:
            self._charge_by_activity(accounts, work, active)
            return
        shares.process += active * by_process / total
        shares.host += active * by_host / total
        theirs = active * by_requests / total
        shares.pending += theirs
        members = [(a, s) for a, s in zip(accounts, work.seconds, strict=True) if s > 0.0]
        for account, one in members:
            account.activity += one
            account.idle_doubt += idle_doubt * account.watts * one / total
        if theirs > 0.0:
            self._share_out(theirs, members)

    def _share_out(self, joules: float, members: Sequence[tuple[Account, float]]) -> None:
        pot = Pot(joules, [account for account, _ in members], [amount for _, amount in members])
        if len(members) > _SHARED_BY:
            pot.freeze()
            return
        self._pots.append(pot)
        if len(self._pots) > _POTS:
            self._pots.popleft().freeze()

    # Settling.

    def release(self, account: Account) -> float:
        """Take a request's joules, no longer in flight, out of pending: its active joules."""
        for pot in account.pots:
            account.active += pot.take(account)
        account.pots.clear()
        account.gone = True
        self.individuals.dismiss(account)
        self.shares.pending = max(0.0, self.shares.pending - account.active)
        return account.active

    def nothing_pending(self) -> None:
        """No request is in flight: what is left is float noise."""
        self.shares.pending = 0.0

    def settle(self, live: Live, account: Account) -> Charged:
        """Take a request's joules out of pending and give them to it, with what it drew while nothing was read."""
        watts_variance = self.individuals.variance(account) * max(1.0, self.individuals.misfit)
        active = self.release(account)
        variance = watts_variance * account.activity**2 + (account.doubt + account.idle_doubt) ** 2
        self.shares.requests += active
        seconds = (live.seen_ns - live.start_ns) / 1e9
        untold = seconds - account.covered_ns / 1e9
        kind = live.record.kind
        if untold <= _UNTOLD * seconds:
            self.rates.learn(kind, active, seconds)
            return Charged(active, account.idle, variance, self.spec.method)
        watts = self.rates.watts(kind)
        if watts is None:
            known = account.covered_ns > 0.0
            return Charged(active, account.idle, variance, self.spec.method if known else "unsettled")
        modelled = watts * untold
        self._model(live, modelled)
        variance += self.intensity.spread * modelled**2 + (_MODELLED_UNCERTAINTY * modelled) ** 2
        method = "modelled" if account.covered_ns <= _UNTOLD * seconds else "mixed"
        return Charged(active + modelled, account.idle, variance, method)

    def _model(self, live: Live, joules: float) -> None:
        shares = self.shares
        shares.measured += joules
        shares.requests += joules
        shares.modelled += joules
        ahead = self.closed_ns is None or live.seen_ns > self.closed_ns
        if ahead or (self.last is not None and self.last.joules == 0.0):
            self._owed += joules

    # Where a reading is missing.

    def _without_owed(self, interval: Interval, expected: float | None) -> Interval:
        """An interval without the joules that requests were charged by the model while its sensor told nothing.

        A counter that stood still or could not be read shows them when it moves again.
        """
        if not self._owed or not interval.usable or expected is None:
            return interval
        late = min(self._owed, max(0.0, interval.joules - expected))
        self._owed = 0.0
        return replace(interval, joules=interval.joules - late)

    def _cover(
        self, interval: Interval, live: Sequence[Live], accounts: Sequence[Account], expected: float | None
    ) -> None:
        """Note for how much of their time readings told all."""
        told = 1.0
        if not interval.usable and expected is not None and expected > 0.0:
            told = min(1.0, interval.joules / expected)
        for one, account in zip(live, accounts, strict=True):
            account.covered_ns += told * one.overlap_ns(interval.start_ns, interval.end_ns)


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
