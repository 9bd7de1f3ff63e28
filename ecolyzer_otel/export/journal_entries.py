"""What one line of the journal holds, and the reader of a folder of them.

Format (docs/report.md)::

    {"crc":"89abcdef","v":1,"life":"…","seq":7,"from":…,"to":…,"facts":{…},"strings":["shop","resnet50",…],
     "counters":{"ecolyzer_requests":{"labels":["service",…],"points":[[0,1,…,3]]}},
     "histograms":{stem:{"labels":[…],"points":[[0,1,…,count,sum]]}},
     "gauges":{stem:{"labels":[…],"points":[[0,1,…,473.0]]}}}

``crc`` is the CRC-32 of everything after it up to the newline. A point is the index of each label's value in
``strings``, then the value. Counters and histograms are increments since the entry before; ``gauges`` are all that
is in force, and are left out while they have not changed. Labels are named in each line, so that a reader of
another version finds its way.
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
#: Characters up to and with the comma after the checksum.
_PREFIX: Final = len(_HEAD) + 8 + len(b'",')
#: Longer lines are not ours: the writer splits what would be longer.
_LONGEST: Final = 32 << 20

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Table:
    """One family: names of its labels, and rows of (label values, numbers)."""

    labels: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Times are Unix seconds; counters and histograms (count, sum) are increments within them.

    ``gauges`` are those in force at its end, whether this entry or an earlier one of its meter told them.
    """

    life: str
    seq: int
    from_s: float
    to_s: float
    facts: Mapping[str, str]
    counters: Mapping[str, Table]
    histograms: Mapping[str, Table]
    gauges: Mapping[str, Table] = field(default_factory=dict)
    tells_gauges: bool = False


@dataclass(slots=True)
class Tally:
    """What a reader met: entries read, and lines passed over by reason."""

    entries: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def skip(self, reason: str) -> None:
        """Count one line."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    @property
    def lines_skipped(self) -> int:
        """All of them."""
        return sum(self.skipped.values())


def encode(document: Mapping[str, Any]) -> bytes:
    """One line, with checksum and newline."""
    body = _encoder.encode(document)[1:]
    return b'%s%08x",%s\n' % (_HEAD, zlib.crc32(body), body)


def decode(line: bytes) -> Entry | str:
    """The entry in ``line`` (without its newline), or why there is none."""
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
        tells_gauges="gauges" in document,
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

    So each entry belongs to one of two neighbouring periods, and one that ends some milliseconds after midnight to
    the day that it tells of. Lines that are torn, damaged, not understood or of another version are counted in
    ``tally`` and passed over. An entry that was written again, because the meter could not know that it had reached
    the disk, counts once.

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
        for entry in _in_force(files, tally):
            if entry.from_s >= until_s:
                break
            if since_s <= (entry.from_s + entry.to_s) / 2 < until_s:
                tally.entries += 1
                yield entry


def _in_force(files: list[JournalFile], tally: Tally) -> Iterator[Entry]:
    """The entries of one meter, each once and with the gauges in force."""
    gauges: Mapping[str, Table] = {}
    given: set[int] = set()
    waiting: Entry | None = None
    for entry in (entry for file in files for entry in _lines(file, tally)):
        # The last of several with one number holds the increments of all before it.
        if waiting is not None and waiting.seq != entry.seq:
            given.add(waiting.seq)
            yield waiting
            waiting = None
        if entry.seq in given:
            continue
        if entry.tells_gauges:
            gauges = entry.gauges
        waiting = replace(entry, gauges=gauges)
    if waiting is not None:
        yield waiting


def _lines(file: JournalFile, tally: Tally) -> Iterator[Entry]:
    try:
        with gzip.open(file.path, "rb") if file.packed else file.path.open("rb") as opened:
            for line in _split(cast("IO[bytes]", opened), tally):
                entry = decode(line)
                if isinstance(entry, str):
                    tally.skip(entry)
                elif entry.life == file.life:
                    yield entry
                else:
                    tally.skip("of another meter")
    except (OSError, EOFError, zlib.error):  # a damaged archive gives what comes before the damage
        tally.skip("unreadable file")


def _split(opened: IO[bytes], tally: Tally) -> Iterator[bytes]:
    """Whole lines without their newline. A last one without newline is still being written, or was torn."""
    while line := opened.readline(_LONGEST):
        if line.endswith(b"\n"):
            if line != b"\n":
                yield line[:-1]
            continue
        tally.skip("torn")
        while line and not line.endswith(b"\n"):
            line = opened.readline(_LONGEST)
