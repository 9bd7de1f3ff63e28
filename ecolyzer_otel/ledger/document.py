"""Replay files as they are read and checked: everything that can be wrong with one names its key.

The format is the design's, version 1: integer nanoseconds on one monotonic clock, cumulative counters, every part
of ``activity`` optional, unknown keys ignored (docs/replay.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ecolyzer_otel.errors import ReplayError
from ecolyzer_otel.ledger.activity import ActivityBook
from ecolyzer_otel.ledger.types import Partition, Record, SensorSpec, kind_of

__all__ = ["Timeline", "load_activity", "read"]

_COMPONENTS = ("cpu", "gpu", "dram")
_KINDS = ("reset", "lost", "suspend")
#: One standard uncertainty of a sensor's gain where the file tells none: what a counter showed is taken at its word.
_UNCERTAINTY = {"measured": 0.005, "modelled": 0.2}
#: Nanoseconds beyond this are no time of any clock (and no float of seconds).
_LAST_NS = 1 << 63


class Timeline(NamedTuple):
    """What a replay file holds, checked.

    Attributes:
        sensors: each with its samples (t_ns, joules) as they are in the file.
        activity: the file's ``activity``, for :func:`load_activity`.
        records: of the requests, in the order of the file.
        events: (t_ns, kind, sensor).
    """

    sensors: list[tuple[SensorSpec, list[tuple[int, float]]]]
    activity: Mapping[str, Any]
    records: list[Record]
    events: list[tuple[int, str, str]]


def read(document: Any) -> Timeline:
    """Check a parsed replay file.

    Raises:
        ReplayError: it is not of the format; the message names the key.
    """
    if not isinstance(document, Mapping):
        raise ReplayError("the file must hold a JSON object")
    if document.get("version") != 1:
        raise ReplayError(f"version: must be 1, not {document.get('version')!r}")
    sensors = [_sensor(item, f"sensors[{i}]") for i, item in enumerate(_list(document, "sensors", ""))]
    names = {spec.id for spec, _ in sensors}
    if len(names) != len(sensors):
        raise ReplayError("sensors: two have the same id")
    activity = _mapping(document, "activity")
    return Timeline(sensors, activity, list(_records(document)), list(_events(document, names)))


def load_activity(book: ActivityBook, activity: Mapping[str, Any]) -> None:
    """Fill ``book`` with the file's ``activity``.

    Raises:
        ReplayError: it is not of the format.
    """
    for t, v in _samples(activity.get("host_cpu") or [], "activity.host_cpu"):
        book.host.add(t, v)
    for device, samples in _mapping(activity, "devices", "activity.").items():
        for t, v in _samples(samples, f"activity.devices.{device}"):
            book.add_device(device, t, v)
    for pid, quantities in _mapping(activity, "processes", "activity.").items():
        where = f"activity.processes.{pid}"
        if not (pid.isdecimal() and len(pid) < 20) or not isinstance(quantities, Mapping):
            raise ReplayError(f"{where}: must be a process id with an object of quantities")
        for quantity, samples in quantities.items():
            if isinstance(samples, list):  # unknown keys of another shape are ignored
                for t, v in _samples(samples, f"{where}.{quantity}"):
                    book.add_process(int(pid), quantity, t, v)


def _records(document: Mapping[str, Any]) -> Iterator[Record]:
    seen: set[str] = set()
    kinds: dict[Any, tuple[str, str, int]] = {}
    for i, item in enumerate(_list(document, "requests", "", required=False)):
        where = f"requests[{i}]"
        if not isinstance(item, Mapping):
            raise ReplayError(f"{where}: must be an object")
        name = item.get("id")
        if not isinstance(name, str) or name in seen:
            raise ReplayError(f"{where}.id: must be a string that no other request has")
        seen.add(name)
        pid, start, end, cpu = _integers(item, where)
        if end < start:
            raise ReplayError(f"{where}.end_ns: must not be before start_ns")
        yield Record(
            id=name,
            pid=pid,
            start_ns=start,
            end_ns=end,
            cpu_ns=cpu if cpu > 0 else 0,
            device_busy=_busy(item, where) if item.get("device_busy_ns") is not None else {},
            partitions=_partitions(item, where) if item.get("partitions") is not None else {},
            kind=_kind(item, where, kinds),
        )


def _integers(item: Mapping[str, Any], where: str) -> tuple[int, int, int, int]:
    """pid, start, end and CPU time."""
    found = item.get("pid"), item.get("start_ns"), item.get("end_ns"), item.get("cpu_ns", 0)
    pid, start, end, cpu = found
    plain = type(pid) is int and type(start) is int and type(end) is int and type(cpu) is int
    if plain and max(found) < _LAST_NS and min(found) > -_LAST_NS:
        return found
    return tuple(  # type: ignore[return-value]
        _whole(value, f"{where}.{key}")
        for key, value in zip(("pid", "start_ns", "end_ns", "cpu_ns"), found, strict=True)
    )


def _busy(item: Mapping[str, Any], where: str) -> dict[str, list[tuple[int, int]]]:
    busy: dict[str, list[tuple[int, int]]] = {}
    for device, spans in _mapping(item, "device_busy_ns", f"{where}.").items():
        key = f"{where}.device_busy_ns.{device}"
        pairs = _pairs(spans, key, "[start_ns, end_ns]")
        busy[device] = [(_whole(low, key), _whole(high, key)) for low, high in pairs]
    return busy


def _kind(item: Mapping[str, Any], where: str, kinds: dict[Any, tuple[str, str, int]]) -> tuple[str, str, int]:
    """Model, phase and batch bucket; ``kinds`` keeps those seen, so that equal ones are one object."""
    told = item.get("model"), item.get("phase"), item.get("items")
    try:
        return kinds[told]
    except (KeyError, TypeError):
        pass
    model, phase, items = told
    for key, value in (("model", model), ("phase", phase)):
        if value is not None and not isinstance(value, str):
            raise ReplayError(f"{where}.{key}: must be a string")
    number = 1 if items is None else _whole(items, f"{where}.items")
    kinds[told] = found = kind_of(model or "", phase or "", number)
    return found


def _partitions(item: Mapping[str, Any], where: str) -> dict[str, Partition]:
    """``{"gpu0": ["MIG-…", 0.43]}``: the part of a divided device that the request ran on."""
    partitions: dict[str, Partition] = {}
    for device, value in _mapping(item, "partitions", f"{where}.").items():
        key = f"{where}.partitions.{device}"
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            raise ReplayError(f"{key}: must be [name, fraction]")
        fraction = _number(value[1], key)
        if not 0.0 < fraction <= 1.0:
            raise ReplayError(f"{key}: the fraction must be above 0 and at most 1")
        partitions[device] = Partition(value[0], fraction)
    return partitions


def _events(document: Mapping[str, Any], names: set[str]) -> Iterator[tuple[int, str, str]]:
    for i, item in enumerate(_list(document, "events", "", required=False)):
        where = f"events[{i}]"
        if not isinstance(item, Mapping):
            raise ReplayError(f"{where}: must be an object")
        kind, sensor = item.get("kind"), item.get("sensor")
        if kind not in _KINDS:
            raise ReplayError(f"{where}.kind: must be reset, lost or suspend, not {kind!r}")
        # A suspended machine concerns every sensor unless one is named.
        for name in names if sensor is None else (sensor,):
            if not isinstance(name, str) or name not in names:
                raise ReplayError(f"{where}.sensor: {name!r} is none of the sensors")
            yield _integer(item, "t_ns", where), kind, name


def _sensor(item: Any, where: str) -> tuple[SensorSpec, list[tuple[int, float]]]:
    if not isinstance(item, Mapping):
        raise ReplayError(f"{where}: must be an object")
    name, component, method = item.get("id"), item.get("component"), item.get("method", "measured")
    if not isinstance(name, str) or not name:
        raise ReplayError(f"{where}.id: must be a string")
    if component not in _COMPONENTS:
        raise ReplayError(f"{where}.component: must be one of {', '.join(_COMPONENTS)}, not {component!r}")
    if method not in ("measured", "modelled"):
        raise ReplayError(f"{where}.method: must be measured or modelled, not {method!r}")
    uncertainty = _optional(item, "relative_uncertainty", where)
    spec = SensorSpec(
        id=name,
        component=component,
        method=method,
        idle_watts=_optional(item, "idle_watts", where),
        wrap_joules=_optional(item, "wrap_joules", where),
        relative_uncertainty=_UNCERTAINTY[method] if uncertainty is None else uncertainty,
    )
    return spec, _samples(item.get("samples"), f"{where}.samples")


def _samples(value: Any, where: str) -> list[tuple[int, float]]:
    pairs = _pairs(value, where, "[t_ns, number]")
    return [(_whole(t, where), _number(v, where)) for t, v in pairs]


def _pairs(value: Any, where: str, shape: str) -> list[Any]:
    if isinstance(value, (list, tuple)):
        for pair in value:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                break
        else:
            return list(value)
    raise ReplayError(f"{where}: must be a list of {shape}")


def _whole(value: Any, where: str) -> int:
    if type(value) is int and -_LAST_NS < value < _LAST_NS:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LAST_NS < value < _LAST_NS:
        raise ReplayError(f"{where}: must be an integer")
    return int(value)


def _number(value: Any, where: str) -> float:
    """What a counter may show: NaN and infinities are faults of the sensor, not of the file."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ReplayError(f"{where}: must be a list of [t_ns, number]")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _list(item: Mapping[str, Any], key: str, where: str, *, required: bool = True) -> list[Any]:
    value = item.get(key)
    if value is None and not required:
        return []
    if not isinstance(value, list):
        raise ReplayError(f"{where}{key}: must be a list")
    return value


def _mapping(item: Mapping[str, Any], key: str, where: str = "") -> Mapping[str, Any]:
    value = item.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ReplayError(f"{where}{key}: must be an object")
    return value


def _integer(item: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = item.get(key, default)
    return _whole(value, f"{where}.{key}")


def _optional(item: Mapping[str, Any], key: str, where: str) -> float | None:
    value = item.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e300:
        raise ReplayError(f"{where}.{key}: must be null or a number of at least 0")
    return float(value)
