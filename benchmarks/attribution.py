"""Measures how well the ledger divides joules over overlapping requests, compared with an oracle and with peers.

    python benchmarks/attribution.py                                   # every scenario, at most about 5 minutes
    python benchmarks/attribution.py --scenarios gpu_base,drift --seeds 5 --json result.json
    python benchmarks/attribution.py --list

A simulator (``attribution_lib``, which shares no code with the ledger) draws the true power of every request and
produces the readings of real counters; the ledger receives them as a replay file. The truth is therefore known,
unlike on hardware. The oracle has the true mean watts of each class, which is the best that learning them can
reach. Peers are compared by their formulas on the same trace, without faults; see ``attribution_lib/peers.py``.

The picture needs matplotlib (``pip install --group bench``); without it there is only the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attribution_lib import SCENARIOS, make_trace, oracle, score
from attribution_lib.peers import PEERS, peer

from ecolyzer_otel.ledger.replay import replay

Row = dict[str, Any]


def run(scenario: str, seed: int, seconds: float | None) -> Row:
    """Returns the scores of one trace: those of the ledger, and the WAPE of oracle and peers."""
    document, truth = make_trace(scenario, seed, seconds)
    row: Row = {"scenario": scenario, "seed": seed, "requests": len(truth.ids)}
    row["oracle"] = score(document, truth, oracle(document, truth)).as_dict()
    row["peers"] = {name: score(document, truth, peer(name, truth)).as_dict() for name in PEERS}
    start = time.perf_counter()
    try:
        result = replay(document)
    except Exception as error:
        # A failed scenario must not hide the others.
        row["failed"] = f"{type(error).__name__}: {error}"
        return row
    row["ledger"] = score(document, truth, result, time.perf_counter() - start).as_dict()
    return row


def merged(rows: Sequence[Row]) -> Row:
    """The mean over the seeds of one scenario (the worst of residuals)."""
    out: Row = {"scenario": rows[0]["scenario"], "seeds": len(rows)}
    out["requests"] = round(float(np.mean([row["requests"] for row in rows])))
    out["oracle_wape"] = float(np.mean([row["oracle"]["wape"] for row in rows]))
    out["peers_wape"] = {name: float(np.mean([row["peers"][name]["wape"] for row in rows])) for name in PEERS}
    failed = [row["failed"] for row in rows if "failed" in row]
    if failed:
        out["failed"] = failed[0]
        return out
    for name in ("wape", "bias", "coverage", "u_over_mae", "zero_rate", "median_ape", "requests_per_second"):
        out[name] = float(np.mean([row["ledger"][name] for row in rows]))
    for name in ("residual", "integral_residual", "invalid", "missing"):
        out[name] = max(float(row["ledger"][name]) for row in rows)
    out["ratio"] = out["wape"] / out["oracle_wape"]
    return out


HEADER = ("WAPE %", "oracle", "ratio", "bias %", "cover %", "u/MAE", "zero %", "residual", "counter", "req/s")


def line(row: Row) -> str:
    """One row of the table."""
    percent = {name: min(100 * wape, 999999) for name, wape in row["peers_wape"].items()}
    peers = " ".join(f"{percent[name]:{max(len(name), 6)}.0f}" for name in PEERS)
    head = f"{row['scenario']:18} {row['seeds']:2} {row['requests']:6}"
    if "failed" in row:
        return f"{head} {row['failed'][:80]:80} {peers}"
    cells = (
        f"{100 * row['wape']:7.1f}",
        f"{100 * row['oracle_wape']:7.1f}",
        f"{row['ratio']:6.2f}",
        f"{100 * row['bias']:7.1f}",
        f"{100 * row['coverage']:7.1f}",
        f"{row['u_over_mae']:6.2f}",
        f"{100 * row['zero_rate']:6.2f}",
        f"{row['residual']:8.0e}",
        f"{row['integral_residual']:8.0e}",
        f"{row['requests_per_second']:7.0f}",
    )
    return f"{head} {' '.join(cells)} | {peers}"


def misses(row: Row) -> list[str]:
    """Which targets a scenario misses."""
    if "failed" in row:
        return ["failed"]
    checks = {
        f"{row['ratio']:.2f} x oracle": row["ratio"] <= 1.15,
        f"bias {100 * row['bias']:+.1f} %": abs(row["bias"]) <= 0.02,
        f"coverage {100 * row['coverage']:.1f} %": 0.93 <= row["coverage"] <= 0.99,
        f"zero {100 * row['zero_rate']:.2f} %": row["zero_rate"] == 0,
        f"residual {row['residual']:.0e}": row["residual"] < 1e-6,
        f"invalid {row['invalid']:.0f}": row["invalid"] == 0,
        f"missing {row['missing']:.0f}": row["missing"] == 0,
    }
    return [text for text, good in checks.items() if not good]


def table(rows: Sequence[Row]) -> str:
    """Returns the table with its legend."""
    widths = (7, 7, 6, 7, 7, 6, 6, 8, 8, 7)
    head = " ".join(f"{name:>{width}}" for name, width in zip(HEADER, widths, strict=True))
    names = " ".join(f"{name:>6}" for name in PEERS)
    out = [f"{'scenario':18} {'n':>2} {'reqs':>6} {head} | {names}", *(line(row) for row in rows), ""]
    out += [
        "n: seeds. WAPE: sum of |error| over sum of true active joules: the ledger's, the oracle's, their ratio,",
        "and (right) every peer's in percent. cover: truth within two uncertainties. residual: the five shares",
        "against measured_joules. counter: measured_joules against an independent sum over the counter's readings",
        "(nan where a fault leaves that undefined).",
    ]
    missed = [(row["scenario"], misses(row)) for row in rows if SCENARIOS[row["scenario"]].has_target]
    out.append(f"{sum(not m for _, m in missed)} of {len(missed)} scenarios within every target; beyond:")
    out += [f"  {name:18} {', '.join(m)}" for name, m in missed if m]
    without = [row["scenario"] for row in rows if not SCENARIOS[row["scenario"]].has_target]
    if without:
        out.append(f"without a target, because the document lacks information: {', '.join(without)}")
    return "\n".join(out)


def main() -> int:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", help="names with commas between (default: all)")
    parser.add_argument("--seeds", type=int, default=2, help="traces per scenario (default: 2)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--seconds", type=float, help="length of a trace (default: each scenario's own)")
    parser.add_argument(
        "--minutes", type=float, default=4.5, help="begin no further seed after this (default: 4.5)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build"), help="folder for attribution.png (default: build)"
    )
    parser.add_argument("--json", type=Path, help="file for every score of every trace")
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{name:18} {world.description}" for name, world in SCENARIOS.items()))
        return 0
    names = arguments.scenarios.split(",") if arguments.scenarios else list(SCENARIOS)
    if unknown := [name for name in names if name not in SCENARIOS]:
        parser.error(f"no such scenario: {', '.join(unknown)} (see --list)")
    begun, done = time.monotonic(), []
    # Seed after seed over all scenarios, so that a slow moment of the machine does not fall on one scenario alone.
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for name in names:
            if seed > 1 and time.monotonic() - begun > 60 * arguments.minutes:
                break
            done.append(run(name, seed, arguments.seconds))
            if sys.stderr.isatty():
                print(f"\rseed {seed}, {name:24}\r", end="", file=sys.stderr, flush=True)
    rows = [merged([one for one in done if one["scenario"] == name]) for name in names]
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "traces": done}, indent=1) + "\n")
    try:
        from attribution_lib.picture import draw
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
    else:
        arguments.out.mkdir(parents=True, exist_ok=True)
        print(f"picture: {draw(rows, arguments.out / 'attribution.png')}")
    return int(any("failed" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
