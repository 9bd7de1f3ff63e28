"""CPU time of calls that share one thread: greenlets, and coroutines of one event loop.

The clock of a thread cannot separate them. A call that ran alone gets the growth of the clock between its begin and
its end. While several are open, each instant of the thread's clock is divided equally among them, so that together
they never get more than the thread used.
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
    """How far the clock of a thread is divided, and the parts of its open calls, by their id and begin."""

    reach: int
    parts: Mapping[tuple[int, int], int]


class _Member(NamedTuple):
    """A call in the clock of its thread, and whether it is still open."""

    call: Call
    running: bool


class ThreadShares:
    """Own CPU nanoseconds of calls. Keeps one number per open call, and nothing of threads without open calls."""

    def __init__(self) -> None:
        self._threads: dict[int, _Thread] = {}

    def needed(self, done: Sequence[Call], open_calls: Sequence[Call]) -> bool:
        """Whether calls shared a thread, so that their own clocks are wrong; ``done`` in the order of ends."""
        return bool(self._threads) or not _one_after_the_other(done, open_calls)

    def spent(self, done: Sequence[Call], open_calls: Sequence[Call], clocks: Mapping[int, int]) -> dict[int, int]:
        """Returns the CPU nanoseconds of each call, by its ``id``.

        Args:
            done: calls that have finished since the last time.
            open_calls: calls that have a start and have not finished.
            clocks: the present clocks of threads, by ``ident``; some may be absent.
        """
        threads: dict[int, list[_Member]] = defaultdict(list)
        for call in done:
            threads[call.thread].append(_Member(call, running=False))
        for call in open_calls:
            threads[call.thread].append(_Member(call, running=True))
        result: dict[int, int] = {}
        before, self._threads = self._threads, {}
        for thread, calls in threads.items():
            previous = before.get(thread)
            for group in _groups(calls):
                result.update(self._divide(thread, group, previous, clocks.get(thread, 0)))
        return result

    def _divide(
        self, thread: int, group: list[_Member], previous: _Thread | None, clock: int
    ) -> Iterator[tuple[int, int]]:
        """Divide the thread's clock among calls that were open at the same time."""
        if len(group) == 1 and not group[0].running and previous is None:
            call = group[0].call
            return iter([(id(call), max(0, call.cpu_ns))])
        begin = previous.reach if previous is not None else 0
        ends = [call.cpu_start_ns + max(0, call.cpu_ns) for call, running in group if not running]
        reach = max([begin, *ends, *([clock] if any(running for _, running in group) else [])])
        parts = [
            (max(begin, call.cpu_start_ns), reach if running else call.cpu_start_ns + max(0, call.cpu_ns))
            for call, running in group
        ]
        seconds = equal_seconds([part if part[0] < part[1] else None for part in parts])
        before = previous.parts if previous is not None else {}
        keys = [(id(call), call.start_ns) for call, _ in group]
        spent = {key: before.get(key, 0) + round(share * 1e9) for key, share in zip(keys, seconds, strict=True)}
        if any(running for _, running in group):
            still_open = {key: spent[key] for key, (_, running) in zip(keys, group, strict=True) if running}
            self._threads[thread] = _Thread(reach, still_open)
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


def _groups(calls: list[_Member]) -> Iterator[list[_Member]]:
    """Calls of one thread in groups that overlap on the wall clock; an open call has no end.

    A new thread may have the identifier of one that has ended, and its CPU clock started at 0: only calls that were
    open at the same time can have shared a thread.
    """
    group: list[_Member] = []
    reach = 0
    endless = False
    for call, running in sorted(calls, key=lambda one: one.call.start_ns):
        if group and not endless and call.start_ns >= reach:
            yield group
            group = []
        group.append(_Member(call, running))
        endless = endless or running
        reach = max(reach, call.end_ns)
    if group:
        yield group
