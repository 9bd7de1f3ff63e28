"""The use of native pool threads by kind of request: pool seconds per second in flight, learned.

The operating system reports how long the native threads of a process ran, but not for which request. Kinds of
request differ: a decision tree uses no pool, a convolution keeps all of it busy. The rates are learned like watts
(:class:`~ecolyzer_otel.ledger.intensity.Intensity`), with pool seconds in place of joules and seconds in flight in
place of activity. They are only used as weights to divide the measured pool time. Until they are trusted, pool time
is divided by overlap.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from ecolyzer_otel.common.curve import Curve
from ecolyzer_otel.ledger.intensity import Intensity
from ecolyzer_otel.ledger.live import Live

__all__ = ["Pools"]

#: Standard deviation of the pool time that no request explains, relative to the pool time.
_NOISE: Final = 0.02


class _Open:
    """Seconds in flight by kind since the last sample of the pool's clock."""

    __slots__ = ("seconds", "squares", "start_ns")

    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.seconds: dict[Hashable, float] = {}
        self.squares: dict[Hashable, float] = {}


class Pools:
    """The rates of all processes together: a model is expected to use its pool alike in each."""

    __slots__ = ("_open", "_rates")

    def __init__(self) -> None:
        self._rates = Intensity(learn_idle=False)
        self._open: dict[int, _Open] = {}

    def weights(self, live: Sequence[Live]) -> list[float] | None:
        """Returns the relative pool time of each request per second in flight; None while rates are not trusted."""
        if not self._rates.trusted:
            return None
        mean = self._rates.mean_watts
        rates = [self._rates.watts_of(one.record.kind) for one in live]
        return [mean if rate is None else rate for rate in rates]

    def learn(self, pid: int, pool: Curve, live: Sequence[Live], start_ns: int, end_ns: int) -> None:
        """Learn from a closed interval in which ``live``, the requests of process ``pid``, were in flight."""
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
            column = rates.column(kind)  # two kinds may share one if there are more kinds than columns
            columns[column] = columns.get(column, 0.0) + seconds
            own += rates.scale(column) ** 2 * window.squares[kind]
        expected = sum([rates.watts[column] * seconds for column, seconds in columns.items()])
        noise = (_NOISE * pool) ** 2 + 1e-12
        variance = rates.spread * own + noise
        rates.match_spread((pool - expected) ** 2 / variance, rates.spread * own / variance)
        rates.observe(columns, pool, own, noise, (pool - rates.mean_watts * total, pool))

    def forget(self, pid: int) -> None:
        """Drop a process that has ended."""
        self._open.pop(pid, None)
