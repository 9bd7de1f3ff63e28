"""Whom native pool threads worked for: pool seconds per second in flight, learned by kind of request.

The operating system tells how long the native threads of a process ran, not for whom. Kinds of request differ: a
decision tree uses no pool, a convolution keeps all of it busy. The rates are learned like watts are
(:class:`~ecolyzer_otel.ledger.intensity.Intensity`), with pool seconds for joules and seconds in flight for
activity, and used as weights of the same kind: what the pool ran is what is divided. Until they are trusted, pool
time goes by overlap.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from ecolyzer_otel.common.curve import Curve
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.live import Live

__all__ = ["Pools"]

#: Part of a pool's time that no request of its process explains.
_NOISE: Final = 0.02


class _Open:
    """Seconds in flight by kind since the pool's clock was last looked at."""

    __slots__ = ("seconds", "squares", "start_ns")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.seconds: dict[Hashable, float] = {}
        self.squares: dict[Hashable, float] = {}


class Pools:
    """The rates of all processes together: a model uses its pool alike in each."""

    __slots__ = ("_open", "_rates")

    def __init__(self) -> None:
        self._rates = Intensity(learn_idle=False)
        self._open: dict[int, _Open] = {}

    def weights(self, live: Sequence[Live]) -> list[float] | None:
        """Pool seconds that a second in flight of each request is worth, relatively; None if unknown."""
        if not self._rates.trusted:
            return None
        mean = self._rates.mean_watts
        known = [self._rates.watts_of(one.record.kind) for one in live]
        return [mean if rate is None else rate for rate in known]

    def learn(self, pid: int, pool: Curve, live: Sequence[Live], start_ns: int, end_ns: int) -> None:
        """A closed interval in which ``live``, all of process ``pid``, were in flight."""
        window = self._open.get(pid)
        if window is None:
            window = self._open[pid] = _Open(start_ns)
        for one in live:
            seconds = one.overlap_ns(start_ns, end_ns) / 1e9
            if seconds > 0.0:
                kind = one.record.kind
                window.seconds[kind] = window.seconds.get(kind, 0.0) + seconds
                window.squares[kind] = window.squares.get(kind, 0.0) + seconds * seconds
        last = pool.last_ns(end_ns)
        if last is not None and last > window.start_ns:
            del self._open[pid]
            if window.seconds:
                self._observe(window, pool.growth(window.start_ns, end_ns))

    def _observe(self, window: _Open, pool: float) -> None:
        rates = self._rates
        total = sum(window.seconds.values())
        rates.update_mean(pool, total)
        columns: dict[int, float] = {}
        own = 0.0
        for kind, seconds in window.seconds.items():
            column = rates.column(kind)  # of more kinds than there are columns two may have the same
            columns[column] = columns.get(column, 0.0) + seconds
            own += rates.scale(column) ** 2 * window.squares[kind]
        expected = sum([rates.watts[column] * seconds for column, seconds in columns.items()])
        noise = (_NOISE * pool) ** 2 + 1e-12
        variance = rates.spread * own + noise
        rates.match_spread((pool - expected) ** 2 / variance, rates.spread * own / variance)
        rates.observe(columns, pool, own, noise, (pool - rates.mean_watts * total, pool))

    def forget(self, pid: int) -> None:
        """A process that is gone."""
        self._open.pop(pid, None)
