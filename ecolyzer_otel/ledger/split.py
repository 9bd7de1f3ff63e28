"""How the active joules of one interval are split: rule 3 of the design, as fractions that add up to one.

CPU and DRAM: by CPU time. With ``h`` the busy seconds of the host, ``u_p`` those of process p, ``o_i`` the CPU
seconds of request i's own thread and ``q_p`` those of p's native pool threads, shared over its requests by
overlap:  f_i = (o_i + q_p x overlap_i / sum overlap) / U,  process = (sum u_p - sum f_i U) / U,
host = (U - sum u_p) / U,  U = max(h, sum u_p).

GPU: by busy time of kernels. With ``B`` the busy seconds of the device, ``P_p`` those of process p, with or
without requests, and ``R_p`` the union of its requests' kernels:  T = max(B, sum P_p);  requests of p get R_p / T
by their own busy time,  process = sum (P_p - R_p) / T over those with requests,  host = the rest. On a divided
device (MIG) kernels count with the fraction of the device that their partition is, and only those of one partition
can overlap.

Nothing known: by overlap over the requests, and to the host where none overlaps. ``meters`` that measure the same
device without knowing of each other's requests take an equal part each; the rest is host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ecolyzer_otel.ledger.activity import ActivityBook
from ecolyzer_otel.ledger.live import Live, clipped_seconds

__all__ = [
    "Fractions",
    "cpu_fractions",
    "equal_seconds",
    "gpu_fractions",
    "idle_seconds",
    "overlap_fractions",
    "uses_device",
]


@dataclass(frozen=True, slots=True)
class Fractions:
    """Parts of an interval's active joules; ``requests`` in the order in which they were given."""

    requests: list[float]
    process: float
    host: float


def overlap_fractions(live: list[Live], start_ns: int, end_ns: int, meters: int = 1) -> Fractions:
    """The split when no activity is known."""
    seconds = [_overlap_seconds(one, start_ns, end_ns) for one in live]
    total = sum(seconds)
    if total <= 0.0:
        return Fractions([0.0] * len(live), 0.0, 1.0)
    return Fractions([one / total / meters for one in seconds], 0.0, 1.0 - 1.0 / meters)


def cpu_fractions(live: list[Live], book: ActivityBook, start_ns: int, end_ns: int, meters: int = 1) -> Fractions:
    """The split of a CPU or DRAM interval."""
    work = [one.cpu.growth(start_ns, end_ns) for one in live]
    members: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(live):
        members[one.record.pid].append(index)
    by_requests = by_owners = 0.0
    for pid in book.owners | members.keys():
        indexes = members.get(pid, [])
        _add_pool(work, indexes, live, book.process(pid, "pool", start_ns, end_ns), start_ns, end_ns)
        used = sum(work[index] for index in indexes)
        by_requests += used
        by_owners += max(book.process(pid, "cpu", start_ns, end_ns), used)
    others = _by_strangers(book, "cpu", start_ns, end_ns)
    total = max(book.host.growth(start_ns, end_ns), by_owners + others)
    if total <= 0.0:
        return overlap_fractions(live, start_ns, end_ns, meters)
    return Fractions([one / total for one in work], (by_owners - by_requests) / total, (total - by_owners) / total)


def _by_strangers(book: ActivityBook, quantity: str, start_ns: int, end_ns: int) -> float:
    """Seconds of the processes that own no request."""
    strangers = (pid for pid in book.processes_of(quantity) if pid not in book.owners)
    return sum(book.process(pid, quantity, start_ns, end_ns) for pid in strangers)


def _add_pool(
    work: list[float], indexes: list[int], live: list[Live], pool: float, start_ns: int, end_ns: int
) -> None:
    """Share the pool seconds of one process over its open requests, by overlap."""
    if pool <= 0.0 or not indexes:
        return
    seconds = [_overlap_seconds(live[index], start_ns, end_ns) for index in indexes]
    total = sum(seconds)
    if total > 0.0:
        for index, one in zip(indexes, seconds, strict=True):
            work[index] += pool * one / total


def uses_device(live: list[Live], book: ActivityBook, device: str) -> list[Live]:
    """The requests that are in flight on a device; all of them where nothing tells who uses it."""
    users = [one for one in live if device in one.record.device_busy]
    return users if users or book.knows_device(device) else live


def gpu_fractions(
    live: list[Live], book: ActivityBook, device: str, start_ns: int, end_ns: int, meters: int = 1
) -> Fractions:
    """The split of a GPU interval over ``live``, the requests that :func:`uses_device` gave."""
    busy = [_busy_seconds(one, device, start_ns, end_ns) for one in live]
    members: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(live):
        members[one.record.pid].append(index)
    processes: dict[int, tuple[float, float]] = {}
    for pid in book.owners | members.keys():
        union = _union_busy([live[index] for index in members.get(pid, [])], device, start_ns, end_ns)
        processes[pid] = union, max(book.process(pid, device, start_ns, end_ns), union)
    owned = sum(used for _, used in processes.values())
    others = _by_strangers(book, device, start_ns, end_ns)
    whole = book.device(device, start_ns, end_ns)
    total = max(whole, owned + others)
    if total <= 0.0:
        return overlap_fractions(live, start_ns, end_ns, meters)
    if whole <= 0.0 and others <= 0.0:
        total *= meters  # nothing tells what the workers of the other meters did
    parts = [0.0] * len(live)
    for pid, indexes in members.items():
        own = sum(busy[index] for index in indexes)
        if own > 0.0:
            for index in indexes:
                parts[index] = processes[pid][0] / total * busy[index] / own
    process = sum(used - union for union, used in processes.values()) / total
    return Fractions(parts, process, (total - owned) / total)


def _part_of(one: Live, device: str) -> tuple[str, float]:
    """The partition of ``device`` that a request ran on, and its fraction of the device."""
    partition = one.record.partitions.get(device)
    return (partition.name, partition.fraction) if partition else ("", 1.0)


def _busy_seconds(one: Live, device: str, start_ns: int, end_ns: int) -> float:
    """Seconds of a request's kernels, as if the whole device had run them."""
    return _part_of(one, device)[1] * clipped_seconds(one.record.device_busy.get(device, ()), start_ns, end_ns)


def _union_busy(requests: list[Live], device: str, start_ns: int, end_ns: int) -> float:
    """Seconds during which kernels of one process' requests ran, overlaps within a partition counted once."""
    spans: dict[tuple[str, float], list[Sequence[int]]] = defaultdict(list)
    for one in requests:
        spans[_part_of(one, device)].extend(one.record.device_busy.get(device, ()))
    return sum(part[1] * _union_seconds(times, start_ns, end_ns) for part, times in spans.items())


def _overlap_seconds(one: Live, start_ns: int, end_ns: int) -> float:
    part = one.overlap(start_ns, end_ns)
    return (part[1] - part[0]) / 1e9 if part else 0.0


def _union_seconds(spans: list[Sequence[int]], start_ns: int, end_ns: int) -> float:
    total, reach = 0, start_ns
    for first, last in sorted((first, last) for first, last in spans):
        low, high = max(first, reach), min(last, end_ns)
        if low < high:
            total += high - low
            reach = high
    return total / 1e9


def idle_seconds(live: list[Live], start_ns: int, end_ns: int) -> list[float]:
    """Each request's part of the interval's time, every instant divided equally among those in flight."""
    return equal_seconds([one.overlap(start_ns, end_ns) for one in live])


def equal_seconds(parts: Sequence[tuple[int, int] | None]) -> list[float]:
    """Each part's share of time, every instant divided equally among the parts that hold it, in seconds.

    With K(t) the integral of 1/n over time, n the number of parts that hold t, part i gets K(end_i) - K(start_i).

    Args:
        parts: ``(start_ns, end_ns)``, or None for one that is empty.
    """
    edges = sorted(edge for part in parts if part for edge in ((part[0], 1), (part[1], -1)))
    reached: dict[int, float] = {}
    flying, clock, at = 0, 0.0, edges[0][0] if edges else 0
    for when, step in edges:
        if flying:
            clock += (when - at) / 1e9 / flying
        reached[when] = clock
        at = when
        flying += step
    return [reached[part[1]] - reached[part[0]] if part else 0.0 for part in parts]
