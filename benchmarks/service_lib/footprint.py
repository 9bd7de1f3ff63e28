"""Memory of the worker and of the meter over many requests, and its growth."""

from __future__ import annotations

import time
from typing import Any

from service_lib import kernel
from service_lib.figures import Target, show
from service_lib.load import Result, saturate
from service_lib.variants import Service, started

MAX_WORKER_MB, MAX_METER_MB, FLAT_MB = 15.0, 60.0, 1.0
_SAMPLES = 40


def at_rest(folders: str, cores: tuple[int, int], requests: int, connections: int) -> dict[str, Any]:
    """Memory in each variant after the same number of requests."""
    names = ["bare", "otel", "metrics", "traced"]
    found: dict[str, Any] = {}
    with started(names, folders, 0, *cores) as services:
        for name, service in services.items():
            answered = 0
            while answered < requests:
                answered += saturate(service.port, "/light", 2, connections, cores[1]).requests
            time.sleep(1.5)
            meter = kernel.memory(service.meter) if service.meter else None
            found[name] = {"requests": answered, "worker": kernel.memory(service.pid), "meter": meter}
    return found


def long_run(
    name: str, folders: str, cores: tuple[int, int], requests: int, connections: int
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Samples of memory while ``requests`` are answered at full rate, and the outcome of the requests."""
    rows: list[dict[str, float]] = []
    with started([name], folders, 0, *cores) as services:
        service, answered, began = services[name], 0, time.monotonic()
        rows.append(_row(service, 0))
        while answered < requests:
            load = saturate(service.port, "/light", _seconds(requests, rows, began), connections, cores[1])
            answered += load.requests
            _check(name, load)
            rows.append(_row(service, answered))
            if len(rows) % 5 == 0:
                print(f"  {name}: {answered:>9,} requests, worker {rows[-1]['worker']:.1f} MB", flush=True)
        time.sleep(2.0)
        counts = {"answered": float(answered), "seconds": time.monotonic() - began}
        if service.meter:
            for short in ("requests", "unsettled_requests", "dropped_requests"):
                counts[short] = service.metric(f"ecolyzer_{short}_total")
    return rows, counts


def _check(name: str, load: Result) -> None:
    if load.errors:
        raise SystemExit(f"{name}: {load.errors} of {load.requests} requests failed")


def _seconds(requests: int, rows: list[dict[str, float]], began: float) -> float:
    """Seconds of load until the next sample: about ``_SAMPLES`` in all, and not past the end."""
    done, spent = rows[-1]["requests"], time.monotonic() - began
    if not done:
        return 2.0
    rate = done / spent
    return max(1.0, min(requests / _SAMPLES, requests - done) / rate)


def _row(service: Service, answered: int) -> dict[str, float]:
    row = {"requests": float(answered), "worker": kernel.memory(service.pid).rss}
    if service.meter:
        row["meter"] = kernel.memory(service.meter).rss
    return row


def slope(rows: list[dict[str, float]], who: str) -> float:
    """Megabytes per million requests by least squares; of the second half, when caches and windows are full."""
    half = rows[len(rows) // 2 :]
    xs, ys = [row["requests"] / 1e6 for row in half], [row[who] for row in half]
    middle, level = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - middle) ** 2 for x in xs)
    return sum((x - middle) * (y - level) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def report_rest(found: dict[str, Any]) -> tuple[list[Target], dict[str, Any]]:
    rows, plain = [], {}
    for name, one in found.items():
        worker, meter = one["worker"], one["meter"]
        meters = ("", "", "") if meter is None else (f"{meter.rss:.1f}", f"{meter.pss:.1f}", f"{meter.uss:.1f}")
        over = f"{worker.uss - found['otel']['worker'].uss:+.1f}"
        cells = (f"{one['requests']:,}", f"{worker.rss:.1f}", f"{worker.pss:.1f}", f"{worker.uss:.1f}", over)
        rows.append((name, *cells, *meters))
        plain[name] = {
            "requests": one["requests"], "worker": vars(worker), "meter": None if meter is None else vars(meter)
        }  # fmt: skip
    head = ("variant", "requests", "RSS", "PSS", "USS", "USS over otel", "meter RSS", "PSS", "USS")
    show("Memory in MB: worker, and the meter beside it", head, rows)
    base = found["otel"]["worker"]
    targets = []
    for name in ("metrics", "traced"):
        added = found[name]["worker"].rss - base.rss
        text = f"{added:+.1f} MB RSS ({found[name]['worker'].uss - base.uss:+.1f} USS)"
        targets.append(
            Target(f"worker, {name} over otel", text, f"at most {MAX_WORKER_MB:g} MB", added <= MAX_WORKER_MB)
        )
    most = max(one["meter"].rss for one in found.values() if one["meter"])
    targets.append(Target("meter", f"{most:.1f} MB RSS", f"at most {MAX_METER_MB:g} MB", most <= MAX_METER_MB))
    return targets, plain


def report_long(name: str, rows: list[dict[str, float]], counts: dict[str, float]) -> list[Target]:
    who = [key for key in ("worker", "meter") if key in rows[-1]]
    table = [
        (key, f"{rows[0][key]:.1f}", f"{rows[len(rows) // 2][key]:.1f}", f"{rows[-1][key]:.1f}",
         f"{slope(rows, key):+.2f}")
        for key in who
    ]  # fmt: skip
    title = (
        f"{name}: {counts['answered']:,.0f} requests in {counts['seconds']:.0f} s; settled "
        f"{counts.get('requests', 0):,.0f}, unsettled {counts.get('unsettled_requests', 0):,.0f}, "
        f"dropped {counts.get('dropped_requests', 0):,.0f}"
    )
    show(title, ("RSS in MB", "first", "half-way", "last", "MB per million, second half"), table)
    decidable = rows[-1]["requests"] >= 500_000  # with fewer, a slope per million is meaningless
    return [
        Target(
            f"growth, {name}, {key}", f"{slope(rows, key):+.2f} MB per million requests",
            f"flat: at most {FLAT_MB:g}", slope(rows, key) <= FLAT_MB if decidable else None,
        )
        for key in who
    ]  # fmt: skip
