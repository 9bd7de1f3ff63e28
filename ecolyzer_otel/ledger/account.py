"""What one request was charged on one sensor so far, and the joules that it has yet to share with others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["Account", "Part", "Pot"]


class Account:
    """One request on one sensor, in joules.

    No slots: most of this stays as it is here for most requests, and class attributes cost nothing to make.

    Attributes:
        active: what it was charged for good.
        pots: what it shares with requests still in flight, with its activity in each.
        idle: its part of idle joules.
        doubt: uncertainty of shares by activity alone, which adds up linearly.
        idle_doubt: the same, of idle power that is learned.
        activity: seconds that its own watts were charged for.
        seen: seconds of activity that intervals have shown.
        covered_ns: time that readings told of.
        seconds: its part of the device's time.
        timed_ns: time that intervals, whatever they told, have given it a part of.
        turns: (period, active, idle) up to the end of each period that it has outlived.
        watts: what it draws per unit of activity; this and what follows is learned
            (:class:`~ecolyzer_otel.ledger.individuals.Individuals`).
        variance: of these watts.
        shift: how much the last interval changed them.
        column: number of its kind, -1 before it has one.
        place: where its covariances are, -1 if nowhere.
        gone: whether it is settled.
    """

    active = 0.0
    idle = 0.0
    doubt = 0.0
    idle_doubt = 0.0
    activity = 0.0
    seen = 0.0
    covered_ns = 0.0
    seconds = 0.0
    timed_ns = 0.0
    turns: tuple[tuple[int, float, float], ...] = ()
    watts = 0.0
    variance = 0.0
    shift = 0.0
    column = -1
    place = -1
    gone = False

    def __init__(self) -> None:
        self.pots: deque[tuple[Pot, float]] = deque()


#: A request and its activity in one interval, in seconds.
Part = tuple[Account, float]


class Pot:
    """Active joules of one closed interval that its requests have not been charged yet.

    Each takes its share when it is settled, by what is known of everybody's watts then. So the sum is always what
    was measured.
    """

    __slots__ = ("_joules", "_members", "_taken", "_total", "_turn")

    def __init__(self, joules: float, members: Sequence[Part]) -> None:
        self._joules = joules
        self._members = members
        self._taken = 0.0
        self._total = 0.0
        self._turn = -1
        for account, amount in members:
            if amount > 0.0:
                account.activity += amount
                account.pots.append((self, amount))

    def take(self, account: Account, amount: float, turn: int) -> float:
        """The share of one account, which is gone thereafter.

        Args:
            account: whose.
            amount: its activity here, in seconds.
            turn: as long as it is the same, nobody's watts have changed.
        """
        if turn != self._turn:
            self._turn = turn
            self._joules -= self._taken
            self._taken = 0.0
            self._total = sum([one.watts * seconds for one, seconds in self._members if not one.gone])
        if self._total <= 0.0:
            return self._take_equal(account, amount)
        share = self._joules * account.watts * amount / self._total
        self._taken += share
        return share

    def _take_equal(self, account: Account, amount: float) -> float:
        """By activity alone, where everybody's watts have fallen to nothing."""
        total = sum([seconds for one, seconds in self._members if not one.gone])
        share = (self._joules - self._taken) * amount / total
        self._taken += share
        return share

    def freeze(self) -> None:
        """Charge everybody who is left, by what is known now."""
        left = [(one, amount) for one, amount in self._members if amount > 0.0 and not one.gone]
        joules = self._joules - self._taken
        total = sum([one.watts * amount for one, amount in left])
        seconds = sum([amount for _, amount in left])
        for one, amount in left:
            one.active += joules * (one.watts * amount / total if total > 0.0 else amount / seconds)
            one.pots.popleft()
