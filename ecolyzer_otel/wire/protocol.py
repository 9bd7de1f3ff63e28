"""The messages between a worker and its meter, typed and bounded; version 1.

On a socket each message is a frame: four bytes of length, big-endian, then MessagePack of an array whose first
element is the tag. Messages hold numbers and names only: never inputs, outputs or prompts. Within one process the
same objects are passed without encoding.

**Versions.** :class:`Hello` states the newest and the oldest version that a worker speaks. The meter answers with
the newest version that both speak, or with :class:`Refused`. Within a version, fields are only added at the end,
with a default: an older reader ignores them, a newer one uses the default.

**Bounds.** Every number, name and list has one. They are checked while a frame is decoded: a frame with a value out
of bounds is not valid.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, overload

import msgspec

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.wire.limits import MAX_DEVICES, MAX_DONE, MAX_FRAME, MAX_NAME, MAX_OPEN, MAX_PHASES, MAX_SPANS

__all__ = [
    "OLDEST",
    "VERSION",
    "Batch",
    "Busy",
    "Done",
    "Flush",
    "Flushed",
    "Frames",
    "FromMeter",
    "FromWorker",
    "Hello",
    "Model",
    "Open",
    "PlaceFacts",
    "Refused",
    "Settled",
    "Settlements",
    "Welcome",
    "encode",
]

VERSION: Final = 1
#: The oldest version that this package speaks.
OLDEST: Final = 1
_LENGTH: Final = struct.Struct(">I")

_Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62))]
_Id = Annotated[str, msgspec.Meta(max_length=64)]
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_Instant = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=(1 << 62))]
#: Busy intervals ``[start_ns, end_ns]`` of a request's kernels, by device: ``gpu0``, or the UUID of a GPU or of a
#: MIG instance. Empty if kernels are not timed.
Busy = Annotated[
    dict[_Name, Annotated[list[tuple[_Instant, _Instant]], msgspec.Meta(max_length=MAX_SPANS)]],
    msgspec.Meta(max_length=MAX_DEVICES),
]


#: Phases of a request ``(name, start_ns, cpu_ns)``, in order; ``cpu_ns`` is the CPU time of the request before the
#: phase. The time before the first phase belongs to no phase.
Phases = Annotated[list[tuple[_Name, _Instant, _Natural]], msgspec.Meta(max_length=MAX_PHASES)]
_Weight = Annotated[float, msgspec.Meta(ge=0.0, le=1e18)]


class _Message(msgspec.Struct, array_like=True, frozen=True, tag=True, forbid_unknown_fields=False):
    pass


class _Part(msgspec.Struct, array_like=True, frozen=True):
    pass


class Hello(_Message, tag="hello", frozen=True):
    """First message of a worker. ``service`` is the ``service.name`` of its spans.

    ``token`` is a random string that stays the same when the worker reconnects, so that nothing is counted twice.
    """

    version: _Natural
    pid: _Natural
    service: _Name
    oldest: _Natural = 1
    token: _Id = ""


class Model(_Part, frozen=True):
    """Facts of a model, reported once per connection under a small ``key``.

    ``device`` is the framework's name of its device (``cuda:0``), ``sensor`` the meter's name (``gpu2``, or a UUID,
    because a container's first GPU may be the host's third).
    """

    key: _Natural
    name: _Name
    framework: _Name
    parameters: _Natural | None
    dtype: _Name | None
    device: _Name
    sensor: _Name = ""


class Open(_Part, frozen=True):
    """A request that has been open for longer than 250 ms, with its CPU time and kernels so far.

    ``model``, ``operation`` and ``items`` are as in :class:`Done`; the model is None if it is not reported yet.
    """

    id: _Natural
    start_ns: _Instant
    cpu_ns: _Natural
    device: _Name = "cpu"
    busy: Busy = {}
    model: _Natural | None = None
    operation: _Name = ""
    items: _Natural = 1
    phases: Phases = []


class Done(_Part, frozen=True):
    """A finished request. ``want`` asks for the settlement; trace and span id are "" unless exported.

    ``tokens``: of input and output, if known. ``first_token_ns``: when the first output token was ready, 0 if
    unknown. ``warmup``: code was compiled in it. With ``members`` it is no request but a call that served these
    requests, each with its weight (:attr:`Batch.joint`). ``joint``: number of such calls that served it.
    """

    id: _Natural
    model: _Natural
    operation: _Name
    start_ns: _Instant
    end_ns: _Instant
    cpu_ns: _Natural
    items: _Natural
    error: _Name
    route: _Name
    trace_id: _Id
    span_id: _Id
    want: bool
    busy: Busy = {}
    phases: Phases = []
    tokens: tuple[_Natural, _Natural] | None = None
    first_token_ns: _Natural = 0
    warmup: bool = False
    members: Annotated[list[tuple[_Natural, _Weight]], msgspec.Meta(max_length=MAX_OPEN)] = []
    joint: _Natural = 0


class Batch(_Message, tag="batch", frozen=True):
    """The report of a worker since the last one.

    ``watermark_ns``: no record of a request that has no open record can still arrive with an earlier start. It is
    the start of the oldest open request without an open record, or ``now_ns``. ``clocks``: ``[t_ns,
    process_cpu_ns, pool_cpu_ns]``, cumulative. ``served`` and ``dropped`` (by reason): cumulative over the process,
    less the requests that other meters have settled. ``quiet``: nothing runs; the watermark is not reported until
    the next batch.
    ``devices``: ``[t_ns, kernel_ns]`` of the process by device, cumulative, if known.
    ``joint``: calls that served several requests. They are not counted as requests; their joules are divided among
    the requests that they served.
    """

    now_ns: _Instant
    watermark_ns: _Instant
    clocks: Annotated[list[tuple[_Instant, _Natural, _Natural]], msgspec.Meta(max_length=16)]
    models: Annotated[list[Model], msgspec.Meta(max_length=MAX_DONE + MAX_OPEN)]
    open: Annotated[list[Open], msgspec.Meta(max_length=MAX_OPEN)]
    done: Annotated[list[Done], msgspec.Meta(max_length=MAX_DONE)]
    served: _Natural
    dropped: Annotated[dict[_Name, _Natural], msgspec.Meta(max_length=16)]
    quiet: bool = False
    devices: Annotated[dict[_Name, tuple[_Instant, _Natural]], msgspec.Meta(max_length=MAX_DEVICES)] = {}
    joint: Annotated[list[Done], msgspec.Meta(max_length=MAX_DONE)] = []


class Flush(_Message, tag="flush", frozen=True):
    """Settle everything that was sent as soon as possible, then answer with :class:`Flushed`."""

    number: _Natural


class PlaceFacts(_Part, frozen=True):
    """The factors behind a settlement, as span attributes show them.

    ``time`` (ISO 8601) is that of a live figure, "" for a figure of a ``year``.
    """

    zone: str
    grams_per_kwh: float
    basis: str
    source: str
    pue: float
    year: int = 0
    time: str = ""
    estimated: bool = False
    defaulted: bool = False
    wue: float = 0.0
    water_method: str = ""
    water_source: str = ""


class Welcome(_Message, tag="welcome", frozen=True):
    """First message of a meter, with the version that both speak.

    ``meter`` is an id that changes when the meter restarts. ``received`` is the number of finished requests that it
    has received from this worker, over all of its connections.
    """

    version: int
    place: PlaceFacts
    meter: str = ""
    received: int = 0


class Refused(_Message, tag="refused", frozen=True):
    """The only message of a meter that cannot serve this worker; ``reason`` is for the worker's log."""

    reason: str


class Settled(_Part, frozen=True):
    """One settlement. ``unsettled`` is a reason or ""; energies in J, masses in g, volumes in L, by component.

    ``phases``: joules, active and idle, by name. ``served``: number of requests that a joint call was divided
    among. ``grams_per_kwh``: mean over its joules, if the intensity changed meanwhile. ``devices``: mean and
    maximum temperature by device. ``throttled``: throttled part of its time, 0 to 1. ``reasons``: why.
    """

    id: int
    unsettled: str
    active: float = 0.0
    idle: float = 0.0
    uncertainty: float = 0.0
    method: str = "unsettled"
    components: dict[str, tuple[float, str]] = {}
    operational_grams: float = 0.0
    embodied_grams: float | None = None
    onsite_liters: float = 0.0
    offsite_liters: float = 0.0
    celsius: float | None = None
    max_celsius: float | None = None
    ess: float | None = None
    effective_parameters: float | None = None
    quantization_factor: float | None = None
    basis: str = "activity"
    phases: dict[str, float] = {}
    served: int = 0
    uncertainty_grams: float | None = None
    market_grams: float | None = None
    marginal_grams: float | None = None
    water_low: float | None = None
    water_high: float | None = None
    item_ess: float | None = None
    sci_million_tokens: float | None = None
    grams_per_kwh: float | None = None
    devices: dict[str, tuple[float, float]] = {}
    throttled: float | None = None
    reasons: list[str] = []


class Settlements(_Message, tag="settlements", frozen=True):
    """Settlements that were requested. ``accounted``: records of this worker settled or unsettled so far.

    ``place``: their factors, if these have changed since they were last sent on this connection.
    """

    items: list[Settled]
    accounted: int
    place: PlaceFacts | None = None


class Flushed(_Message, tag="flushed", frozen=True):
    """Everything that was sent before the flush of this number is accounted for."""

    number: int


FromWorker = Union[Hello, Batch, Flush]  # noqa: UP007 - msgspec needs a runtime union on 3.10
FromMeter = Union[Welcome, Refused, Settlements, Flushed]  # noqa: UP007

_encoder = msgspec.msgpack.Encoder()
_decoders: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    "worker": msgspec.msgpack.Decoder(FromWorker),
    "meter": msgspec.msgpack.Decoder(FromMeter),
}


def encode(message: FromWorker | FromMeter) -> bytes:
    """Returns the frame of one message.

    Raises:
        ProtocolError: it is longer than :data:`MAX_FRAME`.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


_MessageT = TypeVar("_MessageT")


class Frames(Generic[_MessageT]):
    """Decodes the bytes that one connection receives.

    Args:
        sender: the sender of the messages, ``worker`` or ``meter``.
    """

    @overload
    def __init__(self: Frames[FromWorker], sender: Literal["worker"]) -> None: ...

    @overload
    def __init__(self: Frames[FromMeter], sender: Literal["meter"]) -> None: ...

    def __init__(self, sender: str) -> None:
        self._decoder: msgspec.msgpack.Decoder[_MessageT] = _decoders[sender]
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[_MessageT]:
        """Yields the messages that ``data`` completes.

        Raises:
            ProtocolError: a frame is too long or not valid; the connection must be closed.
        """
        self._bytes += data
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
            if len(self._bytes) < _LENGTH.size + length:
                return
            body = bytes(self._bytes[_LENGTH.size : _LENGTH.size + length])
            del self._bytes[: _LENGTH.size + length]
            try:
                yield self._decoder.decode(body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise ProtocolError(f"a frame that is not valid ({error})") from None
