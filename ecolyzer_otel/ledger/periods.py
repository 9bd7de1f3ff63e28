"""Periods of the factors: which joules of a request belong to which.

The grid's carbon intensity changes while requests are in flight. Each interval of a sensor belongs to the period
that it begins in, so that each joule can be charged at the intensity of its own time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

from ecolyzer_otel.ledger.account import Account
from ecolyzer_otel.ledger.book import SensorBook
from ecolyzer_otel.ledger.live import Live
from ecolyzer_otel.ledger.types import Charge

__all__ = ["Periods"]

#: Turns that are remembered; a request that has seen more is dated by the oldest of these at first.
_KEPT: Final = 256


class Periods:
    """The turns between periods, and how far each sensor has come.

    Args:
        books: the sensors' books by name.
    """

    def __init__(self, books: Mapping[str, SensorBook]) -> None:
        #: Whether there was any turn: as long as there was none, all is of period 0.
        self.turned = False
        self._turns: list[int] = []
        #: The number of the period before the first turn that is remembered.
        self._base = 0
        #: How many turns the intervals of each sensor have passed.
        self._passed = dict.fromkeys(books, 0)

    def turn(self, t_ns: int) -> int:
        """Begin a period at ``t_ns``; returns its number."""
        if self._turns and t_ns <= self._turns[-1]:
            t_ns = self._turns[-1] + 1
        self._turns.append(t_ns)
        self.turned = True
        if len(self._turns) > _KEPT:
            del self._turns[0]
            self._base += 1
        return self._base + len(self._turns)

    def begin(self, book: SensorBook, start_ns: int, known: Iterable[Live]) -> None:
        """An interval of ``book`` is about to be charged: let it turn if a period has begun since the last."""
        name = book.spec.id
        now = self._number(start_ns)
        passed = max(self._passed[name], self._base)
        if now <= passed:
            return
        self._passed[name] = now
        began_ns = self._turns[passed - self._base]
        book.turn([one for one in known if one.start_ns < began_ns], passed)

    def date(self, charge: Charge, live: Live, account: Account) -> Charge:
        """The charge with the periods of its joules."""
        last = self._number(live.seen_ns)
        earlier: list[tuple[int, float]] = []
        active = idle = 0.0
        for period, total_active, total_idle in account.turns:
            if period < last:
                earlier.append((period, total_active - active + total_idle - idle))
                active, idle = total_active, total_idle
        return charge._replace(period=last, earlier=tuple(earlier))

    def _number(self, t_ns: int) -> int:
        return self._base + bisect_right(self._turns, t_ns)
