"""What the meter calls the GPU that a framework calls ``cuda:0``.

CUDA numbers the GPUs that a process may see. ``CUDA_VISIBLE_DEVICES`` says which those are: indices, or UUIDs of
GPUs or MIG instances. In a container ``NVIDIA_VISIBLE_DEVICES`` names what it was given; only its UUIDs are of use,
for they mean the same to a meter inside and outside, and Kubernetes' device plugin writes UUIDs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["sensor_name"]


def sensor_name(device: str, environ: Mapping[str, str] | None = None) -> str:
    """``gpu2``, ``GPU-…`` or ``MIG-…`` for a framework's device; "" for a CPU and for what is not visible.

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
    """The entry of a comma-separated list; "" where it has none."""
    found = [entry.strip() for entry in entries.split(",")]
    return found[number] if number < len(found) else ""
