"""What the user is shown, read from ``/metrics`` and from exported spans; checks that it adds up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from demo_parts.common import SERVICE, DemoError, fetch, wait_for
from demo_parts.receiver import Receiver

SETTLE_SECONDS = 20.0
TOLERANCE = 1e-6


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
    """What ``/metrics`` says now."""
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


def requests_table(metrics: Metrics) -> Iterator[str]:
    """One row per model: what a request costs on average."""
    methods = {its["component"]: its["method"] for its, _ in metrics.get("ecolyzer_device_energy_joules_total")}
    rows = []
    for its, count in metrics.get("ecolyzer_request_energy_joules_count", service=SERVICE):
        key = {name: its[name] for name in ("service", "model", "framework")}
        energy = metrics.get("ecolyzer_energy_joules_total", **key)
        used = {methods.get(more["component"], "?") for more, joules in energy if joules > 0}
        rows.append((
            its["model"], its["framework"], used.pop() if len(used) == 1 else "mixed", count,
            metrics.sum("ecolyzer_request_energy_joules_sum", **key) / count,
            metrics.sum("ecolyzer_request_co2e_grams_sum", **key) / count * 1e3,
            metrics.sum("ecolyzer_water_liters_total", **key) / count * 1e3,
            metrics.sum("ecolyzer_ess", per="request", **key),
        ))  # fmt: skip
    if not rows:
        raise DemoError("no request was settled")
    rows.sort()
    columns = [(head, [row[at] for row in rows]) for at, head in enumerate(("model", "framework", "method"))]
    columns.append(("requests", [f"{row[3]:,.0f}" for row in rows]))
    for at, head in enumerate(("J/request", "mgCO2e/request", "mL/request"), start=4):
        columns.append((head, digits([row[at] for row in rows])))
    columns.append(("ESS", [f"{row[7]:,.0f}" for row in rows]))
    yield from table(columns, left=3)


def same(what: str, one: float, other: float) -> None:
    """Both figures, relative to 1e-6."""
    if abs(one - other) > TOLERANCE * max(abs(one), abs(other), 1.0):
        raise DemoError(f"the numbers do not add up: {what}: {one!r} is not {other!r}")


def ledger_lines(metrics: Metrics) -> Iterator[str]:
    """Where the joules of each device went, checked against what the requests were charged."""
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
    yield f"  of the idle joules, {idle:.2f} fell to requests in flight"


def wait_until_settled(sent: int, port: int) -> Metrics:
    """The first scrape that accounts for every request sent."""
    latest = scrape(port)

    def accounted() -> bool:
        nonlocal latest
        latest = scrape(port)
        return sum(outcomes(latest).values()) >= sent

    def why() -> str:
        waiting = latest.sum("ecolyzer_pending_requests", service=SERVICE)
        return f"{sent} requests were answered, accounted for are {outcomes(latest)}, {waiting:.0f} are pending"

    wait_for(accounted, SETTLE_SECONDS, why)
    same("requests sent, requests accounted for", sent, sum(outcomes(latest).values()))
    return latest


def outcomes(metrics: Metrics) -> dict[str, float]:
    """How many requests were settled, and how many got no joules, by reason."""
    found = {"settled": metrics.sum("ecolyzer_requests_total", service=SERVICE)}
    for kind in ("unsettled", "dropped"):
        for its, count in metrics.get(f"ecolyzer_{kind}_requests_total", service=SERVICE):
            found[f"{kind}: {its['reason']}"] = count
    return found


def outcome_lines(metrics: Metrics, sent: int) -> Iterator[str]:
    """One line; normally every request is settled."""
    found = outcomes(metrics)
    settled = found.pop("settled")
    rest = "".join(f", {count:.0f} {what} (no joules)" for what, count in found.items() if count)
    yield f"  {sent:,} sent, {settled:,.0f} settled{rest}"


def span_lines(receiver: Receiver, sent: int, metrics: Metrics) -> Iterator[str]:
    """One span of each model, checked against ``/metrics``."""
    wait_for(
        lambda: receiver.count.total() >= sent, 10, lambda: f"{receiver.count.total()} of {sent} spans came by OTLP"
    )
    with receiver.lock:
        total = sum(receiver.joules.values())
        same("joules of all spans, joules in /metrics", total, metrics.sum("ecolyzer_request_energy_joules_sum"))
        yield f"  {receiver.count.total():,} spans came by OTLP, {total:.2f} J, as in /metrics. One of each model:"
        for _, (span, attributes) in sorted(receiver.spans.items()):
            took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            yield f"\n  {span.name}  ({took:.2f} ms, trace {span.trace_id.hex()})"
            for key, value in sorted(attributes.items()):
                yield f"    {key} = {f'{value:.6g}' if isinstance(value, float) else value}"
