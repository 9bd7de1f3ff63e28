"""CPU time of calls that take turns in one thread: greenlets, and coroutines of one event loop.

The clock of a thread cannot separate them. A call that ran alone has what the clock grew between its begin and
its end; where several were open at once, each instant of the thread's clock is divided equally among them, so that
together they never have more than the thread used.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ecolyzer_otel.common.equal import equal_seconds
from ecolyzer_otel.worker.call import Call

__all__ = ["ThreadShares"]


class _Thread(NamedTuple):
    """How far the clock of a thread is divided, and what its open calls have of that (by id and begin)."""

    reach: int
    parts: Mapping[tuple[int, int], int]


class ThreadShares:
    """Own CPU nanoseconds of calls. Remembers only threads that have open calls, and of these calls one number."""

    def __init__(self) -> None:
        self._threads: dict[int, _Thread] = {}

    def needed(self, done: Sequence[Call], open_calls: Sequence[Call]) -> bool:
        """Whether a call may have other than its own clocks say; ``done`` in the order in which they ended."""
        return bool(self._threads) or not _one_after_the_other(done, open_calls)

    def spent(self, done: Sequence[Call], open_calls: Sequence[Call], clocks: Mapping[int, int]) -> dict[int, int]:
        """CPU nanoseconds of each call, by its ``id``.

        Args:
            done: calls that have finished since the last time.
            open_calls: calls whose start is known and that have not finished.
            clocks: the present clock of threads, where known, by ``ident``.
        """
        threads: dict[int, list[tuple[Call, bool]]] = defaultdict(list)
        for call in done:
            threads[call.thread].append((call, False))
        for call in open_calls:
            threads[call.thread].append((call, True))
        result: dict[int, int] = {}
        before, self._threads = self._threads, {}
        for thread, calls in threads.items():
            known = before.get(thread)
            for group in _groups(calls):
                result.update(self._divide(thread, group, known, clocks.get(thread, 0)))
        return result

    def _divide(
        self, thread: int, group: list[tuple[Call, bool]], known: _Thread | None, clock: int
    ) -> Iterator[tuple[int, int]]:
        """Divide the thread's clock among calls that were open at the same time."""
        if len(group) == 1 and not group[0][1] and known is None:
            call = group[0][0]
            return iter([(id(call), max(0, call.cpu_ns))])
        begin = known.reach if known is not None else 0
        ends = [call.cpu_start_ns + max(0, call.cpu_ns) for call, running in group if not running]
        reach = max([begin, *ends, *([clock] if any(running for _, running in group) else [])])
        parts = [
            (max(begin, call.cpu_start_ns), reach if running else call.cpu_start_ns + max(0, call.cpu_ns))
            for call, running in group
        ]
        seconds = equal_seconds([part if part[0] < part[1] else None for part in parts])
        spent = {
            (id(call), call.start_ns): (known.parts.get((id(call), call.start_ns), 0) if known else 0)
            + round(share * 1e9)
            for (call, _), share in zip(group, seconds, strict=True)
        }
        if any(running for _, running in group):
            still = {(id(call), call.start_ns) for call, running in group if running}
            self._threads[thread] = _Thread(reach, {key: spent[key] for key in still})
        return ((key[0], value) for key, value in spent.items())


def _one_after_the_other(done: Sequence[Call], open_calls: Sequence[Call]) -> bool:
    """Whether no two of these were open at once in one thread."""
    ends: dict[int, float] = {}
    for call in done:
        if call.start_ns < ends.get(call.thread, 0):
            return False
        ends[call.thread] = call.end_ns
    for call in open_calls:
        if call.start_ns < ends.get(call.thread, 0):
            return False
        ends[call.thread] = math.inf
    return True


def _groups(calls: list[tuple[Call, bool]]) -> Iterator[list[tuple[Call, bool]]]:
    """Calls of one thread in groups that overlap on the wall clock; an open call has no end.

    A thread that ended may have left its number to another one, whose CPU clock started at 0: only what was open at
    the same time can have taken turns.
    """
    group: list[tuple[Call, bool]] = []
    reach = 0
    endless = False
    for call, running in sorted(calls, key=lambda one: one[0].start_ns):
        if group and not endless and call.start_ns >= reach:
            yield group
            group = []
        group.append((call, running))
        endless = endless or running
        reach = max(reach, call.end_ns)
    if group:
        yield group
