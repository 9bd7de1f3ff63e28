"""Limits of the messages of a worker, used to write messages and to check them."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_DEVICES", "MAX_DONE", "MAX_FRAME", "MAX_NAME", "MAX_OPEN", "MAX_PHASES", "MAX_SPANS"]

#: Bytes of a frame. The largest batch of a worker stays below this.
MAX_FRAME: Final = 4 * 1024 * 1024
#: Finished requests of one batch.
MAX_DONE: Final = 2_000
#: Open requests and new models of one batch.
MAX_OPEN: Final = 10_000
#: Characters of a name.
MAX_NAME: Final = 256
#: Phases of one request; later marks are ignored, and the last phase continues.
MAX_PHASES: Final = 16
#: Busy intervals of one request on one device; a worker merges adjacent ones until they fit.
MAX_SPANS: Final = 64
#: Devices of one request or one report.
MAX_DEVICES: Final = 32
