"""The folder of a journal: names of its files, appending to them, and what is done with old ones.

One file per meter life and UTC day, and a further one when it has grown large. So a file has one writer only, and
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
#: A file is compressed when its day ended at least so many days ago: no clock is that wrong by daylight saving.
_COMPRESS_AFTER_DAYS: Final = 2


@dataclass(frozen=True, slots=True, order=True)
class JournalFile:
    """One file of a journal; sorted by meter life, then in the order of writing."""

    life: str
    day: date
    index: int
    packed: bool
    path: Path


def day_of(unix_seconds: float) -> date:
    """The UTC day of a Unix time."""
    return datetime.fromtimestamp(unix_seconds, timezone.utc).date()


def file_name(day: date, life: str, index: int) -> str:
    """``ecolyzer-2026-10-01-0123456789abcdef.0000.jsonl``."""
    return f"ecolyzer-{day.isoformat()}-{life}.{index:04d}.jsonl"


def find(folder: Path) -> list[JournalFile]:
    """Every journal file of ``folder``, in order; other files are not looked at.

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
    """The folder, made (0700) if it is not there, after a trial that a file can be written in it.

    Raises:
        ConfigError: it cannot be used.
    """
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, prefix=".ecolyzer-") as trial:
            trial.write(b"\n")
            trial.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            KEY, f"no journal can be kept in {path} ({reason})", "give a folder that the meter may write to"
        ) from None
    except ValueError as error:  # a NUL in the name
        raise ConfigError(KEY, f"{folder!r} is not a folder's name ({error})", "give a folder") from None
    return path


def append(path: Path, line: bytes, *, new_line: bool) -> None:
    """Append ``line`` to ``path`` and wait until it is on the disk.

    The file is opened for each entry: so a folder that went away is noticed, and one that came back is used.

    Args:
        path: the file; made with mode 0600.
        line: with its newline.
        new_line: begin with a newline, because what was written before may have been torn.

    Raises:
        OSError: it was not, or not wholly, written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    made = not path.exists()
    descriptor = os.open(path, flags, 0o600)
    try:
        left = memoryview(b"\n" + line if new_line else line)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if made:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is; some file systems refuse, which costs nothing here."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def tidy(folder: Path, today: date, keep_days: float) -> None:
    """Remove files older than ``keep_days`` and compress those of days past. Never raises."""
    try:
        files = find(folder)
    except OSError:
        return
    for file in files:
        age = (today - file.day).days
        try:
            if age > keep_days:
                file.path.unlink(missing_ok=True)
            elif age >= _COMPRESS_AFTER_DAYS and not file.packed:
                _compress(file.path)
        except OSError as error:
            _log.debug("%s stays as it is: %s", file.path, error)


def _compress(path: Path) -> None:
    """Replace a finished file by a compressed copy. At every instant one of the two is whole.

    Both may be there after a crash, or where the file may not be removed: the reader knows entries by number.
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
