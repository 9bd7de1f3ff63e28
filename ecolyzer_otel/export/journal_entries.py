"""The format of one line of the journal, and the reader of its folder.

Format (docs/report.md)::

    {"crc":"89abcdef","v":1,"life":"…","seq":7,"from":…,"to":…,"facts":{…},"strings":["shop","resnet50",…],
     "counters":{"ecolyzer_requests":{"labels":["service",…],"points":[[0,1,…,3]]}},
     "histograms":{stem:{"labels":[…],"points":[[0,1,…,count,sum]]}},
     "gauges":{stem:{"labels":[…],"points":[[0,1,…,473.0]]}}}

``crc`` is the CRC-32 of everything after it up to the newline. A point is the index of each label's value in
``strings``, then the value. Counters and histograms are increments since the previous entry; ``gauges`` are all
present values, and are omitted while they have not changed. Each line names its labels, so that a reader of another
version can interpret it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from ecolyzer_otel.export.journal_files import JournalFile, day_of, find

__all__ = ["VERSION", "Entry", "Table", "Tally", "decode", "encode", "read_journal"]

VERSION: Final = 1
_HEAD: Final = b'{"crc":"'
#: Characters up to and including the comma after the checksum.
_PREFIX: Final = len(_HEAD) + 8 + len(b'",')
#: The writer splits longer lines.
_MAX_LINE: Final = 32 << 20

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Table:
    """One family: the names of its labels, and rows of (label values, numbers)."""

    labels: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Times are Unix seconds; counters and histograms (count, sum) are increments within them.

    ``gauges`` are the values at its end, from this entry or an earlier one of its meter; ``has_gauges`` where the
    entry itself contains them.
    """

    life: str
    seq: int
    from_s: float
    to_s: float
    facts: Mapping[str, str]
    counters: Mapping[str, Table]
    histograms: Mapping[str, Table]
    gauges: Mapping[str, Table] = field(default_factory=dict)
    has_gauges: bool = False


@dataclass(slots=True)
class Tally:
    """The statistics of a reader: entries read, and lines skipped by reason."""

    entries: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count one skipped line."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    @property
    def lines_skipped(self) -> int:
        """The number of skipped lines."""
        return sum(self.skipped.values())


def encode(document: Mapping[str, Any]) -> bytes:
    """One line, with checksum and newline."""
    body = _encoder.encode(document)[1:]
    return b'%s%08x",%s\n' % (_HEAD, zlib.crc32(body), body)


def decode(line: bytes) -> Entry | str:
    """The entry in ``line`` (without its newline), or the reason why it is skipped."""
    body = line[_PREFIX:]
    if not line.startswith(_HEAD) or line[len(_HEAD) : _PREFIX] != b'%08x",' % zlib.crc32(body):
        return "damaged"
    try:
        document = _decoder.decode(line)
        if document.get("v") != VERSION:
            return "of another version"
        return _entry(document)
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError, AttributeError):
        return "not understood"


def _entry(document: Mapping[str, Any]) -> Entry:
    strings = [str(text) for text in document.get("strings", ())]
    families = [_tables(document.get(name) or {}, strings) for name in ("counters", "histograms", "gauges")]
    return Entry(
        life=str(document["life"]),
        seq=int(document["seq"]),
        from_s=float(document["from"]),
        to_s=float(document["to"]),
        facts={str(key): str(value) for key, value in (document.get("facts") or {}).items()},
        counters=families[0],
        histograms=families[1],
        gauges=families[2],
        has_gauges="gauges" in document,
    )


def _tables(families: Mapping[str, Any], strings: list[str]) -> dict[str, Table]:
    tables = {}
    for stem, family in families.items():
        labels = tuple(map(str, family["labels"]))
        width = len(labels)
        rows = []
        for point in family["points"]:
            numbers = tuple(map(float, point[width:]))
            if numbers and math.isfinite(sum(numbers)):
                rows.append((tuple([strings[index] for index in point[:width]]), numbers))
        tables[stem] = Table(labels, tuple(rows))
    return tables


def read_journal(folder: str | Path, since_s: float, until_s: float, tally: Tally | None = None) -> Iterator[Entry]:
    """The entries whose middle lies in [``since_s``, ``until_s``), Unix seconds, meter by meter.

    So each entry belongs to one of two adjacent periods, and one that ends some milliseconds after midnight belongs
    to the day before. Lines that are torn, damaged, not understood or of another version are skipped and counted in
    ``tally``. An entry that was written twice, because the meter could not confirm the first write, counts once.

    Raises:
        OSError: the folder cannot be listed.
    """
    tally = Tally() if tally is None else tally
    first = day_of(since_s)
    lives: dict[str, list[JournalFile]] = {}
    for file in find(Path(folder)):
        if file.day >= first:
            lives.setdefault(file.life, []).append(file)
    for files in lives.values():
        for entry in _with_gauges(files, tally):
            if entry.from_s >= until_s:
                break
            if since_s <= (entry.from_s + entry.to_s) / 2 < until_s:
                tally.entries += 1
                yield entry


def _with_gauges(files: list[JournalFile], tally: Tally) -> Iterator[Entry]:
    """The entries of one meter, each once and with the present gauges."""
    gauges: Mapping[str, Table] = {}
    yielded: set[int] = set()
    waiting: Entry | None = None
    for entry in (entry for file in files for entry in _lines(file, tally)):
        # The last of several entries with one number contains the increments of the others.
        if waiting is not None and waiting.seq != entry.seq:
            yielded.add(waiting.seq)
            yield waiting
            waiting = None
        if entry.seq in yielded:
            continue
        if entry.has_gauges:
            gauges = entry.gauges
        waiting = replace(entry, gauges=gauges)
    if waiting is not None:
        yield waiting


def _lines(file: JournalFile, tally: Tally) -> Iterator[Entry]:
    try:
        with gzip.open(file.path, "rb") if file.compressed else file.path.open("rb") as opened:
            for line in _split(cast("IO[bytes]", opened), tally):
                entry = decode(line)
                if isinstance(entry, str):
                    tally.skip(entry)
                elif entry.life == file.life:
                    yield entry
                else:
                    tally.skip("of another meter")
    except (OSError, EOFError, zlib.error):  # a damaged archive yields the lines before the damage
        tally.skip("unreadable file")


def _split(opened: IO[bytes], tally: Tally) -> Iterator[bytes]:
    """Complete lines without their newline. A last line without one is still being written, or is torn."""
    while line := opened.readline(_MAX_LINE):
        if line.endswith(b"\n"):
            if line != b"\n":
                yield line[:-1]
            continue
        tally.skip("torn")
        while line and not line.endswith(b"\n"):
            line = opened.readline(_MAX_LINE)
