"""The observations of a period from Prometheus, computed from the samples themselves.

``increase()`` extrapolates to the edges of its window and never counts the first value of a series, so that a
service with many short-lived label sets loses most of them. Here the last sample of each step is read
(``last_over_time``) and the differences are added. A series that begins after its meter was first scraped counts
from 0. Where a meter restarts or is first seen, all samples of the step are read. Growth that no scrape recorded
stays unknown, and a note states it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.journal import GAUGES
from ecolyzer_otel.report.growth import Growth, Key, Window
from ecolyzer_otel.report.observations import Gatherer, Observations, Series, Source, Span
from ecolyzer_otel.report.prometheus import KEY, Prometheus, Sampled
from ecolyzer_otel.report.scraped import counters, labels_of, matchers, meter_of
from ecolyzer_otel.report.units import amount, moment

__all__ = ["from_prometheus"]

#: Points requested in one range query; Prometheus refuses more than 11 000.
_CHUNK: Final = 1000
#: How far before the period the last value of a series is searched.
_LOOK_BACK: Final = 86400.0
#: Most windows of samples that are read; beyond, a restart loses the growth since the last step.
_MAX_WINDOWS: Final = 300


def from_prometheus(
    server: Prometheus, since: float, until: float, service: str | None = None, selector: str = ""
) -> Observations:
    """The observations of a period from ``server``. ``selector``: further label matchers (``job="ecolyzer"``).

    Raises:
        ConfigError: the server does not answer, is no Prometheus, or holds nothing of that period.
    """
    step = step_seconds(since, until)
    gatherer = Gatherer(since, until, Source("prometheus", server.address, step), service)
    reader = _Reader(server, since, until, step, f"{{{selector}}}" if selector else "", gatherer)
    reader.find_meters()
    for start, end in reader.chunks():
        reader.read(start, end)
    reader.add_notes()
    return gatherer.observations()


def step_seconds(since: float, until: float) -> float:
    """The step of the range queries: an hour; less for short periods, so that there are always some steps."""
    seconds = until - since
    return (
        3600.0 if seconds > 3 * 86400.0 else 600.0 if seconds > 6 * 3600.0 else max(1.0, min(60.0, seconds // 10))
    )


@dataclass(frozen=True, slots=True)
class _Point:
    """One value of a series. ``part`` is ``count`` or ``sum`` for the parts of a histogram, else empty."""

    meter: str
    spec: MetricSpec
    part: str
    labels: Series
    value: float

    @property
    def key(self) -> Key:
        return (self.spec.stem, self.part, *self.labels)


@dataclass(slots=True)
class _Reader:
    """Reads one period from a server."""

    server: Prometheus
    since: float
    until: float
    step: float
    selector: str
    gatherer: Gatherer
    #: The step at which each meter of the period was first seen; minus infinity if that was before the period.
    first_seen: dict[str, float] = field(default_factory=dict)
    last_seen: dict[str, float] = field(default_factory=dict)
    growth: Growth = field(default_factory=Growth)
    interval: float = float("inf")
    windows: int = 0
    restarts: int = 0

    @property
    def first_step(self) -> float:
        """The end of the first step. Steps end with the period, so the first one may be shorter."""
        whole_steps = int((self.until - self.since) / self.step - 1e-9)
        return self.until - whole_steps * self.step

    def chunks(self) -> Iterator[tuple[float, float]]:
        """First and last step of each query."""
        start = self.first_step
        while start <= self.until + 1e-6:
            end = min(start + (_CHUNK - 1) * self.step, self.until)
            yield start, end
            start = end + self.step

    def _range(self, expression: str, start: float, end: float) -> list[Sampled]:
        return self.server.query_range(expression, start, end, self.step)

    def _over(self, function: str, name: str, seconds: float) -> str:
        return f"{function}({name}{self.selector}[{seconds:.0f}s])"

    def find_meters(self) -> None:
        """Find the meters of the period, and their spans from the number of scrapes in each step."""
        name = Metric.BUILD_INFO.prometheus_name
        scrapes: dict[str, list[tuple[float, float]]] = defaultdict(list)
        hosts: dict[str, str] = {}
        for start, end in self.chunks():
            for sampled in self._range(self._over("count_over_time", name, self.step), start, end):
                meter = meter_of(sampled)
                scrapes[meter].extend(sampled.points)
                hosts[meter] = sampled.labels.get("instance", meter)
                facts = {"host": hosts[meter], "version": sampled.labels.get("version", "")}
                self.gatherer.cover(meter, Span(self.until, self.until), facts)
        if not scrapes:
            raise ConfigError(
                KEY,
                f"{self.server.address} holds no ecolyzer metrics from {moment(self.since)} to {moment(self.until)}"
                + (f" with {self.selector}" if self.selector else ""),
                "give another period, or check that it scrapes the meters",
            )
        for meter, points in scrapes.items():
            self.first_seen[meter] = min(t for t, _ in points)
            most = max(number for _, number in points)
            self.interval = min(self.interval, self.step / most)
            self.gatherer.observed.spans[meter] = [
                Span(max(self.since, t - self.step * number / most), t) for t, number in points
            ]
        self._note_double_scrapes(hosts)
        for sampled in self.server.query(self._over("last_over_time", name, _LOOK_BACK), self.since):
            if sampled.points:
                self.first_seen[meter_of(sampled)] = float("-inf")

    def _note_double_scrapes(self, hosts: dict[str, str]) -> None:
        by_host = defaultdict(list)
        for meter, host in hosts.items():
            by_host[host].append(meter)
        for host, meters in by_host.items():
            ends = [{span.end for span in self.gatherer.observed.spans[meter]} for meter in meters]
            if len(meters) > 1 and set.intersection(*ends):
                self.gatherer.note(
                    "severe",
                    f"{host} is scraped more than once at the same time ({'; '.join(sorted(meters))}): its figures "
                    "are counted once for each of these. Choose one with --selector.",
                )

    def read(self, start: float, end: float) -> None:
        """Read one chunk of steps: gauges and counters, then both in the order of time."""
        if start == self.first_step:
            self._read_baseline()
        gauges: dict[float, list[_Point]] = defaultdict(list)
        for spec in GAUGES:
            self._read_last(gauges, spec, spec.prometheus_name, "", start, end)
        steps: dict[float, list[_Point]] = defaultdict(list)
        for spec, name, part in counters():
            self._read_last(steps, spec, name, part, start, end)
        meters_to_read = self._restarted_or_new(start, end)
        for t in sorted(set(gauges) | set(steps)):
            span = Span(max(self.since, t - self.step), t)
            for point in gauges[t]:
                self.gatherer.gauge(point.meter, point.spec, point.labels, point.value, span)
            windows = self._windows_at(t, steps[t], meters_to_read.get(t, set()))
            for point in steps[t]:
                increase = self.growth.advance(point.meter, point.key, point.value, windows.get(point.meter))
                self._add(point, increase, span)
            present = {point.meter for point in steps[t]}
            self.growth.register(present)
            self.last_seen.update(dict.fromkeys(present, t))

    def _read_last(
        self,
        steps: dict[float, list[_Point]],
        spec: MetricSpec,
        name: str,
        part: str,
        start: float,
        end: float,
    ) -> None:
        """Add the last value of each series in each step to ``steps``."""
        for sampled in self._range(self._over("last_over_time", name, self.step), start, end):
            meter, labels = meter_of(sampled), labels_of(spec, sampled)
            for t, value in sampled.points:
                steps[t].append(_Point(meter, spec, part, labels, value))

    def _windows_at(self, t: float, step: list[_Point], meters: set[str]) -> dict[str, Window | None]:
        """All samples of the meters that restarted, returned or are new in a step; None beyond ``_MAX_WINDOWS``."""
        wanted = set(meters)
        for point in step:
            away = t - self.last_seen.get(point.meter, t) > 1.5 * self.step
            if away or self.growth.has_reset(point.meter, point.key, point.value):
                wanted.add(point.meter)
        windows = {meter: self._read_window(meter, t) for meter in wanted}
        self.restarts += sum(
            self.growth.find_restarts(meter, window) for meter, window in windows.items() if window is not None
        )
        return windows

    def _add(self, point: _Point, increase: float, span: Span) -> None:
        if point.part == "":
            self.gatherer.increment(point.meter, point.spec, point.labels, increase, span)
        elif increase > 0.0:
            self.gatherer.histogram(point.meter, point.spec, point.labels, point.part, increase)

    def _read_baseline(self) -> None:
        """Read the counters' values at the start of the period."""
        earlier = {meter for meter, first in self.first_seen.items() if first < self.since}
        # A series that the last scrape no longer holds is from before a restart, and is no baseline.
        away = earlier - self._set_baseline(earlier, lambda name: f"{name}{self.selector}")
        if away:
            self._set_baseline(away, lambda name: self._over("last_over_time", name, _LOOK_BACK))
            # Their samples show whether they restarted in between.
            self.last_seen.update(dict.fromkeys(away, float("-inf")))

    def _set_baseline(self, meters: set[str], expression: Callable[[str], str]) -> set[str]:
        """Set the baseline of these meters' counters; returns the meters that were found."""
        found = set()
        for spec, name, part in counters() if meters else ():
            for sampled in self.server.query(expression(name), self.since):
                meter = meter_of(sampled)
                if sampled.points and meter in meters:
                    found.add(meter)
                    key = (spec.stem, part, *labels_of(spec, sampled))
                    self.growth.set_baseline(meter, key, sampled.points[-1][1])
        return found

    def _restarted_or_new(self, start: float, end: float) -> dict[float, set[str]]:
        """By step, the meters that restarted or are first seen: all of their samples must be read."""
        found: dict[float, set[str]] = defaultdict(set)
        for spec in (Metric.METER_CPU, Metric.DEVICE_ENERGY):
            # Five minutes longer than the step, to include the pair of samples around its start.
            over = self._over("resets", spec.prometheus_name, self.step + 300.0)
            for sampled in self._range(over, start, end):
                for t, number in sampled.points:
                    if number > 0.0:
                        found[t].add(meter_of(sampled))
        for meter, first in self.first_seen.items():
            if start - self.step / 2 < first < end + self.step / 2:  # servers round to milliseconds
                found[first].add(meter)
        return found

    def _read_window(self, meter: str, t: float) -> Window | None:
        """Read all samples of a meter in the step that ends at ``t``."""
        self.windows += 1
        if self.windows > _MAX_WINDOWS:
            return None
        names = "|".join([counter.name for counter in counters()] + [Metric.DEVICE_POWER.prometheus_name])
        own = self.selector[1:-1]
        chosen = ",".join([f'__name__=~"{names}"', *([own] if own else []), *matchers(meter)])
        window = Window(new=self.first_seen[meter] == t)
        by_name = {counter.name: counter for counter in counters()}
        for sampled in self.server.query(f"{{{chosen}}}[{self.step:.0f}s]", t):
            if meter_of(sampled) != meter:
                continue
            counter = by_name.get(sampled.labels.get("__name__", ""))
            points = [(at, value) for at, value in sampled.points if at > t - self.step and at >= self.since]
            if counter is not None:
                key = (counter.spec.stem, counter.part, *labels_of(counter.spec, sampled))
                window.samples[key] = points
            elif points:
                window.watts += points[0][1]
        return window

    def add_notes(self) -> None:
        """Add notes on the limits of this source."""
        note = self.gatherer.note
        note(
            "remark",
            f"Read in steps of {amount(self.step, 's')} from scrapes about {amount(self.interval, 's')} apart. "
            "Growth between the last scrape of a meter and its end is not included "
            f"({self.restarts} restarts found).",
        )
        for meter, joules in sorted(self.growth.left_out.items()):
            if joules > 0.0:
                note(
                    "warning",
                    f"{meter} was first seen inside the period, with {amount(joules, 'Wh')} counted before: these "
                    "are left out, because they may be from before the period or before Prometheus kept samples.",
                )
        if self.windows > _MAX_WINDOWS:
            note("warning", "There were so many restarts that for some the growth since the last step is lost.")
        for text in sorted(self.server.warnings):
            note("warning", f"Prometheus warns: {text}")
        begin = self.gatherer.observed.covered[0].start
        if begin > self.since + self.step:
            kept = self.server.retention()
            note(
                "warning",
                f"There are no readings before {moment(begin)}, though the period begins {moment(self.since)}"
                + (f" (Prometheus keeps {kept})." if kept else "."),
            )
