"""The last figures on disk: they survive a restart, and meters on the same host share each fetch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

from ecolyzer_otel.impact.live.figure import Figure, Problem, grams, instant, label

__all__ = ["Cache", "Cached", "cache_folder"]

_log = logging.getLogger(__name__)

_VERSION: Final = 1
_MAX_BYTES: Final = 1 << 18
_MAX_FIGURES: Final = 96


@dataclass(frozen=True, slots=True)
class Cached:
    """The content of a cache file; ``fetched_s`` is the Unix time of the fetch."""

    fetched_s: float
    figures: tuple[Figure, ...]


def cache_folder(configured: str | None, environ: Mapping[str, str]) -> str | None:
    """The folder of the option ``cache``: as configured, else ``ecolyzer`` in the user's cache; None if off."""
    if configured is not None:
        return None if configured.strip().lower() == "none" else os.path.expanduser(configured)
    home = environ.get("HOME", "")
    base = environ.get("XDG_CACHE_HOME", "") or (os.path.join(home, ".cache") if home else "")
    return os.path.join(base, "ecolyzer") if os.path.isabs(base) else None


class Cache:
    """One file for one source at one place. No method raises; a failure is one line at debug level."""

    def __init__(self, folder: str | None, source: str, identity: str | None) -> None:
        # A user's address may contain a token: on disk the identity is a digest.
        self._identity = hashlib.sha256((identity or "").encode()).hexdigest()
        self._folder = folder
        self._logged = False
        self.path: str | None = None
        if folder is not None and identity is not None:
            slug = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")[:48]
            self.path = os.path.join(folder, f"grid-{slug}-{self._identity[:16]}.json")

    def read(self) -> Cached | None:
        """The content, or None: no file, damaged, of another source, or written by another user."""
        if self.path is None:
            return None
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            with open(descriptor, "rb") as file:
                about = os.fstat(descriptor)
                trusted = about.st_uid in (os.geteuid(), 0) if hasattr(os, "geteuid") else True
                if not stat.S_ISREG(about.st_mode) or not trusted:
                    raise ValueError("not a file of this user")
                text = file.read(_MAX_BYTES + 1)
            return self._parse(json.loads(text))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, Problem) as error:
            self._report("read", error)
            return None

    def write(self, fetched_s: float, figures: Sequence[Figure]) -> None:
        """Replace the file by the newest figures, atomically."""
        if self.path is None or self._folder is None:
            return
        kept = [asdict(figure) for figure in figures[-_MAX_FIGURES:]]
        document = {"version": _VERSION, "identity": self._identity, "fetched_s": fetched_s, "figures": kept}
        temporary = None
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".grid-")  # of mode 0600
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file)
            os.replace(temporary, self.path)
        except OSError as error:
            self._report("written", error)
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def _parse(self, document: Any) -> Cached:
        if document["version"] != _VERSION or document["identity"] != self._identity:
            raise ValueError("of another source")
        figures = [_figure(row) for row in document["figures"]]
        if any(one.from_s >= other.from_s for one, other in pairwise(figures)):
            raise ValueError("not in order of time")
        return Cached(instant(document["fetched_s"]), tuple(figures))

    def _report(self, action: str, error: Exception) -> None:
        if not self._logged:
            self._logged = True
            _log.debug("cache of grid figures cannot be %s: %s (%s)", action, self.path, type(error).__name__)


def _figure(row: Any) -> Figure:
    """A figure of the file, checked like one from the source: the file may have been edited."""
    until, uncertainty = row["until_s"], row["uncertainty"]
    if uncertainty is not None and not 0.0 <= float(uncertainty) < 10.0:
        raise ValueError("uncertainty")
    if not isinstance(row["estimated"], bool) or not isinstance(row["source_detail"], str):
        raise TypeError("estimated, source_detail")
    return Figure(
        grams_per_kwh=grams(row["grams_per_kwh"]),
        zone=label(row["zone"], "zone"),
        basis=label(row["basis"], "basis"),
        source=label(row["source"], "source"),
        source_detail=row["source_detail"][:500],
        from_s=instant(row["from_s"]),
        until_s=None if until is None else instant(until),
        estimated=row["estimated"],
        uncertainty=None if uncertainty is None else float(uncertainty),
    )
