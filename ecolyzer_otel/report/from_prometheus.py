"""The figures of a period from Prometheus, from the samples themselves.

``increase()`` extrapolates to the edges of its window and never counts a series' first value, so that a service of
many short-lived label sets loses most of them. Here the last sample of each step is read (``last_over_time``) and
differences are added; a series born while its meter was known counts from 0; where a meter restarted, or is first
seen, all samples of the step are read. What no scrape saw stays unknown, and is stated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.metrics import Metric, MetricSpec
from ecolyzer_otel.export.journal import GAUGES
from ecolyzer_otel.report.growth import Growth, Window
from ecolyzer_otel.report.observations import Gatherer, Observations, Series, Source
from ecolyzer_otel.report.prometheus import KEY, Prometheus, Sampled
from ecolyzer_otel.report.scraped import counters, labels_of, matchers, meter_of
from ecolyzer_otel.report.units import amount, moment

__all__ = ["from_prometheus"]

#: Points asked for in one range query; Prometheus refuses more than 11 000.
_CHUNK: Final = 1000
#: How far before the period a series' last value is looked for.
_LOOK_BACK: Final = 86400.0
#: Steps at which all samples are read; beyond, a restart costs what grew since the last step.
_MOST_WINDOWS: Final = 300


def from_prometheus(
    server: Prometheus, since: float, until: float, service: str | None = None, selector: str = ""
) -> Observations:
    """What ``server`` tells of a period. ``selector``: further label matchers (``job="ecolyzer"``).

    Raises:
        ConfigError: it does not answer, is no Prometheus, or holds nothing of that time.
    """
    step = step_seconds(since, until)
    run = _Run(server, since, until, step, f"{{{selector}}}" if selector else "")
    run.gatherer = Gatherer(since, until, Source("prometheus", server.where, step), service)
    run.meters()
    for start, end in run.chunks():
        run.read(start, end)
    run.tell()
    return run.gatherer.observations()


def step_seconds(since: float, until: float) -> float:
    """An hour; less for short periods, so that there are always some steps."""
    seconds = until - since
    return (
        3600.0 if seconds > 3 * 86400.0 else 600.0 if seconds > 6 * 3600.0 else max(1.0, min(60.0, seconds // 10))
    )


@dataclass(slots=True)
class _Run:
    """One reading of a server."""

    server: Prometheus
    since: float
    until: float
    step: float
    selector: str
    gatherer: Gatherer = field(init=False)
    #: The first step at which a meter of the period was seen; those known before it are at its start.
    first_seen: dict[str, float] = field(default_factory=dict)
    last_seen: dict[str, float] = field(default_factory=dict)
    growth: Growth = field(default_factory=Growth)
    interval: float = float("inf")
    windows: int = 0
    restarts: int = 0

    @property
    def first_step(self) -> float:
        """The end of the first step: steps end with the period, so the first one may be shorter."""
        whole = int((self.until - self.since) / self.step - 1e-9)
        return self.until - whole * self.step

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

    def meters(self) -> None:
        """Which meters there were and when each was heard from, by how often it was scraped."""
        name = Metric.BUILD_INFO.prometheus_name
        scrapes: dict[str, list[tuple[float, float]]] = defaultdict(list)
        hosts: dict[str, str] = {}
        for start, end in self.chunks():
            for sampled in self._range(self._over("count_over_time", name, self.step), start, end):
                meter = meter_of(sampled)
                scrapes[meter].extend(sampled.points)
                hosts[meter] = sampled.labels.get("instance", meter)
                version = sampled.labels.get("version", "")
                self.gatherer.cover(meter, self.until, self.until, {"host": hosts[meter], "version": version})
        if not scrapes:
            raise ConfigError(
                KEY,
                f"{self.server.where} holds no ecolyzer metrics from {moment(self.since)} to {moment(self.until)}"
                + (f" with {self.selector}" if self.selector else ""),
                "give another time, or check that it scrapes the meters",
            )
        for meter, points in scrapes.items():
            self.first_seen[meter] = min(t for t, _ in points)
            most = max(number for _, number in points)
            self.interval = min(self.interval, self.step / most)
            self.gatherer.seen.spans[meter] = [
                (max(self.since, t - self.step * number / most), t) for t, number in points
            ]
        self._twice(hosts)
        for sampled in self.server.query(self._over("last_over_time", name, _LOOK_BACK), self.since):
            if sampled.points:
                self.first_seen[meter_of(sampled)] = float("-inf")

    def _twice(self, hosts: dict[str, str]) -> None:
        by_host = defaultdict(list)
        for meter, host in hosts.items():
            by_host[host].append(meter)
        for host, meters in by_host.items():
            ends = [{end for _, end in self.gatherer.seen.spans[meter]} for meter in meters]
            if len(meters) > 1 and set.intersection(*ends):
                self.gatherer.note(
                    "severe",
                    f"{host} is scraped more than once at the same time ({'; '.join(sorted(meters))}): its figures "
                    "count as often. Choose one with --selector.",
                )

    def read(self, start: float, end: float) -> None:
        """One chunk of steps: gauges and counters, then both in the order of time."""
        if start == self.first_step:
            self._baseline()
        gauges: dict[float, list[tuple[str, MetricSpec, Series, float]]] = defaultdict(list)
        for spec in GAUGES:
            for sampled in self._range(self._over("last_over_time", spec.prometheus_name, self.step), start, end):
                meter, labels = meter_of(sampled), labels_of(spec, sampled)
                for t, value in sampled.points:
                    gauges[t].append((meter, spec, labels, value))
        steps: dict[float, list[tuple[str, MetricSpec, str, Series, float]]] = defaultdict(list)
        for spec, name, part in counters():
            for sampled in self._range(self._over("last_over_time", name, self.step), start, end):
                meter, labels = meter_of(sampled), labels_of(spec, sampled)
                for t, value in sampled.points:
                    steps[t].append((meter, spec, part, labels, value))
        windows = self._windows(start, end)
        for t in sorted(set(gauges) | set(steps)):
            begin = max(self.since, t - self.step)
            for meter, spec, labels, value in gauges[t]:
                self.gatherer.gauge(meter, spec, labels, value, begin, t)
            raw = self._windows_at(t, steps[t], windows.get(t, set()))
            for meter, spec, part, labels, value in steps[t]:
                grown = self.growth.to(meter, (spec.stem, part, *labels), value, raw.get(meter))
                self._give(meter, spec, part, labels, grown, begin, t)
            seen = {meter for meter, *_ in steps[t]}
            self.growth.settle(seen)
            self.last_seen.update(dict.fromkeys(seen, t))

    def _windows_at(
        self, t: float, step: list[tuple[str, MetricSpec, str, Series, float]], told: set[str]
    ) -> dict[str, Window | None]:
        """All samples of the meters that restarted, came back or are new in a step; None for what is too much."""
        wanted = set(told)
        for meter, spec, part, labels, value in step:
            away = t - self.last_seen.get(meter, t) > 1.5 * self.step
            if away or self.growth.fell(meter, (spec.stem, part, *labels), value):
                wanted.add(meter)
        windows = {meter: self._raw(meter, t) for meter in wanted}
        self.restarts += sum(self.growth.restart(meter, one) for meter, one in windows.items() if one is not None)
        return windows

    def _give(
        self, meter: str, spec: MetricSpec, part: str, labels: Series, grown: float, begin: float, t: float
    ) -> None:
        if part == "":
            self.gatherer.grow(meter, spec, labels, grown, begin, t)
        elif grown > 0.0:
            sums = self.gatherer.seen.totals[f"{spec.stem}_{part}"]
            series = (meter, *labels)
            service = self.gatherer.seen.service
            if service is None or labels[spec.labels.index("service")] == service:
                sums[series] += grown

    def _baseline(self) -> None:
        """The counters' values when the period begins."""
        known = {meter for meter, first in self.first_seen.items() if first < self.since}
        # What a scrape no longer shows is of an earlier life, and no baseline.
        away = known - self._begin(known, lambda name: f"{name}{self.selector}")
        if away:
            self._begin(away, lambda name: self._over("last_over_time", name, _LOOK_BACK))
            # Whether they restarted meanwhile, their samples tell.
            self.last_seen.update(dict.fromkeys(away, float("-inf")))

    def _begin(self, meters: set[str], expression: Callable[[str], str]) -> set[str]:
        found = set()
        for spec, name, part in counters() if meters else ():
            for sampled in self.server.query(expression(name), self.since):
                meter = meter_of(sampled)
                if sampled.points and meter in meters:
                    found.add(meter)
                    self.growth.start(meter, (spec.stem, part, *labels_of(spec, sampled)), sampled.points[-1][1])
        return found

    def _windows(self, start: float, end: float) -> dict[float, set[str]]:
        """The meters of which all samples must be read, by step: those that restarted or are first seen."""
        found: dict[float, set[str]] = defaultdict(set)
        for spec in (Metric.METER_CPU, Metric.DEVICE_ENERGY):
            # Some minutes more, for the pair of samples on both sides of the step's begin.
            over = self._over("resets", spec.prometheus_name, self.step + 300.0)
            for sampled in self._range(over, start, end):
                for t, number in sampled.points:
                    if number > 0.0:
                        found[t].add(meter_of(sampled))
        for meter, first in self.first_seen.items():
            if start - self.step / 2 < first < end + self.step / 2:  # a server rounds to milliseconds
                found[first].add(meter)
        return found

    def _raw(self, meter: str, t: float) -> Window | None:
        """All samples of a meter in the step that ends at ``t``."""
        self.windows += 1
        if self.windows > _MOST_WINDOWS:
            return None
        names = "|".join([name for _, name, _ in counters()] + [Metric.DEVICE_POWER.prometheus_name])
        own = self.selector[1:-1]
        chosen = ",".join([f'__name__=~"{names}"', *([own] if own else []), *matchers(meter)])
        window = Window(new=self.first_seen[meter] == t)
        by_name = {name: (spec, part) for spec, name, part in counters()}
        for sampled in self.server.query(f"{{{chosen}}}[{self.step:.0f}s]", t):
            if meter_of(sampled) != meter:
                continue
            name = sampled.labels.get("__name__", "")
            points = [(at, value) for at, value in sampled.points if at > t - self.step and at >= self.since]
            if name in by_name:
                spec, part = by_name[name]
                key = (spec.stem, part, *labels_of(spec, sampled))
                window.samples[key] = points
            elif points:
                window.watts += points[0][1]
        return window

    def tell(self) -> None:
        """State what this way of reading cannot see."""
        note = self.gatherer.note
        note(
            "remark",
            f"Read in steps of {amount(self.step, 's')} from scrapes about {amount(self.interval, 's')} apart. "
            f"What grew between a meter's last scrape and its end is not seen ({self.restarts} restarts found).",
        )
        for meter, joules in sorted(self.growth.left_out.items()):
            if joules > 0.0:
                note(
                    "warning",
                    f"{meter} was first seen inside the period, with {amount(joules, 'Wh')} counted before: these "
                    "are left out, because they may be from before the period or before Prometheus kept samples.",
                )
        if self.windows > _MOST_WINDOWS:
            note("warning", "So many restarts that some cost what grew since the step before.")
        for text in sorted(self.server.warnings):
            note("warning", f"Prometheus says: {text}")
        begin = self.gatherer.seen.covered[0][0]
        if begin > self.since + self.step:
            kept = self.server.retention()
            note(
                "warning",
                f"There is nothing before {moment(begin)}, though the period begins {moment(self.since)}"
                + (f" (Prometheus keeps {kept})." if kept else "."),
            )
