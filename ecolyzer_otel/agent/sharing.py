"""CPU time of calls that take turns in one thread: greenlets, and coroutines of one event loop.

The clock of a thread cannot tell them apart. A call that ran alone has what the clock grew between its begin and
its end; where several were open at once, each instant of the thread's clock is divided equally among them, so that
together they never have more than the thread used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from ecolyzer_otel.ledger.split import equal_seconds
from ecolyzer_otel.request import Call

__all__ = ["ThreadShares"]

#: Finished calls remembered per thread, as long as an older one is open.
_MAX_RECENT: Final = 10_000


class _Past(NamedTuple):
    """A finished call: what it covers on the clock of its thread, and when it ended."""

    cpu: tuple[int, int]
    end_ns: int


class ThreadShares:
    """Own CPU nanoseconds of calls; remembers what finished calls cover while others of their thread are open."""

    def __init__(self) -> None:
        self._past: dict[int, list[_Past]] = {}

    def spent(self, done: Sequence[Call], open_calls: Sequence[Call], clocks: Mapping[int, int]) -> dict[int, int]:
        """CPU nanoseconds of each call, by its ``id``.

        Args:
            done: calls that have finished since the last time, in the order in which they did.
            open_calls: calls whose start is known and that have not finished.
            clocks: the present clock of threads, where known, by ``ident``; an open call of another thread has 0.
        """
        threads: dict[int, tuple[list[Call], list[Call]]] = defaultdict(lambda: ([], []))
        for call in done:
            threads[call.thread][0].append(call)
        for call in open_calls:
            threads[call.thread][1].append(call)
        result: dict[int, int] = {}
        for thread, (finished, running) in threads.items():
            past = self._past.pop(thread, [])
            clock = clocks.get(thread, 0)
            if past or running or _interleaved(finished):
                result.update(_shares(past, finished, running, clock))
            else:
                result.update({id(call): max(0, call.cpu_ns) for call in finished})
            self._remember(thread, past, finished, running)
        return result

    def _remember(self, thread: int, past: list[_Past], finished: list[Call], running: list[Call]) -> None:
        if running:
            first = min(call.start_ns for call in running)
            kept = [*past, *(_Past(_covered(call), call.end_ns) for call in finished)]
            kept = [one for one in kept if one.end_ns > first][-_MAX_RECENT:]
            if kept:
                self._past[thread] = kept


def _covered(call: Call) -> tuple[int, int]:
    return call.cpu_start_ns, call.cpu_start_ns + max(0, call.cpu_ns)


def _interleaved(finished: list[Call]) -> bool:
    """Whether any of these calls of one thread, in the order of their ends, overlaps the one before it."""
    return any(later.start_ns < earlier.end_ns for earlier, later in pairwise(finished))


def _shares(past: list[_Past], finished: list[Call], running: list[Call], clock: int) -> dict[int, int]:
    # A thread that ended may have left its number to another one, whose clock began anew: only what was open at the
    # same time can have taken turns.
    begin = min(call.start_ns for call in (*finished, *running))
    parts = [one.cpu for one in past if one.end_ns > begin]
    first = len(parts)
    calls = [*finished, *running]
    parts += [_covered(call) for call in finished]
    reach = max([clock, *(end for _, end in parts)])
    parts += [(call.cpu_start_ns, max(reach, call.cpu_start_ns)) for call in running]
    seconds = equal_seconds([part if part[0] < part[1] else None for part in parts])
    result = {id(call): round(share * 1e9) for call, share in zip(calls, seconds[first:], strict=True)}
    if not clock:
        result.update({id(call): 0 for call in running})
    return result
