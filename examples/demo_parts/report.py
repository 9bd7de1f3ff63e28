"""The output of the demo, from ``/metrics`` and from exported spans, and the checks that they agree."""

from __future__ import annotations

import re
from collections.abc import Iterator

from demo_parts.common import SERVICE, DemoError, fetch, wait_for
from demo_parts.receiver import Receiver

SETTLE_SECONDS = 20.0
TOLERANCE = 1e-6
HEADS = ("model", "framework", "dtype")
#: Tables stay within 120 columns.
MAX_NAME = 32


class Metrics:
    """One scrape of ``/metrics``."""

    _LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
    _LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text: str) -> None:
        lines = (self._LINE.match(line) for line in text.splitlines() if not line.startswith("#"))
        self.samples = [
            (line[1], dict(self._LABEL.findall(line[2] or "")), float(line[3])) for line in lines if line
        ]

    def get(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of every sample of this name that has these labels."""
        for found, its, value in self.samples:
            if found == name and all(its.get(key) == text for key, text in labels.items()):
                yield its, value

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels."""
        return sum(value for _, value in self.get(name, **labels))


def scrape(port: int) -> Metrics:
    """Scrape ``/metrics``."""
    return Metrics(fetch(port, "GET", "/metrics").decode())


def digits(values: list[float], significant: int = 3) -> list[str]:
    """Texts with the decimals that the smallest value needs for so many digits; aligned by the point."""
    exponents = [int(f"{value:e}".partition("e")[2]) for value in values if value > 0]
    decimals = max(0, significant - 1 - min(exponents)) if exponents else 0
    return [f"{value:,.{min(decimals, 12)}f}" for value in values]


def table(columns: list[tuple[str, list[str]]], left: int) -> Iterator[str]:
    """Rows of text; the first ``left`` columns start at the left, the others end at the right."""
    widths = [max(len(text) for text in [head, *cells]) for head, cells in columns]
    for row in zip(*([head, *cells] for head, cells in columns), strict=True):
        cells = [
            text.ljust(w) if i < left else text.rjust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()


def requests_table(metrics: Metrics, receiver: Receiver) -> Iterator[str]:
    """One row per model and dtype: the average figures of a request."""
    with receiver.lock:
        rows = sorted(receiver.models.items())
    if not rows:
        raise DemoError("no request was settled")
    columns = [(head, [shortened(key[at]) for key, _ in rows]) for at, head in enumerate(HEADS)]
    columns.append(("requests", [f"{totals.spans:,}" for _, totals in rows]))
    columns.append(("J", digits([totals.joules / totals.spans for _, totals in rows])))
    columns.append(("µgCO2e", digits([totals.grams / totals.spans * 1e6 for _, totals in rows])))
    columns.append(("µL", digits([totals.liters / totals.spans * 1e6 for _, totals in rows])))
    ess = [
        metrics.sum("ecolyzer_ess", per="request", service=SERVICE, **dict(zip(HEADS, key, strict=True)))
        for key, _ in rows
    ]
    columns.append(("ESS", [f"{value:,.0f}" for value in ess]))
    yield from table(columns, left=len(HEADS))


def shortened(name: str) -> str:
    """The end of a long name, which is its most specific part."""
    return name if len(name) <= MAX_NAME else "…" + name[-MAX_NAME + 1 :]


def methods(metrics: Metrics) -> str:
    """The methods of the joules: measured, modelled or both."""
    return ", ".join(sorted({its["method"] for its, _ in metrics.get("ecolyzer_device_energy_joules_total")}))


def same(what: str, one: float, other: float) -> None:
    """Check that both figures agree, relative to 1e-6."""
    if abs(one - other) > TOLERANCE * max(abs(one), abs(other), 1.0):
        raise DemoError(f"the numbers do not add up: {what}: {one!r} differs from {other!r}")


def ledger_lines(metrics: Metrics) -> Iterator[str]:
    """The joules of each device by share, checked against the joules charged to requests."""
    charged = metrics.sum("ecolyzer_energy_joules_total", share="active")
    idle = metrics.sum("ecolyzer_energy_joules_total", share="idle")
    of_devices = metrics.sum("ecolyzer_device_energy_joules_total", share="requests")
    same("active joules of all requests, share of the requests", charged, of_devices)
    same("joules of requests, active and idle", metrics.sum("ecolyzer_request_energy_joules_sum"), charged + idle)
    devices = {its["device"]: its["method"] for its, _ in metrics.get("ecolyzer_device_energy_joules_total")}
    for device, method in sorted(devices.items()):
        shares = {
            share: metrics.sum("ecolyzer_device_energy_joules_total", device=device, share=share)
            for share in ("requests", "process", "host", "idle")
        }
        shares["pending"] = metrics.sum("ecolyzer_device_energy_pending_joules", device=device)
        parts = " + ".join(f"{joules:.2f} {share}" for share, joules in shares.items())
        yield f"  {device}: {sum(shares.values()):.2f} J {method} = {parts}"
    yield f"  of the idle joules, {idle:.2f} are charged to requests in flight"


def wait_until_settled(sent: int, port: int, receiver: Receiver) -> Metrics:
    """Wait for the first scrape that accounts for all requests; returns it.

    An answered HTTP request caused one or more requests of models (several for a picture or a sound): each has a
    span, and all of them are in one trace.
    """
    latest = scrape(port)

    def pending() -> float:
        return latest.sum("ecolyzer_pending_requests", service=SERVICE)

    def accounted() -> bool:
        nonlocal latest
        latest = scrape(port)
        done = sum(outcomes(latest).values())
        return receiver.requests() >= sent and not pending() and receiver.spans() == done

    def error_text() -> str:
        return (
            f"{sent} requests were answered, {receiver.requests()} have spans; {receiver.spans()} spans of models "
            f"were received by OTLP; outcomes: {outcomes(latest)}, {pending():.0f} pending"
        )

    wait_for(accounted, SETTLE_SECONDS, error_text)
    same("requests sent, traces with requests of models", sent, receiver.requests())
    return latest


def outcomes(metrics: Metrics) -> dict[str, float]:
    """The numbers of settled requests, and of requests without joules by reason."""
    found = {"settled": metrics.sum("ecolyzer_requests_total", service=SERVICE)}
    for kind in ("unsettled", "dropped"):
        for its, count in metrics.get(f"ecolyzer_{kind}_requests_total", service=SERVICE):
            found[f"{kind}: {its['reason']}"] = count
    return found


def outcome_lines(metrics: Metrics, sent: int, receiver: Receiver) -> Iterator[str]:
    """One line on the outcome; normally every request is settled."""
    found = outcomes(metrics)
    settled = found.pop("settled")
    rest = "".join(f", {count:.0f} {what} (no joules)" for what, count in found.items() if count)
    yield f"  {sent:,} HTTP requests: {receiver.spans():,} requests of models, {settled:,.0f} settled{rest}"


def span_lines(receiver: Receiver, metrics: Metrics) -> Iterator[str]:
    """The latest span of each model, one of them in full; all checked against ``/metrics``."""
    with receiver.lock:
        models = sorted(receiver.models.items())
    total = sum(totals.joules for _, totals in models)
    same("joules of all spans, joules in /metrics", total, metrics.sum("ecolyzer_request_energy_joules_sum"))
    yield f"  {receiver.spans():,} spans received, {total:.2f} J, as in /metrics. The latest of each model:\n"
    took = [(one.latest.end_time_unix_nano - one.latest.start_time_unix_nano) / 1e6 for _, one in models]
    columns = [
        ("span", [f"{one.attributes['ecolyzer.operation']} {shortened(key[0])}" for key, one in models]),
        ("dtype", [key[2] for key, _ in models]),
        ("trace", [one.latest.trace_id.hex() for _, one in models]),
        ("ms", digits(took)),
        ("J", digits([one.attributes.get("ecolyzer.energy.joules", 0.0) for _, one in models])),
    ]
    yield from table(columns, left=3)
    _, largest = max(models, key=lambda model: model[1].joules / model[1].spans)
    yield f"\n  The one with the most joules in full, {largest.latest.name}:\n"
    for key, value in sorted(largest.attributes.items()):
        yield f"    {key} = {f'{value:.6g}' if isinstance(value, float) else value}"
