"""Cheap repeated reads of small kernel files, and single reads that return None instead of raising."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["HeldFile", "hwmon_chips", "read_int", "read_text"]


class HeldFile:
    """A small file that is read repeatedly through one open descriptor.

    ``os.pread`` on an open descriptor takes 2-3 us; open, read and close take 9 us.
    """

    __slots__ = ("_fd", "_size", "path")

    def __init__(self, path: str | Path, size: int = 128) -> None:
        self.path = Path(path)
        self._size = size
        self._fd: int | None = None

    def read(self) -> bytes:
        """Returns the first bytes of the file, never empty.

        Raises:
            OSError: the file cannot be read, not even through a new descriptor.
        """
        try:
            return self._pread()
        except OSError:
            # A zone that was removed and registered again (module reload) returns ENODEV through the old
            # descriptor for ever; an empty read comes from a script that rewrites its tree. Both need a new open.
            self.close()
        try:
            return self._pread()
        except OSError:
            self.close()
            raise

    def _pread(self) -> bytes:
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            # Deleted or replaced by rename: on a disk the descriptor would return the old bytes for ever.
            self.close()
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(self._fd, self._size, 0)
        if not data:
            raise OSError(errno.EIO, "it is empty", str(self.path))
        return data

    def close(self) -> None:
        """Close the descriptor; the next read opens the file again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def read_text(path: str | Path) -> str | None:
    """Returns the stripped text of a file, None if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: str | Path) -> int | None:
    """Returns the integer in a file, None if there is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def hwmon_chips(sysfs: Path) -> Iterator[tuple[str, Path]]:
    """Yields name and folder of every hwmon chip, in the order of their numbers (hwmon10 after hwmon2)."""
    try:
        entries = [entry for entry in (sysfs / "class/hwmon").iterdir() if re.fullmatch(r"hwmon\d+", entry.name)]
    except OSError:
        return
    for entry in sorted(entries, key=lambda entry: int(entry.name[5:])):
        # Before Linux 3.15 a driver's files were in its device's folder; those of ACPI's power meter still are.
        name = read_text(entry / "name") or read_text(entry / "device/name")
        if name:
            yield name, entry
