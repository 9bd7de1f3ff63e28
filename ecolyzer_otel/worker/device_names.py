"""The meter's name of a framework's device: ``gpu0`` for ``cuda:0``.

CUDA numbers the GPUs that a process may see. ``CUDA_VISIBLE_DEVICES`` lists these: indices, or UUIDs of GPUs or MIG
instances. In a container ``NVIDIA_VISIBLE_DEVICES`` lists its devices; only UUIDs are used, because they mean the
same inside and outside, and Kubernetes' device plugin writes UUIDs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["sensor_name"]


def sensor_name(device: str, environ: Mapping[str, str] | None = None) -> str:
    """Returns ``gpu2``, ``GPU-…`` or ``MIG-…`` for a framework's device; "" for a CPU or an invisible device.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``gpu:0``.
        environ: the environment; default ``os.environ``.
    """
    kind, _, index = device.partition(":")
    if kind not in ("cuda", "gpu", "rocm", "hip") or not (index or "0").isdecimal():
        return ""
    environ = os.environ if environ is None else environ
    number = int(index or 0)
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = _entry(visible, number)
        if not chosen.isdecimal():
            return chosen
        number = int(chosen)
    given = _entry(environ.get("NVIDIA_VISIBLE_DEVICES", ""), number)
    return given if given.startswith(("GPU-", "MIG-")) else f"gpu{number}"


def _entry(entries: str, number: int) -> str:
    """Returns an entry of a comma-separated list; "" if it has no such entry."""
    found = [entry.strip() for entry in entries.split(",")]
    return found[number] if number < len(found) else ""
