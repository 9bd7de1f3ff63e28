"""The thread that fetches one source's figures, and its interface to the meter."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from ecolyzer_otel.common.backoff import Backoff
from ecolyzer_otel.impact.live.cache import Cache, Cached
from ecolyzer_otel.impact.live.figure import Figure, Problem, check_age, clock_time
from ecolyzer_otel.impact.live.history import History
from ecolyzer_otel.impact.live.provider import Provider
from ecolyzer_otel.impact.live.tokens import redact

__all__ = ["LiveGrid", "Pace"]

_log = logging.getLogger(__name__)

#: Longest sleep in seconds: the monotonic clock stops during suspend, and the wall clock may be set.
_LONGEST_SLEEP: Final = 300.0
#: Each wait is extended by up to this part of it, so that meters do not all fetch in the same second.
_JITTER: Final = 0.05
_NEVER: Final = float("inf")
#: One fetch at a time per source, place and cache of this process; a second one finds the result in the cache.
_fetch_locks: dict[str, threading.Lock] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fetch_locks.clear)  # one may have been held


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: ``refresh`` between two fetches, ``backoff_first`` to ``backoff_most`` after failures."""

    refresh: float
    backoff_first: float = 5.0
    backoff_most: float = 900.0


class LiveGrid:
    """Figures of one source: fetched by one daemon thread, read from any thread.

    That thread calls ``on_problem`` with one line per new kind of fault, and once when the source has recovered; by
    default it logs.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        key: str,
        pace: Pace,
        max_age: float,
        cache: Cache,
        fallback: str,
        first: Sequence[Figure] = (),
        clock: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.on_problem: Callable[[str], None] = _log.warning
        self._default = self.on_problem
        self._provider = provider
        self._key = key
        self._pace = pace
        self._max_age = max_age
        self._cache = cache
        self._fallback = fallback
        self._clock = clock
        self._uniform = uniform
        self._history = History(first, max_age, fixed=provider.fixed)
        self._outcomes: dict[str, int] = {}
        if first:  # counted as a fetch: alerts on missing fetches need a first one
            self._count("ok")
        self._fault: str | None = None
        self._reported: set[str] = set()
        self._backoff = Backoff(pace.backoff_first, pace.backoff_most)
        self._fetched_s = -_NEVER
        self._due_s = -_NEVER
        self._last_s = -_NEVER
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._adopt(clock())

    def at(self, unix_s: float) -> Figure | None:
        """The figure that is valid at that Unix time; None: use the bundled one. Never blocks, never raises."""
        return self._history.at(unix_s)

    @property
    def source(self) -> str:
        """The source's name, short enough for a metric label."""
        return self._provider.source

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Number of fetches by outcome since the start: ``ok``, or the reason why there was no figure."""
        return self._outcomes  # replaced, never changed, by the thread

    @property
    def problem(self) -> str | None:
        """The present fault with its remedy and the figure used meanwhile, in one line; None without a fault."""
        now = self._clock()
        fault = self._fault
        if fault is None and len(self._history) and self.at(now) is None:
            fault = f"{self._key}: {self.source} has no figure for this time"
        return None if fault is None else f"{fault}; {self._in_force(now)}"

    def start(self) -> None:
        """Begin to fetch in the background. A second call does nothing, nor does one in a forked child."""
        if self._thread is not None or self._stop.is_set() or os.getpid() != self._pid:
            return
        self._thread = threading.Thread(target=self._run, name="ecolyzer-live-grid", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 1.0) -> None:
        """End the thread, waiting at most ``timeout`` seconds for it; figures stay. Idempotent."""
        if os.getpid() != self._pid:
            return  # a forked child has no such thread, and may have inherited a locked lock
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                sleep = self._cycle()
            except Exception as error:  # noqa: BLE001 - a fault in a source must not end the thread
                self._failed(Problem("error", f"internal error ({type(error).__name__})", "please report it"))
                sleep = self._due_s - self._clock()
            self._stop.wait(min(max(sleep, 0.01), _LONGEST_SLEEP))

    def _cycle(self) -> float:
        """Fetch if that is due; returns the seconds until the next fetch."""
        now = self._clock()
        if now < self._last_s - 1.0 and self._due_s < _NEVER:
            self._due_s = min(self._due_s, now + self._pace.refresh)  # the clock was set back
        self._last_s = now
        if now >= self._due_s:
            with _fetch_locks.setdefault(self._cache.path, threading.Lock()) if self._cache.path else nullcontext():
                if not self._adopt(now) or now >= self._due_s:
                    self._fetch(now)
        self._report_expiry()
        return self._due_s - self._clock()

    def _fetch(self, now_s: float) -> None:
        try:
            figures = self._provider.fetch(now_s)
            if figures is None:
                self._due_s = self._after(now_s, None)
                return
            now_s = self._clock()
            self._take(figures, now_s)
        except Problem as problem:
            self._failed(problem)

    def _take(self, figures: Sequence[Figure], now_s: float) -> None:
        """Use fetched figures. Raises Problem for figures that are not plausible."""
        if self._provider.replaces:
            self._history = History(figures, self._max_age, fixed=self._provider.fixed)
        else:
            if not figures:
                raise Problem("no_data", "the answer contains no figure")
            check_age(figures[-1], now_s, self._max_age)
            self._history = self._history.merged(figures)
            self._cache.write(now_s, figures)
        self._fetched_s = now_s
        self._backoff.succeed()
        self._count("ok")
        self._recovered()
        self._due_s = self._after(now_s, self._history.newest)

    def _after(self, now_s: float, newest: Figure | None) -> float:
        """Unix time of the next fetch: ``refresh`` from now, or when the newest figure ends, with some jitter."""
        wait = self._pace.refresh
        if newest is not None and newest.until_s is not None and newest.until_s > now_s:
            wait = min(wait, newest.until_s - now_s)
        wait = max(wait, self._provider.floor_s)
        return now_s + wait + self._uniform(0.0, _JITTER * wait)

    def _adopt(self, now_s: float) -> bool:
        """Use the cache's figures where they are newer; returns whether they replace a fetch."""
        found: Cached | None = self._cache.read()
        if found is None or not self._fetched_s < found.fetched_s <= now_s + 1.0 or not found.figures:
            return False
        try:
            check_age(found.figures[-1], now_s, self._max_age)
        except Problem:
            return False
        self._history = self._history.merged(found.figures)
        self._fetched_s = found.fetched_s
        self._due_s = self._after(found.fetched_s, found.figures[-1])
        if now_s < self._due_s:
            self._backoff.succeed()
            self._recovered()
        return True

    def _failed(self, problem: Problem) -> None:
        self._count(problem.outcome)
        now = self._clock()
        wait = max(
            self._uniform(0.0, self._backoff.fail()), problem.retry_after or 0.0, self._pace.backoff_first * 0.2
        )
        self._due_s = _NEVER if problem.permanent else now + wait
        text = f"{problem.text}; {problem.remedy}" if problem.remedy else problem.text
        self._fault = self._clean(f"{self._key}: {self.source}: {text}")
        self._report(problem.outcome, f"{self._fault}; {self._in_force(now)}")

    def _recovered(self) -> None:
        self._fault = None
        if self._reported:
            self._reported = set()
            self._notify(self._clean(f"{self._key}: {self.source} delivers figures again"), recovered=True)

    def _report_expiry(self) -> None:
        """Report once that all figures have become too old."""
        now = self._clock()
        if len(self._history) and self.at(now) is None:
            self._report("expired", self.problem or "")

    def _report(self, kind: str, text: str) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            self._notify(text, recovered=False)

    def _notify(self, text: str, *, recovered: bool) -> None:
        callback = self.on_problem
        try:
            if recovered and callback is self._default:
                _log.info("%s", text)
            elif callback is self._default:
                _log.warning("%s", text)
            else:
                callback(text)
        except Exception:  # noqa: BLE001 - a broken callback must not end the thread
            _log.debug("the callback for problems failed", exc_info=True)

    def _in_force(self, now_s: float) -> str:
        figure = self.at(now_s)
        if figure is None:
            return self._fallback
        if self._provider.fixed:
            return f"its {figure.grams_per_kwh:g} g/kWh are used"
        until_s = figure.age_from_s + self._max_age
        return f"its figure of {clock_time(figure.from_s)} is used until {clock_time(until_s)}"

    def _count(self, outcome: str) -> None:
        if outcome == "ok" and self._provider.fixed:
            return  # a figure that is always valid never expires: alerts on its age would be wrong
        self._outcomes = {**self._outcomes, outcome: self._outcomes.get(outcome, 0) + 1}

    def _clean(self, text: str) -> str:
        """One line of bounded length, without secrets."""
        text = redact(text, self._provider.secrets)
        return "".join(letter if letter.isprintable() else " " for letter in text)[:500]
