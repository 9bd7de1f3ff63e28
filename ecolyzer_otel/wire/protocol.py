"""The messages between a worker and its meter, typed and bounded; version 1.

On a socket each message is a frame: four bytes of length, big-endian, then MessagePack of an array whose first
element is the tag. Numbers and names only: never inputs, outputs or prompts. In-process the same objects are
handed over as they are.

**Versions.** :class:`Hello` tells the newest and the oldest version that a worker speaks; the meter answers with
the newest that both do, or with :class:`Refused`. Within a version, fields are only ever added at the end, with a
default: an older reader ignores them, a newer one fills them in.

**Bounds.** Every number, name and list has one, checked while a frame is decoded: what is over it is no message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Final, Union

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
#: The oldest version that this package still speaks.
OLDEST: Final = 1
_LENGTH: Final = struct.Struct(">I")

_Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62))]
_Id = Annotated[str, msgspec.Meta(max_length=64)]
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_Instant = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=(1 << 62))]
#: Busy intervals ``[start_ns, end_ns]`` of a request's kernels, by device: ``gpu0``, or the UUID of a GPU or of a
#: MIG instance. Empty where kernels are not timed.
Busy = Annotated[
    dict[_Name, Annotated[list[tuple[_Instant, _Instant]], msgspec.Meta(max_length=MAX_SPANS)]],
    msgspec.Meta(max_length=MAX_DEVICES),
]


#: Phases of a request ``(name, start_ns, cpu_ns)``, in order; ``cpu_ns`` is what the request had spent before.
#: What is before the first phase belongs to none.
Phases = Annotated[list[tuple[_Name, _Instant, _Natural]], msgspec.Meta(max_length=MAX_PHASES)]
_Weight = Annotated[float, msgspec.Meta(ge=0.0, le=1e18)]


class _Message(msgspec.Struct, array_like=True, frozen=True, tag=True, forbid_unknown_fields=False):
    pass


class _Part(msgspec.Struct, array_like=True, frozen=True):
    pass


class Hello(_Message, tag="hello", frozen=True):
    """First word of a worker. ``service`` is the ``service.name`` of its spans.

    ``token`` is a random word that stays the same when the worker connects again, so that nothing is counted twice.
    """

    version: _Natural
    pid: _Natural
    service: _Name
    oldest: _Natural = 1
    token: _Id = ""


class Model(_Part, frozen=True):
    """Facts of a model, told once per connection under a small ``key``.

    ``device`` is the framework's word for where it lies (``cuda:0``), ``sensor`` that of the meter (``gpu2``, or a
    UUID: a container's first GPU may be the host's third).
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

    ``model``, ``operation`` and ``items`` are as in :class:`Done`; the model is None where it is not told.
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

    ``tokens``: of input and output, where known. ``first_token_ns``: when the first output token was there, 0 if
    that is not known. ``warmup``: something was compiled in it. ``members`` makes it no request but a call that
    served these requests, each with its weight (:attr:`Batch.joint`); ``joint``: how many such calls served it.
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
    """What happened since the last one.

    ``watermark_ns``: no record of a request unknown to the meter can still come with an earlier start. It is the
    start of the oldest open request that no open record tells of, or ``now_ns``. ``clocks``: ``[t_ns,
    process_cpu_ns, pool_cpu_ns]``, cumulative. ``served`` and ``dropped`` (by reason): cumulative over the process,
    less what other meters have settled. ``quiet``: nothing runs; the watermark is no longer told until the next
    batch.
    ``devices``: ``[t_ns, kernel_ns]`` of the whole process by device, cumulative, where known.
    ``joint``: calls that served several requests. They are no requests and not counted; what they are charged is
    divided among those that they served.
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
    """Settle all that was sent, as soon as can be, and answer with :class:`Flushed`."""

    number: _Natural


class PlaceFacts(_Part, frozen=True):
    """The factors behind a settlement, as span attributes show them.

    ``time`` (ISO 8601) is that of a live figure, "" where the figure is of a ``year``.
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
    """First word of a meter, in the version that both speak.

    ``meter`` tells one life of a meter from another; ``received`` is how many finished requests it has of this
    worker by now, over all of its connections.
    """

    version: int
    place: PlaceFacts
    meter: str = ""
    received: int = 0


class Refused(_Message, tag="refused", frozen=True):
    """First and last word of a meter that cannot serve this worker; ``reason`` is for its log."""

    reason: str


class Settled(_Part, frozen=True):
    """One settlement. ``unsettled`` is a reason or ""; energies in J, masses in g, volumes in L, by component.

    ``phases``: joules, active and idle, by name. ``served``: how many requests a joint call was divided among.
    ``grams_per_kwh``: the mean over its joules, where the intensity changed meanwhile. ``devices``: mean and
    maximum temperature by device, ``throttled`` the part of its time, 0 to 1, and ``reasons`` why.
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
    """Settlements that were asked for. ``accounted``: records of this connection settled or unsettled so far.

    ``place``: the factors behind them, where they have changed since this connection was last told.
    """

    items: list[Settled]
    accounted: int
    place: PlaceFacts | None = None


class Flushed(_Message, tag="flushed", frozen=True):
    """All that was sent before the flush of this number is accounted for."""

    number: int


FromWorker = Union[Hello, Batch, Flush]  # noqa: UP007 - msgspec needs a runtime union on 3.10
FromMeter = Union[Welcome, Refused, Settlements, Flushed]  # noqa: UP007

_encoder = msgspec.msgpack.Encoder()
_decoders: Final[dict[str, msgspec.msgpack.Decoder[FromWorker] | msgspec.msgpack.Decoder[FromMeter]]] = {
    "worker": msgspec.msgpack.Decoder(FromWorker),
    "meter": msgspec.msgpack.Decoder(FromMeter),
}


def encode(message: FromWorker | FromMeter) -> bytes:
    """The frame of one message.

    Raises:
        ProtocolError: it is longer than :data:`MAX_FRAME`.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Bytes in, messages out: the reading half of one connection.

    Args:
        sender: ``worker`` or ``meter``: whose messages these are.
    """

    def __init__(self, sender: str) -> None:
        self._decoder = _decoders[sender]
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[FromWorker | FromMeter]:
        """The messages that ``data`` completes.

        Raises:
            ProtocolError: a frame is too long or no message; the connection is of no further use.
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
                raise ProtocolError(f"a frame that is no message ({error})") from None
