"""Reading and checking replay files. Every error names the key that it concerns.

Version 1 of the format (docs/replay.md): integer nanoseconds on one monotonic clock, cumulative counters, every
part of ``activity`` optional, unknown keys ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from ecolyzer_otel.common.errors import ReplayError
from ecolyzer_otel.ledger.activity import Activity
from ecolyzer_otel.ledger.types import Partition, Record, SensorSpec, kind_of

__all__ = ["Timeline", "load_activity", "read"]

_COMPONENTS = ("cpu", "gpu", "dram")
_KINDS = ("reset", "lost", "suspend")
#: One standard uncertainty of a sensor's gain where the file has none: a recorded counter is taken as accurate.
_UNCERTAINTY = {"measured": 0.001, "modelled": 0.2}
#: Nanoseconds beyond this are not the time of any clock.
_LAST_NS = 1 << 63


class Timeline(NamedTuple):
    """The checked content of a replay file.

    Attributes:
        sensors: each with its samples (t_ns, joules) as they are in the file.
        activity: the file's ``activity``, for :func:`load_activity`.
        records: the records of the requests, in the order of the file.
        events: (t_ns, kind, sensor).
    """

    sensors: list[tuple[SensorSpec, list[tuple[int, float]]]]
    activity: Mapping[str, Any]
    records: list[Record]
    events: list[tuple[int, str, str]]


def read(document: Any) -> Timeline:
    """Check a parsed replay file.

    Raises:
        ReplayError: it does not have the format; the message names the key.
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


def load_activity(activity: Activity, content: Mapping[str, Any]) -> None:
    """Fill ``activity`` with the file's ``activity``.

    Raises:
        ReplayError: it does not have the format; the message names the key.
    """
    for t, v in _samples(content.get("host_cpu") or [], "activity.host_cpu"):
        activity.host.add(t, v)
    for device, samples in _mapping(content, "devices", "activity.").items():
        for t, v in _samples(samples, f"activity.devices.{device}"):
            activity.add_device(device, t, v)
    for sensor, samples in _mapping(content, "packages", "activity.").items():
        for t, v in _samples(samples, f"activity.packages.{sensor}"):
            activity.add_host_of(sensor, t, v)
    for pid, quantities in _mapping(content, "processes", "activity.").items():
        where = f"activity.processes.{pid}"
        if not (pid.isdecimal() and len(pid) < 20) or not isinstance(quantities, Mapping):
            raise ReplayError(f"{where}: must be a process id with an object of quantities")
        placed = quantities.get("sensors")
        if isinstance(placed, list) and all(isinstance(name, str) for name in placed):
            activity.place(int(pid), placed)
        for quantity, samples in quantities.items():
            if quantity != "sensors" and isinstance(samples, list):  # unknown keys of another shape are ignored
                for t, v in _samples(samples, f"{where}.{quantity}"):
                    activity.add_process(int(pid), quantity, t, v)


class _Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of ``requests``, as it is in the file."""

    id: str
    pid: int
    start_ns: int
    end_ns: int
    cpu_ns: int = 0
    model: str | None = None
    phase: str | None = None
    items: int | None = None
    device_busy_ns: dict[str, list[tuple[int, int]]] | None = None
    partitions: dict[str, tuple[str, float]] | None = None
    members: dict[str, float] | None = None


def _records(document: Mapping[str, Any]) -> Iterator[Record]:
    items = _list(document, "requests", "", required=False)
    try:
        requests = msgspec.convert(items, list[_Request])
    except msgspec.ValidationError:
        # Slower, but it accepts integers that are written as floats, and names the key that is wrong.
        requests = [_request(item, f"requests[{i}]") for i, item in enumerate(items)]
    seen: set[str] = set()
    for i, one in enumerate(requests):
        if one.id in seen:
            raise ReplayError(f"requests[{i}].id: must be a string that no other request has")
        seen.add(one.id)
        if not -_LAST_NS < one.start_ns <= one.end_ns < _LAST_NS:
            _check_times(one, f"requests[{i}]")
        yield Record(
            id=one.id,
            pid=one.pid,
            start_ns=one.start_ns,
            end_ns=one.end_ns,
            cpu_ns=one.cpu_ns if one.cpu_ns > 0 else 0,
            device_busy=one.device_busy_ns or {},
            partitions=_checked(one.partitions, f"requests[{i}]") if one.partitions else {},
            kind=kind_of(one.model or "", one.phase or "", one.items or 1),
            items=one.items or 1,
            members=_weights(one.members, f"requests[{i}]") if one.members else (),
        )


def _check_times(one: _Request, where: str) -> None:
    _as_integer(one.start_ns, f"{where}.start_ns")
    _as_integer(one.end_ns, f"{where}.end_ns")
    if one.end_ns < one.start_ns:
        raise ReplayError(f"{where}.end_ns: must not be before start_ns")


def _request(item: Any, where: str) -> _Request:
    if not isinstance(item, Mapping):
        raise ReplayError(f"{where}: must be an object")
    if not isinstance(item.get("id"), str):
        raise ReplayError(f"{where}.id: must be a string that no other request has")
    for key in ("model", "phase"):
        if not isinstance(item.get(key, ""), (str, type(None))):
            raise ReplayError(f"{where}.{key}: must be a string")
    items = item.get("items")
    return _Request(
        id=item["id"],
        pid=_integer(item, "pid", where),
        start_ns=_integer(item, "start_ns", where),
        end_ns=_integer(item, "end_ns", where),
        cpu_ns=_integer(item, "cpu_ns", where, default=0),
        model=item.get("model"),
        phase=item.get("phase"),
        items=None if items is None else _as_integer(items, f"{where}.items"),
        device_busy_ns=_busy(item, where),
        partitions=_partitions(item, where),
        members={
            name: _number(weight, f"{where}.members.{name}")
            for name, weight in _mapping(item, "members", f"{where}.").items()
        },
    )


def _busy(item: Mapping[str, Any], where: str) -> dict[str, list[tuple[int, int]]]:
    busy: dict[str, list[tuple[int, int]]] = {}
    for device, spans in _mapping(item, "device_busy_ns", f"{where}.").items():
        key = f"{where}.device_busy_ns.{device}"
        pairs = _pairs(spans, key, "[start_ns, end_ns]")
        busy[device] = [(_as_integer(low, key), _as_integer(high, key)) for low, high in pairs]
    return busy


def _partitions(item: Mapping[str, Any], where: str) -> dict[str, tuple[str, float]]:
    """``{"gpu0": ["MIG-…", 0.43]}``: the partition of a divided device that the request ran on."""
    partitions: dict[str, tuple[str, float]] = {}
    for device, value in _mapping(item, "partitions", f"{where}.").items():
        key = f"{where}.partitions.{device}"
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            raise ReplayError(f"{key}: must be [name, fraction]")
        partitions[device] = value[0], _number(value[1], key)
    return partitions


def _checked(partitions: Mapping[str, tuple[str, float]], where: str) -> dict[str, Partition]:
    for device, (_, fraction) in partitions.items():
        if not 0.0 < fraction <= 1.0:
            raise ReplayError(f"{where}.partitions.{device}: the fraction must be above 0 and at most 1")
    return {device: Partition(name, fraction) for device, (name, fraction) in partitions.items()}


def _weights(members: Mapping[str, float], where: str) -> list[tuple[str, float]]:
    for name, weight in members.items():
        if not 0.0 <= weight < math.inf:
            raise ReplayError(f"{where}.members.{name}: must be a number of at least 0")
    return list(members.items())


def _events(document: Mapping[str, Any], names: set[str]) -> Iterator[tuple[int, str, str]]:
    for i, item in enumerate(_list(document, "events", "", required=False)):
        where = f"events[{i}]"
        if not isinstance(item, Mapping):
            raise ReplayError(f"{where}: must be an object")
        kind, sensor = item.get("kind"), item.get("sensor")
        if kind not in _KINDS:
            raise ReplayError(f"{where}.kind: must be reset, lost or suspend, not {kind!r}")
        # An event without a sensor concerns all of them (a suspended machine).
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
        idle_prior_watts=_optional(item, "idle_prior_watts", where),
        wrap_joules=_optional(item, "wrap_joules", where),
        relative_uncertainty=_UNCERTAINTY[method] if uncertainty is None else uncertainty,
    )
    return spec, _samples(item.get("samples"), f"{where}.samples")


def _samples(value: Any, where: str) -> list[tuple[int, float]]:
    pairs = _pairs(value, where, "[t_ns, number]")
    return [(_as_integer(t, where), _number(v, where)) for t, v in pairs]


def _pairs(value: Any, where: str, shape: str) -> list[Any]:
    if isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value
    ):
        return list(value)
    raise ReplayError(f"{where}: must be a list of {shape}")


def _as_integer(value: Any, where: str) -> int:
    if type(value) is int and -_LAST_NS < value < _LAST_NS:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LAST_NS < value < _LAST_NS:
        raise ReplayError(f"{where}: must be an integer")
    return int(value)


def _number(value: Any, where: str) -> float:
    """A number that a counter may show. NaN and infinities are allowed: they are faults of the sensor."""
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
    return _as_integer(value, f"{where}.{key}")


def _optional(item: Mapping[str, Any], key: str, where: str) -> float | None:
    value = item.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e300:
        raise ReplayError(f"{where}.{key}: must be null or a number of at least 0")
    return float(value)
