"""The account of one request on one sensor, and the reserves that requests share until they are settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["Account", "Part", "Reserve"]


class Account:
    """What one request has been charged on one sensor, in joules.

    No slots: most attributes keep their defaults for most requests, and class attributes cost nothing to create.

    Attributes:
        active: active joules that are final.
        reserves: the reserves that it shares with other requests, with its activity in each.
        idle: its share of idle joules.
        uncertainty: uncertainty of shares by activity alone, which adds up linearly.
        idle_uncertainty: uncertainty from a learned idle power, which also adds up linearly.
        activity: seconds of activity that are charged by learned watts.
        observed: seconds of activity in the intervals so far.
        covered_ns: time in flight that is covered by readings.
        seconds: its share of the device's time.
        timed_ns: time in flight for which it has received such a share, with or without a reading.
        period_totals: (period, active, idle) at the end of each period of the factors that it has outlived.
        watts: estimated watts per unit of activity. This and the following are learned
            (:class:`~ecolyzer_otel.ledger.individuals.Individuals`).
        variance: variance of these watts.
        shift: by how much the last interval corrected them.
        column: the column of its kind, -1 before it has one.
        row: its row in the covariance matrix, -1 if it has none.
        settled: whether the request is settled.
    """

    active = 0.0
    idle = 0.0
    uncertainty = 0.0
    idle_uncertainty = 0.0
    activity = 0.0
    observed = 0.0
    covered_ns = 0.0
    seconds = 0.0
    timed_ns = 0.0
    period_totals: tuple[tuple[int, float, float], ...] = ()
    watts = 0.0
    variance = 0.0
    shift = 0.0
    column = -1
    row = -1
    settled = False

    def __init__(self) -> None:
        self.reserves: deque[tuple[Reserve, float]] = deque()


#: The account of a request and its activity in one interval, in seconds.
Part = tuple[Account, float]


class Reserve:
    """Active joules of one closed interval that are not charged to its requests yet.

    Each request takes its share when it is settled, by the watts estimated at that time for all of them. The shares
    therefore add up to the measured joules.
    """

    __slots__ = ("_joules", "_members", "_revision", "_taken", "_total")

    def __init__(self, joules: float, members: Sequence[Part]) -> None:
        self._joules = joules
        self._members = members
        self._taken = 0.0
        self._total = 0.0
        self._revision = -1
        for account, amount in members:
            if amount > 0.0:
                account.activity += amount
                account.reserves.append((self, amount))

    def take(self, account: Account, amount: float, revision: int) -> float:
        """Returns the share of one account, which is settled afterwards.

        Args:
            account: the account.
            amount: its activity in the interval, in seconds.
            revision: number of the present estimates; while it is unchanged, so are all watts.
        """
        if revision != self._revision:
            self._revision = revision
            self._joules -= self._taken
            self._taken = 0.0
            self._total = sum([one.watts * seconds for one, seconds in self._members if not one.settled])
        if self._total <= 0.0:
            return self._take_by_activity(amount)
        share = self._joules * account.watts * amount / self._total
        self._taken += share
        return share

    def _take_by_activity(self, amount: float) -> float:
        """A share by activity alone, for when all estimated watts have fallen to zero."""
        total = sum([seconds for one, seconds in self._members if not one.settled])
        share = (self._joules - self._taken) * amount / total
        self._taken += share
        return share

    def distribute(self) -> None:
        """Charge the rest to the requests that are not settled, by the present estimates."""
        left = [(one, amount) for one, amount in self._members if amount > 0.0 and not one.settled]
        joules = self._joules - self._taken
        total = sum([one.watts * amount for one, amount in left])
        seconds = sum([amount for _, amount in left])
        for one, amount in left:
            one.active += joules * (one.watts * amount / total if total > 0.0 else amount / seconds)
            one.reserves.popleft()
