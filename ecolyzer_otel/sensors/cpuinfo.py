"""The processor according to /proc/cpuinfo, as far as the hardware table needs it."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from ecolyzer_otel.sensors.files import read_text

__all__ = ["CpuInfo", "parse_cpuinfo", "provider", "read_cpuinfo"]

_VENDORS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "0x41": "arm"}
#: DMI ``sys_vendor`` of the clouds whose per-vCPU figures the hardware table has.
_PROVIDERS = {"Amazon EC2": "aws", "Google": "gcp", "Microsoft Corporation": "azure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuInfo:
    """A processor as the kernel reports it.

    ``vendor`` is ``intel``, ``amd``, ``arm`` or empty; ``part`` is an ARM core's part number. ``virtual`` is True
    in a guest of a hypervisor (x86 only: ARM has no such flag). ``sockets``, ``cores`` and ``threads`` are those
    that this machine sees.
    """

    name: str
    vendor: str = ""
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    part: int | None = None
    virtual: bool = False
    sockets: int = 1
    cores: int = 1
    threads: int = 1


def read_cpuinfo(procfs: str | Path = "/proc") -> CpuInfo:
    """Returns the processor of this machine; from :mod:`platform` where there is no procfs."""
    text = read_text(Path(procfs) / "cpuinfo")
    if text:
        return parse_cpuinfo(text)
    # Windows: "Intel64 Family 6 Model 85 Stepping 7, GenuineIntel"; macOS: "arm" or "i386".
    name = platform.processor()
    numbers = {key: int(value) for key, value in re.findall(r"(Family|Model|Stepping) (\d+)", name)}
    threads = os.cpu_count() or 1
    vendor = next((short for long, short in _VENDORS.items() if long in name), "")
    return CpuInfo(
        name=name,
        vendor=vendor,
        family=numbers.get("Family"),
        model=numbers.get("Model"),
        stepping=numbers.get("Stepping"),
        cores=threads,
        threads=threads,
    )


def parse_cpuinfo(text: str) -> CpuInfo:
    """Returns the processor from the text of /proc/cpuinfo; missing keys keep their defaults."""
    blocks = [dict(_pairs(block)) for block in re.split(r"\n\s*\n", text.strip())]
    processors = [block for block in blocks if "processor" in block] or blocks[:1]
    first = processors[0]
    vendor = first.get("vendor_id") or first.get("CPU implementer") or ""
    sockets = {block.get("physical id", "0") for block in processors}
    cores = {(block.get("physical id", "0"), block.get("core id", block.get("processor"))) for block in processors}
    return CpuInfo(
        name=first.get("model name", ""),
        vendor=_VENDORS.get(vendor, ""),
        family=_number(first.get("cpu family")),
        model=_number(first.get("model")),
        stepping=_number(first.get("stepping")),
        part=_number(first.get("CPU part")),
        virtual="hypervisor" in first.get("flags", "").split(),
        sockets=len(sockets),
        cores=len(cores),
        threads=len(processors),
    )


def provider(sysfs: str | Path = "/sys") -> str | None:
    """Returns ``aws``, ``gcp`` or ``azure`` by the machine's DMI vendor, None for any other machine."""
    return _PROVIDERS.get(read_text(Path(sysfs) / "class/dmi/id/sys_vendor") or "")


def _pairs(block: str) -> list[tuple[str, str]]:
    split = (line.partition(":") for line in block.splitlines())
    return [(key.strip(), value.strip()) for key, colon, value in split if colon]


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None
