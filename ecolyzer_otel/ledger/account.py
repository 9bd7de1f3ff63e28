"""What one request was charged on one sensor so far, and the joules that it has yet to share with others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["Account", "Pot"]


class Account:
    """One request on one sensor, in joules.

    ``active`` is what it was charged for good, ``pots`` hold what it shares with requests still in flight.
    ``doubt`` is the uncertainty of shares by activity alone, which adds up linearly. ``watts``, ``variance``,
    ``place`` and ``column`` belong to :class:`~ecolyzer_otel.ledger.individuals.Individuals`; ``activity`` is the
    activity, in seconds, that these watts are multiplied by, and ``seen`` all that it showed so far. ``covered_ns`` is the time that readings told of.
    """

    __slots__ = (
        "active", "activity", "column", "covered_ns", "doubt", "gone", "idle", "idle_doubt", "place", "pots",
        "seen", "variance", "watts",
    )  # fmt: skip

    def __init__(self) -> None:
        self.active = 0.0
        self.idle = 0.0
        self.doubt = 0.0
        self.idle_doubt = 0.0
        self.activity = 0.0
        self.covered_ns = 0.0
        self.seen = 0.0
        self.pots: deque[Pot] = deque()
        self.watts = 0.0
        self.variance = 0.0
        self.place = -1
        self.column = -1
        self.gone = False


class Pot:
    """Active joules of one closed interval that its requests have not been charged yet.

    Each takes its share when it is settled, by what is known of everybody's watts then; the last takes the rest. So
    the sum is always what was measured.
    """

    __slots__ = ("_accounts", "_amounts", "_joules")

    def __init__(self, joules: float, accounts: Sequence[Account], amounts: Sequence[float]) -> None:
        self._joules = joules
        self._accounts = accounts
        self._amounts = amounts
        for account in accounts:
            account.pots.append(self)

    def take(self, account: Account) -> float:
        """The share of one account, which must be marked gone before the next takes its own."""
        total = own = 0.0
        for one, amount in zip(self._accounts, self._amounts, strict=True):
            if not one.gone:
                weight = one.watts * amount
                total += weight
                if one is account:
                    own = weight
        share = self._joules if own >= total else self._joules * own / total
        self._joules -= share
        return share

    def freeze(self) -> None:
        """Charge everybody who is left, by what is known now."""
        left = [
            (one, one.watts * amount)
            for one, amount in zip(self._accounts, self._amounts, strict=True)
            if not one.gone
        ]
        total = sum([weight for _, weight in left])
        for one, weight in left:
            one.active += self._joules * weight / total
            one.pots.remove(self)
        self._joules = 0.0
