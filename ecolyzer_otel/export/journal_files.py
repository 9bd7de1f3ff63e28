"""The folder of a journal: names of its files, appending to them, and compressing and removing old ones.

One file per run of a meter and UTC day, and another one when it has become large. So each file has one writer, and
several meters share a folder without a lock.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Final

from ecolyzer_otel.common.errors import ConfigError

__all__ = ["KEY", "JournalFile", "append", "day_of", "find", "prepare_folder", "tidy"]

_log = logging.getLogger(__name__)

#: The setting as the user spelled it, for messages.
KEY: Final = "--journal (ECOLYZER_JOURNAL)"
_NAME: Final = re.compile(r"ecolyzer-(\d{4}-\d\d-\d\d)-([0-9a-f]{16})\.(\d{4})\.jsonl(\.gz)?")
#: A file is compressed this many days after its day: no error of a time zone is that large.
_COMPRESS_AFTER_DAYS: Final = 2


@dataclass(frozen=True, slots=True, order=True)
class JournalFile:
    """One file of a journal; sorted by run of the meter, then in the order of writing."""

    life: str
    day: date
    index: int
    compressed: bool
    path: Path


def day_of(unix_seconds: float) -> date:
    """The UTC day of a Unix time."""
    return datetime.fromtimestamp(unix_seconds, timezone.utc).date()


def file_name(day: date, life: str, index: int) -> str:
    """``ecolyzer-2026-10-01-0123456789abcdef.0000.jsonl``."""
    return f"ecolyzer-{day.isoformat()}-{life}.{index:04d}.jsonl"


def find(folder: Path) -> list[JournalFile]:
    """Every journal file of ``folder``, in order; other files are ignored.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = []
    for entry in folder.iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is None:
            continue
        with suppress(ValueError):  # the 31st of February
            day = date.fromisoformat(match[1])
            found.append(JournalFile(match[2], day, int(match[3]), match[4] is not None, entry))
    return sorted(found)


def prepare_folder(folder: str) -> Path:
    """The folder, created (0700) if it is missing, after a test that files can be written in it.

    Raises:
        ConfigError: it cannot be used.
    """
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, prefix=".ecolyzer-") as probe:
            probe.write(b"\n")
            probe.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            KEY, f"no journal can be written in {path} ({reason})", "give a folder that the meter may write to"
        ) from None
    except ValueError as error:  # a NUL in the name
        raise ConfigError(KEY, f"{folder!r} is not the name of a folder ({error})", "give a folder") from None
    return path


def append(path: Path, line: bytes, *, new_line: bool) -> None:
    """Append ``line`` to ``path`` and wait until it is on the disk.

    The file is opened for each entry: so a missing folder is noticed, and used again when it is back.

    Args:
        path: the file; created with mode 0600.
        line: with its newline.
        new_line: begin with a newline, because the previous line may be torn.

    Raises:
        OSError: the line was not, or only partly, written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    created = not path.exists()
    descriptor = os.open(path, flags, 0o600)
    try:
        left = memoryview(b"\n" + line if new_line else line)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if created:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write the folder to the disk, so that a new file survives a crash; some file systems do not support it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def tidy(folder: Path, today: date, keep_days: float) -> None:
    """Remove files older than ``keep_days`` and compress those of past days. Never raises."""
    try:
        files = find(folder)
    except OSError:
        return
    for file in files:
        age = (today - file.day).days
        try:
            if age > keep_days:
                file.path.unlink(missing_ok=True)
            elif age >= _COMPRESS_AFTER_DAYS and not file.compressed:
                _compress(file.path)
        except OSError as error:
            _log.debug("%s is left unchanged: %s", file.path, error)


def _compress(path: Path) -> None:
    """Replace a finished file by a compressed copy. At every instant one of the two is complete.

    Both may exist after a crash, or where the file cannot be removed: the reader identifies entries by number.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".ecolyzer-")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as packed:
            with path.open("rb") as plain, gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as out:
                shutil.copyfileobj(plain, out, 1 << 20)
            packed.flush()
            os.fsync(packed.fileno())
        target = path.with_name(path.name + ".gz")
        if target.exists():  # a late entry was written after it was compressed: keep both
            return
        os.rename(name, target)
        _sync_folder(path.parent)
        path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            os.unlink(name)
