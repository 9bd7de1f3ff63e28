"""The packaged hardware table: design power of processors, and watts per hardware thread of architectures.

``data/hardware_tdp.csv`` and its provenance: every row carries its source (Intel ARK and AMD specifications via
codecarbon's CSVs, MIT; per-thread rows from Cloud Carbon Footprint's SPECpower_ssj2008 fits, Apache-2.0). The table
is not cached, because it is needed once, at discovery.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from statistics import fmean

from ecolyzer_otel.sensors.cpuinfo import CpuInfo

__all__ = ["CpuRow", "HardwareTable", "ThreadRow", "clean_name"]


@dataclass(frozen=True, slots=True)
class CpuRow:
    """A processor model: design power in watts, physical cores (None if the table does not have them)."""

    model: str
    name_pattern: str
    tdp_watts: float
    cores: int | None


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """Watts of one hardware thread (vCPU) with its share of the server: idle, and fully busy.

    ``provider`` is the cloud that the figures were fitted for, or "mean". ``proxy`` is True for figures of a
    similar architecture.
    """

    vendor: str
    architecture: str
    provider: str
    idle_watts: float
    max_watts: float
    proxy: bool = False


#: (vendor, family, models or None for all, steppings or None for all) -> architectures of the table, best first.
#: Model numbers: Linux arch/x86/include/asm/intel-family.h; AMD's from its processor programming references.
#: EPYC 5th Gen: the table's row is flagged suspect (5 times its siblings), so the 4th generation stands in.
_X86: tuple[tuple[str, int, range | tuple[int, ...] | None, range | None, tuple[str, ...]], ...] = (
    ("amd", 23, (1,), None, ("EPYC 1st Gen",)),
    ("amd", 23, (49,), None, ("EPYC 2nd Gen",)),
    ("amd", 25, (1,), None, ("EPYC 3rd Gen",)),
    ("amd", 25, (17, 160), None, ("EPYC 4th Gen",)),
    ("amd", 26, None, None, ("EPYC 5th Gen", "EPYC 4th Gen")),
    ("intel", 6, (45,), None, ("Sandy Bridge",)),
    ("intel", 6, (62,), None, ("Ivy Bridge",)),
    ("intel", 6, (63,), None, ("Haswell",)),
    ("intel", 6, (79, 86), None, ("Broadwell",)),
    ("intel", 6, (85,), range(5), ("Skylake",)),
    ("intel", 6, (85,), None, ("Cascade Lake",)),  # steppings 5-7; Cooper Lake (10, 11) is its refresh
    ("intel", 6, (106, 108), None, ("Ice Lake",)),
    ("intel", 6, (143,), None, ("Sapphire Rapids",)),
    ("intel", 6, (158,), None, ("Coffee Lake",)),
    ("intel", 6, (173, 174), None, ("Granite Rapids",)),
    ("intel", 6, (207,), None, ("Emerald Rapids",)),
)
#: ARM part numbers (implementer 0x41): Neoverse N1, V1, V2, the cores of these Gravitons and of others.
_ARM = {0xD0C: "Graviton2", 0xD40: "Graviton3", 0xD4F: "Graviton4"}


#: Idle over design power for a GPU without an idle figure: the mean of those that have one is 0.1.
_GPU_IDLE_PART = 0.1
_WORDS_WITH_DIGITS = re.compile(r"[0-9a-z]*\d[0-9a-z]*")


class HardwareTable:
    """The rows of the hardware table: processors, threads, and idle watts of GPUs by name pattern."""

    def __init__(
        self, cpus: list[CpuRow], threads: list[ThreadRow], gpus: Sequence[tuple[str, float]] = ()
    ) -> None:
        self._cpus = cpus
        self._threads = threads
        self._gpus = gpus

    @classmethod
    def load(cls) -> HardwareTable:
        """Reads the packaged table (250 kB, some 10 ms)."""
        cpus, threads, gpus = [], [], []
        path = resources.files("ecolyzer_otel.sensors") / "data" / "hardware_tdp.csv"
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["kind"] == "cpu" and row["tdp_w"]:
                    cores = int(row["cores"]) if row["cores"] else None
                    cpus.append(CpuRow(row["model"], row["name_pattern"], float(row["tdp_w"]), cores))
                elif row["kind"] == "cpu_arch_per_thread" and not row["note"].startswith("suspect"):
                    threads.append(_thread_row(row))
                elif row["kind"] == "gpu" and (row["idle_w"] or row["tdp_w"]):
                    # Idle is a tenth of the design power in the rows that have both.
                    gpus.append((row["name_pattern"], float(row["idle_w"] or _GPU_IDLE_PART * float(row["tdp_w"]))))
        return cls(cpus, threads, gpus)

    def gpu_idle(self, name: str) -> float | None:
        """Returns the idle watts of a GPU by its name, None if no row matches."""
        found = [(len(match[0]), watts) for pattern, watts in self._gpus if (match := re.search(pattern, name))]
        return max(found)[1] if found else None

    def cpu(self, name: str) -> CpuRow | None:
        """Returns the row whose pattern matches the longest part of a processor's name, None if none matches."""
        best: tuple[int, CpuRow] | None = None
        text = clean_name(name)
        folded = text.casefold()
        for row in self._cpus:
            # Compiling 1200 patterns takes a quarter of a second; this check excludes nearly all rows first.
            if not all(word in folded for word in _WORDS_WITH_DIGITS.findall(row.model.casefold())):
                continue
            match = re.search(row.name_pattern, text)
            if match and (best is None or len(match[0]) > best[0]):
                best = (len(match[0]), row)
        return None if best is None else best[1]

    def sibling(self, name: str) -> CpuRow | None:
        """Returns the public model of an OEM or cloud variant: same digits, other suffix (8480C: 8480+)."""
        found = re.fullmatch(r"(.*\d{4})[A-Z+]{1,2}\b.*", clean_name(name), re.IGNORECASE)
        if found is None:
            return None
        by_name = {row.model.casefold(): row for row in self._cpus}
        stem = found[1].casefold()
        # Other suffixes (T, N, V …) are low-power or special models, which differ too much.
        return by_name.get(stem) or by_name.get(stem + "+")

    def per_thread(self, cpu: CpuInfo, provider: str | None = None) -> ThreadRow | None:
        """Returns the row of the processor's architecture: that of the provider, else the mean of all providers."""
        wanted = _architectures(cpu)
        for architecture in wanted:
            rows = [row for row in self._threads if row.architecture == architecture]
            own = [row for row in rows if row.provider == provider]
            if not rows:
                continue
            row = own[0] if own else _mean(rows, architecture)
            if architecture == wanted[0]:
                return row
            return replace(row, architecture=f"{wanted[0]} (by {architecture})", proxy=True)
        return None

    def generic(self) -> ThreadRow:
        """Returns the mean of all per-thread rows that are not proxies, for unknown processors."""
        return _mean([row for row in self._threads if not row.proxy], "generic server")


def clean_name(name: str) -> str:
    """Returns a /proc/cpuinfo name as the table spells it: without (R), (TM), the frequency, and the word CPU."""
    text = re.sub(r"\((?:R|TM)\)", " ", name, flags=re.IGNORECASE)
    text = re.sub(r"\s*@.*$", "", text)
    text = re.sub(r"\bCPU\b", " ", text, flags=re.IGNORECASE)
    return " ".join(text.split())


def _thread_row(row: dict[str, str]) -> ThreadRow:
    architecture, _, provider = row["model"].partition(" [")
    proxy = row["note"].startswith("proxy")
    return ThreadRow(
        row["vendor"], architecture, provider.rstrip("]"), float(row["idle_w"]), float(row["max_w"]), proxy
    )


def _mean(rows: list[ThreadRow], architecture: str) -> ThreadRow:
    return ThreadRow(
        rows[0].vendor,
        architecture,
        "mean",
        fmean(row.idle_watts for row in rows),
        fmean(row.max_watts for row in rows),
        any(row.proxy for row in rows),
    )


def _architectures(cpu: CpuInfo) -> tuple[str, ...]:
    if cpu.vendor == "arm":
        return (_ARM[cpu.part],) if cpu.part in _ARM else ()
    for vendor, family, models, steppings, architectures in _X86:
        if (
            (cpu.vendor, cpu.family) == (vendor, family)
            and (models is None or cpu.model in models)
            and (steppings is None or cpu.stepping in steppings)
        ):
            return architectures
    return ()
