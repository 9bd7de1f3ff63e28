"""The environment of the tests and of what they start: nothing of the shell's, no meter or agent but theirs."""

from __future__ import annotations

import itertools
import os

from ecolyzer_otel.meter.neighbours import GROUP

_OURS = ("ECOLYZER_", "OTEL_")
#: Settings of the tests themselves.
_KEPT = ("ECOLYZER_NEEDS_SERVERS",)
#: No agent of the host is looked for.
_OWN = {"ECOLYZER_AGENT_SOCKET": "none"}
_numbers = itertools.count()


def clean(**more: str) -> dict[str, str]:
    """An environment for a process: this one's without settings of the meter or of OpenTelemetry, and ``more``."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_OURS)} | _OWN | more


def use_own() -> None:
    """Drop what the shell has set for the meter and for OpenTelemetry from the environment of this process."""
    for key in [key for key in os.environ if key.startswith(_OURS) and key not in _KEPT]:
        del os.environ[key]
    os.environ.update(_OWN)


def be_alone() -> None:
    """Meters that are started from now on see each other, and none that was started before or by anybody else."""
    os.environ[GROUP] = f"test-{os.getpid()}-{next(_numbers)}"
