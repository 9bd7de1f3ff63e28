"""The messages between a worker and its meter, typed and bounded; version 1.

On a socket each message is a frame: four bytes of length, big-endian, then MessagePack of an array whose first
element is the tag. Numbers and names only: never inputs, outputs or prompts. In-process the same objects are
handed over as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Union

import msgspec

from ecolyzer_otel.errors import ProtocolError

__all__ = [
    "MAX_FRAME",
    "VERSION",
    "Batch",
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
    "Settled",
    "Settlements",
    "Welcome",
    "encode",
]

VERSION: Final = 1
#: A batch of the largest size that a worker sends stays far below this.
MAX_FRAME: Final = 4 * 1024 * 1024
MAX_DONE: Final = 2_000
MAX_NAME: Final = 256
_LENGTH: Final = struct.Struct(">I")


class _Message(msgspec.Struct, array_like=True, frozen=True, tag=True, forbid_unknown_fields=False):
    pass


class _Part(msgspec.Struct, array_like=True, frozen=True):
    pass


class Hello(_Message, tag="hello", frozen=True):
    """First word of a worker. ``service`` is the ``service.name`` of its spans."""

    version: int
    pid: int
    service: str


class Model(_Part, frozen=True):
    """Facts of a model, told once per connection under a small ``key``."""

    key: int
    name: str
    framework: str
    parameters: int | None
    dtype: str | None
    device: str


class Open(_Part, frozen=True):
    """A request that has been open for longer than 250 ms, with its CPU time so far."""

    id: int
    start_ns: int
    cpu_ns: int
    device: str = "cpu"


class Done(_Part, frozen=True):
    """A finished request. ``want`` asks for the settlement; trace and span id are "" unless exported."""

    id: int
    model: int
    operation: str
    start_ns: int
    end_ns: int
    cpu_ns: int
    items: int
    error: str
    route: str
    trace_id: str
    span_id: str
    want: bool


class Batch(_Message, tag="batch", frozen=True):
    """What happened since the last one.

    ``watermark_ns``: no record of a request unknown to the meter can still come with an earlier start. It is the
    start of the oldest open request that no open record tells of, or ``now_ns``. ``clocks``: ``[t_ns,
    process_cpu_ns, pool_cpu_ns]``, cumulative. ``dropped``: cumulative by reason. ``quiet``: nothing runs; the
    watermark is no longer told until the next batch.
    """

    now_ns: int
    watermark_ns: int
    clocks: list[tuple[int, int, int]]
    models: list[Model]
    open: list[Open]
    done: list[Done]
    served: int
    dropped: dict[str, int]
    quiet: bool = False


class Flush(_Message, tag="flush", frozen=True):
    """Settle all that was sent, as soon as can be, and answer with :class:`Flushed`."""

    number: int


class PlaceFacts(_Part, frozen=True):
    """The factors behind a settlement, as span attributes show them."""

    zone: str
    grams_per_kwh: float
    basis: str
    source: str
    pue: float


class Welcome(_Message, tag="welcome", frozen=True):
    """First word of a meter."""

    version: int
    place: PlaceFacts


class Settled(_Part, frozen=True):
    """One settlement. ``unsettled`` is a reason or ""; energies in J, masses in g, volumes in L, by component."""

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


class Settlements(_Message, tag="settlements", frozen=True):
    """Settlements that were asked for. ``accounted``: records of this connection settled or unsettled so far."""

    items: list[Settled]
    accounted: int


class Flushed(_Message, tag="flushed", frozen=True):
    """All that was sent before the flush of this number is accounted for."""

    number: int


FromWorker = Union[Hello, Batch, Flush]  # noqa: UP007 - msgspec needs a runtime union on 3.10
FromMeter = Union[Welcome, Settlements, Flushed]  # noqa: UP007

_encoder = msgspec.msgpack.Encoder()
_decoders: Final = {
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
