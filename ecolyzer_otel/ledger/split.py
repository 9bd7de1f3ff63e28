"""The activity in one interval, and the split of its active joules by activity alone.

CPU and DRAM: activity is CPU time. With ``h`` the busy seconds of the host, ``u_p`` those of process p, ``o_i`` the
CPU seconds of request i's own thread and ``q_p`` those of p's native pool threads, shared over its requests by
overlap:  f_i = (o_i + q_p x overlap_i / sum overlap) / U,  process = (sum u_p - sum f_i U) / U,
host = (U - sum u_p) / U,  U = max(h, sum u_p).

GPU: activity is busy time of kernels. With ``B`` the busy seconds of the device, ``P_p`` those of process p, with
or without requests, and ``R_p`` the union of its requests' kernels:  T = max(B, sum P_p);  requests of p get R_p /
T by their own busy time,  process = sum (P_p - R_p) / T over processes with requests,  host = the rest. On a
divided device (MIG) kernels count with their partition's fraction of the device, and only kernels of one partition
can overlap.

Without any activity: by overlap over the requests, or to the host where none overlaps. Where several meters measure
the same device, each without the requests of the others, each takes an equal part; the rest is host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ecolyzer_otel.ledger.activity import Activity
from ecolyzer_otel.ledger.live import Live

__all__ = ["Parts", "Work", "cpu_work", "gpu_work", "learn_pools", "overlap_work", "uses_device"]


class Parts(NamedTuple):
    """The parts of an interval's active joules, by activity alone; they add up to one.

    Attributes:
        requests: part of each request.
        process: part of their processes outside requests.
        host: part of the rest of the host.
    """

    requests: list[float]
    process: float
    host: float


class Work(NamedTuple):
    """The activity in one interval, in seconds.

    Attributes:
        seconds: activity of each request.
        process: activity of their processes outside requests.
        host: activity of the rest of the host.
        parts: computes the split by activity alone; called only where it is needed.
        by_activity: False where no activity is known and ``seconds`` are times in flight.
    """

    seconds: list[float]
    process: float
    host: float
    parts: Callable[[], Parts]
    by_activity: bool = True


def overlap_work(live: Sequence[Live], start_ns: int, end_ns: int, meters: int = 1) -> Work:
    """Returns times in flight as the activity, for an interval without any."""
    seconds = [one.overlap_ns(start_ns, end_ns) / 1e9 for one in live]

    def parts() -> Parts:
        total = sum(seconds)
        if total <= 0.0:
            return Parts([0.0] * len(seconds), 0.0, 1.0)
        return Parts([one / total / meters for one in seconds], 0.0, 1.0 - 1.0 / meters)

    return Work(seconds, 0.0, 0.0, parts, False)


def learn_pools(live: Sequence[Live], activity: Activity, start_ns: int, end_ns: int) -> None:
    """Learn the use of native threads by kind of request from one interval."""
    members = _by_process(live)
    for pid in activity.owners | members.keys():
        pool = activity.curve(pid, "pool")
        if pool is not None:
            activity.pools.learn(pid, pool, [live[index] for index in members.get(pid, ())], start_ns, end_ns)


def cpu_work(
    live: Sequence[Live], activity: Activity, sensor: str, start_ns: int, end_ns: int, meters: int = 1
) -> Work:
    """Returns the activity in an interval of a CPU or DRAM sensor."""
    work = [one.cpu_seconds(start_ns, end_ns) for one in live]
    by_requests, by_owners = _owners_cpu(work, live, activity, sensor, start_ns, end_ns)
    others = _by_other_processes(activity, "cpu", start_ns, end_ns, sensor)
    total = max(activity.host_seconds(sensor, start_ns, end_ns), by_owners + others)
    if total <= 0.0:
        return overlap_work(live, start_ns, end_ns, meters)
    process, host = by_owners - by_requests, total - by_owners
    return Work(work, process, host, lambda: Parts([one / total for one in work], process / total, host / total))


def _owners_cpu(
    work: list[float], live: Sequence[Live], activity: Activity, sensor: str, start_ns: int, end_ns: int
) -> tuple[float, float]:
    """Add pool time to ``work`` and remove the CPU time of other packages.

    Returns:
        CPU seconds of all requests, and of all processes that own requests.
    """
    members = _by_process(live)
    by_requests = by_owners = 0.0
    for pid in activity.owners | members.keys():
        indexes = members.get(pid, ())
        pool = activity.process(pid, "pool", start_ns, end_ns)
        if pool > 0.0 and indexes:
            _add_pool(work, indexes, [live[index] for index in indexes], activity, pool, start_ns, end_ns)
        used = sum([work[index] for index in indexes])
        total = max(activity.process(pid, "cpu", start_ns, end_ns), used)
        part = activity.part_on(pid, sensor, start_ns, end_ns) if activity.has_placements else 1.0
        if part < 1.0:
            for index in indexes:
                work[index] *= part
        by_requests += part * used
        by_owners += part * total
    return by_requests, by_owners


def _by_process(live: Sequence[Live]) -> dict[int, list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(live):
        members[one.record.pid].append(index)
    return members


def _by_other_processes(
    activity: Activity, quantity: str, start_ns: int, end_ns: int, sensor: str | None = None
) -> float:
    """Seconds of the processes that own no request, on the package of ``sensor``."""
    others = [pid for pid in activity.processes_of(quantity) if pid not in activity.owners]
    if sensor is None or not activity.has_placements:
        return sum([activity.process(pid, quantity, start_ns, end_ns) for pid in others])
    return sum(
        [
            activity.process(pid, quantity, start_ns, end_ns) * activity.part_on(pid, sensor, start_ns, end_ns)
            for pid in others
        ]
    )


def _add_pool(
    work: list[float],
    indexes: Sequence[int],
    members: Sequence[Live],
    activity: Activity,
    pool: float,
    start_ns: int,
    end_ns: int,
) -> None:
    """Divide the pool seconds of one process among its requests, by overlap times the pool rate of their kind."""
    seconds: list[float] = [one.overlap_ns(start_ns, end_ns) for one in members]
    weights = activity.pools.weights(members)
    if weights is not None:
        weighted = [second * weight for second, weight in zip(seconds, weights, strict=True)]
        if sum(weighted) > 0.0:
            seconds = weighted
    total = sum(seconds)
    if total > 0.0:
        for index, one in zip(indexes, seconds, strict=True):
            work[index] += pool * one / total


def uses_device(live: Sequence[Live], activity: Activity, device: str) -> Sequence[Live]:
    """Returns the requests that use a device; all of them where no source reports who uses it."""
    users = [one for one in live if device in one.record.device_busy]
    return users if users or activity.identifies_users(device) else live


def gpu_work(
    live: Sequence[Live], activity: Activity, device: str, start_ns: int, end_ns: int, meters: int = 1
) -> Work:
    """Returns the activity in a GPU interval. ``live`` are the requests from :func:`uses_device`."""
    busy = [one.busy_seconds(device, start_ns, end_ns) for one in live]
    if not activity.has_usage(device):
        return _gpu_requests_only(live, busy, device, start_ns, end_ns, meters)
    unions = _unions(live, activity.owners, device, start_ns, end_ns)
    process = owned = 0.0
    for pid, union in unions.items():
        used = max(activity.process(pid, device, start_ns, end_ns), union)
        process += used - union
        owned += used
    others = _by_other_processes(activity, device, start_ns, end_ns)
    device_busy = activity.device(device, start_ns, end_ns)
    total = max(device_busy, owned + others)
    if total <= 0.0:
        return overlap_work(live, start_ns, end_ns, meters)
    if device_busy <= 0.0 and others <= 0.0:
        total *= meters  # the activity of the other meters' workers is unknown
    host = total - owned
    return Work(
        busy, process, host, lambda: Parts(_by_union(live, busy, unions, total), process / total, host / total)
    )


def _gpu_requests_only(
    live: Sequence[Live], busy: list[float], device: str, start_ns: int, end_ns: int, meters: int
) -> Work:
    """The activity in a GPU interval where only the requests report theirs."""
    if sum(busy) <= 0.0:
        return overlap_work(live, start_ns, end_ns, meters)

    def parts() -> Parts:
        unions = _unions(live, (), device, start_ns, end_ns)
        return Parts(_by_union(live, busy, unions, sum(unions.values()) * meters), 0.0, 1.0 - 1.0 / meters)

    return Work(busy, 0.0, 0.0, parts)


def _unions(
    live: Sequence[Live], owners: Iterable[int], device: str, start_ns: int, end_ns: int
) -> dict[int, float]:
    """Seconds during which kernels of each process' requests ran; overlaps count once."""
    members = _by_process(live)
    return {
        pid: _union_busy([live[index] for index in members[pid]], device, start_ns, end_ns)
        if pid in members
        else 0.0
        for pid in members.keys() | set(owners)
    }


def _by_union(
    live: Sequence[Live], busy: Sequence[float], unions: Mapping[int, float], total: float
) -> list[float]:
    """The part of each request: its process' union over ``total``, divided by own busy time."""
    own: dict[int, float] = defaultdict(float)
    for one, seconds in zip(live, busy, strict=True):
        own[one.record.pid] += seconds
    return [
        unions[one.record.pid] / total * seconds / own[one.record.pid] if seconds > 0.0 else 0.0
        for one, seconds in zip(live, busy, strict=True)
    ]


def _union_busy(requests: Sequence[Live], device: str, start_ns: int, end_ns: int) -> float:
    """Seconds during which kernels of one process' requests ran; overlaps within a partition count once."""
    spans: list[Sequence[int]] = []
    apart: dict[tuple[str, float], list[Sequence[int]]] = {}
    for one in requests:
        partition = one.record.partitions.get(device) if one.record.partitions else None
        own = one.record.device_busy.get(device, ())
        if partition is None:
            spans.extend(own)
        else:
            apart.setdefault((partition.name, partition.fraction), []).extend(own)
    total = _union_seconds(spans, start_ns, end_ns)
    return total + sum([part[1] * _union_seconds(times, start_ns, end_ns) for part, times in apart.items()])


def _union_seconds(spans: Sequence[Sequence[int]], start_ns: int, end_ns: int) -> float:
    total, reach = 0, start_ns
    for first, last in sorted([(first, last) for first, last in spans]):
        if last > end_ns:
            last = end_ns
        if first < last and last > reach:
            total += last - (first if first > reach else reach)
            reach = last
    return total / 1e9
