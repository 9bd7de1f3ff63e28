"""The ledger on real hardware: against the counters of the sensors, and a model alone against beside another.

    python benchmarks/hardware.py                    # CUDA if available, else the CPU
    python benchmarks/hardware.py --seconds 60 --json result.json

Real torch modules run under ``ecolyzer_otel.start()``. Two questions, one line each:

* Does the ledger account for all joules of the counter? The five shares of every device over the run are compared
  with independent readings of the same counter at its begin and end: NVML for GPUs, powercap for processors.
  Modelled devices have no counter and are left out. Target: within 1 %.
* Does a request keep its joules when another model runs at the same time? Joules per request of each model alone
  are compared with those of both models in two threads. Target: within 5 %.

The exit status is 1 if a target that could be checked is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ecolyzer_otel

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


class Small(torch.nn.Module):
    """A few wide layers: bound by arithmetic."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(depth)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Attention(torch.nn.Module):
    """Transformer encoder layers over a sequence: many kernels, memory-bound in part."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)


def scrape(url: str) -> Samples:
    """All samples of /metrics by name and labels."""
    found: Samples = {}
    with urllib.request.urlopen(url, timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*?)\})? (\S+)(?: .*)?", line)
            if match and not line.startswith("#"):
                labels = tuple(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                found.setdefault(match[1], {})[labels] = float(match[3])
    return found


def total(samples: Samples, name: str, **wanted: str) -> float:
    return sum(
        value
        for labels, value in samples.get(name, {}).items()
        if all(dict(labels).get(key) == want for key, want in wanted.items())
    )


def counters() -> dict[str, Callable[[], float]]:
    """Independent readers of joules, by the device name of the meter."""
    found: dict[str, Callable[[], float]] = {}
    for zone in sorted(Path("/sys/class/powercap").glob("intel-rapl:*")):
        name, energy = (zone / "name").read_text().strip(), zone / "energy_uj"
        if name.startswith("package-"):
            try:
                energy.read_text()
            except OSError:
                continue
            found[name] = lambda energy=energy: int(energy.read_text()) / 1e6  # type: ignore[misc]
    try:
        import pynvml

        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            found[f"gpu{index}"] = lambda handle=handle: (  # type: ignore[misc]
                pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
            )
    except Exception as error:
        print(f"no NVML counter: {error}")
    return found


def serve(model: torch.nn.Module, x: torch.Tensor, seconds: float) -> None:
    """Run requests back to back with short pauses; each waits for its kernels, as one with a response does."""
    end = time.monotonic() + seconds
    with torch.inference_mode():
        while time.monotonic() < end:
            model(x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            time.sleep(0.002)


def phase(url: str, loads: list[tuple[torch.nn.Module, torch.Tensor]], seconds: float) -> dict[str, Any]:
    """Joules and requests by model while ``loads`` run, and joules by device."""
    ecolyzer_otel.flush()
    before, readers = scrape(url), counters()
    started = {name: one() for name, one in readers.items()}
    threads = [threading.Thread(target=serve, args=(*load, seconds)) for load in loads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(1.0)
    ecolyzer_otel.flush()
    after, counted = scrape(url), {name: one() - started[name] for name, one in readers.items()}
    result: dict[str, Any] = {"models": {}, "devices": {}}
    for model, _ in loads:
        name = type(model).__name__
        # The idle share depends on the number of requests in flight, so the active share is compared.
        want = {"model": name, "share": "active"}
        joules = total(after, "ecolyzer_energy_joules_total", **want) - total(
            before, "ecolyzer_energy_joules_total", **want
        )
        count = total(after, "ecolyzer_requests_total", model=name) - total(
            before, "ecolyzer_requests_total", model=name
        )
        result["models"][name] = {
            "joules": joules,
            "requests": count,
            "joules_per_request": joules / max(1.0, count),
        }
    for name, joules in counted.items():
        ledger = total(after, "ecolyzer_device_energy_joules_total", device=name, method="measured") - total(
            before, "ecolyzer_device_energy_joules_total", device=name, method="measured"
        )
        result["devices"][name] = {"counter": joules, "ledger": ledger}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of each of the three phases")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args()
    running = ecolyzer_otel.start(port=0)
    print(running.line)
    cuda = options.device.startswith("cuda")
    width, rows = (4096, 2048) if cuda else (512, 64)
    linear = Small(width, 8).eval().to(options.device), torch.randn(rows, width, device=options.device)
    attention = (
        Attention(512, 6).eval().to(options.device),
        torch.randn(64 if cuda else 2, 128, 512, device=options.device),
    )
    for load in (linear, attention):
        serve(*load, 2.0)  # first calls set up kernels
    figures = {
        "linear alone": phase(str(running.url), [linear], options.seconds),
        "attention alone": phase(str(running.url), [attention], options.seconds),
        "both": phase(str(running.url), [linear, attention], options.seconds),
    }
    ecolyzer_otel.stop()
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1))
    return compare(figures)


def compare(figures: dict[str, dict[str, Any]]) -> int:
    missed = 0
    for name, one in figures.items():
        for device, joules in one["devices"].items():
            off = joules["ledger"] / joules["counter"] - 1.0 if joules["counter"] else float("nan")
            missed += not abs(off) <= 0.01
            print(
                f"{name}: {device} counter {joules['counter']:.1f} J, ledger {joules['ledger']:.1f} J ({off:+.2%})"
            )
    if not any(one["devices"] for one in figures.values()):
        print("no counter to compare with")
    for name, alone in (("Small", "linear alone"), ("Attention", "attention alone")):
        before = figures[alone]["models"][name]["joules_per_request"]
        beside = figures["both"]["models"][name]["joules_per_request"]
        off = beside / before - 1.0 if before else float("nan")
        missed += not abs(off) <= 0.05
        print(f"{name}: {before:.4f} J a request alone, {beside:.4f} J beside the other ({off:+.1%})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
