"""How to make rare things happen to the example service under ``ecolyzer-instrument``, from outside.

``service`` is the PID that the launcher was started with: it becomes the service by exec.
"""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil


def meter_of(service: int) -> psutil.Process:
    """The meter beside a service; the newest one, where it was started again."""
    mine = f"ecolyzer-{service}-"
    found = [one for one in psutil.process_iter(["cmdline"]) if mine in " ".join(one.info["cmdline"] or ())]
    return max(found, key=psutil.Process.create_time)


def drop_requests(service: int) -> None:
    """Under load: ``ecolyzer_dropped_requests_total{reason="meter_lost"}``, and some unsettled (``no_reading``).

    What was reported to the killed meter and not settled is lost. The next report starts another meter within about
    a second: same port, options, environment and sensors. Its counters start from 0, except those of dropped
    requests, which the workers count.
    """
    meter_of(service).kill()


def delay_requests(service: int, seconds: float = 4.0) -> None:
    """Under load: ``ecolyzer_unsettled_requests_total{reason="late"}``.

    The meter waits for a silent worker for 2 s. What ended just before the stop, or is in flight at it, comes late.
    Whether anything does is chance: repeat until the counter has grown.
    """
    os.kill(service, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(service, signal.SIGCONT)


def fail_request(url: str) -> int:
    """``ecolyzer_requests_total{status="error"}`` of the digits' model; returns the HTTP status, 500.

    Python's JSON knows NaN, the data model lets it through, and the neural network raises ValueError. (The random
    forest takes NaN for a missing value.)
    """
    body = b'{"rows": [[%s]]}' % b",".join([b"NaN"] * 64)
    request = urllib.request.Request(f"{url}/digits", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def grid_file(path: Path, zone: str, grams_per_kwh: float, basis: str = "lifecycle_consumption") -> str:
    """Write a day around now for ``--grid`` (with basis ``marginal`` for ``--marginal``); returns the source.

    The meter looks at it every 15 s. Each time that it was written counts as an answer in
    ``ecolyzer_grid_fetches_total``: ``ok``, or ``bad_file`` when it is :func:`spoiled`.
    """
    hour = time.time() // 3600 * 3600
    rows = [f"{hour + 3600 * step:.0f},{grams_per_kwh:g},{zone},{basis}" for step in range(-12, 13)]
    _replace(path, "\n".join(["time,gco2e_per_kwh,zone,basis", *rows, ""]))
    return f"csv:{path}"


def spoiled(path: Path) -> None:
    """The file cannot be read any more; the figure before stays."""
    _replace(path, "no figures\n")


def _replace(path: Path, text: str) -> None:
    # Nobody may see half of it.
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
