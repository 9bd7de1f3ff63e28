"""Declarations of instrumentors: a call (:class:`CallSpec`) and the facts of a model (:class:`ModelFacts`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecolyzer_otel.worker.details import CallView

__all__ = ["CallSpec", "ModelFacts", "batch_from_result", "batch_of"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The facts of a model. ``parameters`` is None when they cannot be counted.

    ``framework`` overrides the instrumentor's, for a booster behind another framework's interface.
    """

    name: str
    parameters: int | None = None
    dtype: str | None = None
    device: str = "cpu"
    framework: str | None = None


def batch_of(value: Any) -> Any:
    """Returns the batch size of one input: first dimension of an array, length of a list, else 1.

    Called on the request path: it touches attributes only and computes nothing. The result is made an integer
    off the path.
    """
    shape = getattr(value, "shape", None)
    if shape is not None:
        return shape[0] if len(shape) else 1
    if isinstance(value, (list, tuple)):
        return len(value)
    return 1


def batch_from_result(call: CallView, result: Any) -> None:
    """For :attr:`CallSpec.ended`: the batch size of the result, where the arguments did not show one."""
    if call.items is None:
        call.items = batch_of(result)


def _first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args:
        value = args[0]  # as batch_of, without its call
        shape = getattr(value, "shape", None)
        if shape is not None:
            return shape[0] if len(shape) else 1
        return len(value) if isinstance(value, (list, tuple)) else 1
    for value in kwargs.values():
        return batch_of(value)
    return 1


@dataclass(frozen=True, slots=True)
class CallSpec:
    """The description of the calls of one patched method.

    Attributes:
        framework: the value of ``ecolyzer.framework``.
        operation: the value of ``ecolyzer.operation``.
        describe: returns the facts of a model. Runs on the background thread, once per model.
        items: returns the batch size from the call's arguments. Runs on the request path and must be cheap.
        kernels: returns the busy intervals ``[start_ns, end_ns]`` (``time.monotonic_ns``) of the call's kernels by
            device (``cuda:0``, or the meter's name for it); None until they are known. Runs on the background
            thread, possibly many times, also while the call is open, and must not wait for the device.
        started: ``started(call, args, kwargs)`` runs on the request path, just inside the clocks. It may set
            ``call.events`` or ``call.ensure_details()``.
        ended: ``ended(call, result)``, likewise; ``result`` is None when the call raised.
        container: whether the span starts with the call and is made current, because calls inside may
            have spans of its own.
        encloses: False where calls inside may run in other threads in the call's context.

    Functions in ``call.ensure_details().completions`` run on the background thread before a finished call is
    reported; they turn what was noted into numbers. A callback that raises loses only what it would have set.
    """

    framework: str
    operation: str
    describe: Callable[[Any], ModelFacts]
    items: Callable[[tuple[Any, ...], dict[str, Any]], Any] = _first_argument
    kernels: Callable[[CallView], Mapping[str, Sequence[Sequence[int]]] | None] | None = None
    started: Callable[[CallView, tuple[Any, ...], dict[str, Any]], None] | None = None
    ended: Callable[[CallView, Any], None] | None = None
    container: bool = False
    encloses: bool = True

    @property
    def plain(self) -> bool:
        """Whether a call runs in one thread with no spans inside: brief calls may then share a clock reading."""
        return self.encloses and not self.container
