"""``Pipeline.__call__``: one request per call; of a generator or a data set until the last result is taken."""

from __future__ import annotations

import contextlib
import functools
import re
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    INSIDE,
    MAX_PHASES,
    OUTERMOST,
    Call,
    CallSpec,
    begin,
    current_call,
    finish,
    lending,
    placement_of,
    suspend,
)
from ecolyzer_transformers.facts import describe, spec
from ecolyzer_transformers.tokens import tally

__all__ = ["answered", "called"]

#: Marks that a generation within a pipeline needs.
_MARKS: Final = 3


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = args[0] if args else next(iter(kwargs.values()), None)
    if isinstance(given, (list, tuple)):
        chat = bool(given) and isinstance(given[0], dict) and "role" in given[0]
        return 1 if chat else len(given)
    return 1


@functools.lru_cache(maxsize=1000)
def _spec(task: str) -> CallSpec:
    return spec(task, describe, _items, container=True)


@functools.lru_cache(maxsize=1000)
def _task_of(name: str) -> str:
    """``TextClassificationPipeline`` is of the task ``text-classification``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removesuffix("Pipeline") or name).lower()


def called(original: Any) -> Any:
    """Wrap ``Pipeline.__call__``; the tasks' own call it."""

    @functools.wraps(original)
    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        if outer is not None and outer.open:
            if placement_of(outer) is INSIDE:
                return original(self, *args, **kwargs)
            with lending(outer):
                return original(self, *args, **kwargs)
        what = _spec(str(getattr(self, "task", None) or _task_of(type(self).__name__)))
        call = begin(what, getattr(self, "model", self), args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        batch = kwargs.get("batch_size") or getattr(self, "_batch_size", None) or 1
        if isinstance(batch, int) and isinstance(call.items, int) and call.items > batch * (MAX_PHASES // _MARKS):
            tally(call).phased = False
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        if not hasattr(result, "__next__") or not _follow(result, call, args):
            if args and hasattr(args[0], "__next__") and isinstance(result, list):
                call.items = len(result)  # a generator that this release goes through at once
            finish(call, None, result)
        return result

    return __call__


def answered(original: Any) -> Any:
    """Wrap a function whose first argument is a pipeline that it runs step by step."""
    wrapper = called(original)

    @functools.wraps(original)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return wrapper(*args, **kwargs) if args else original(**kwargs)

    return answer


def _follow(results: Any, call: Call, args: tuple[Any, ...]) -> bool:
    """Let the request last as long as its results are taken. False where they cannot be followed."""
    try:
        kind: Any = type(results)
        results.__class__ = _streaming(kind)
        sized = bool(args) and hasattr(args[0], "__len__")
        vars(results)["_ecolyzer_stream"] = _Stream(call, again=sized)
    except Exception:  # noqa: BLE001 - not one of transformers' own iterators
        return False
    return True


class _Stream:
    """The request whose results an iterator gives."""

    def __init__(self, call: Call, *, again: bool) -> None:
        #: Whether going through it once more computes everything once more.
        self.again = again
        self.spec, self.model = call.spec, call.model
        self.call: Call | None = None
        self._suspend(call)

    def _suspend(self, call: Call) -> None:
        call.events = None  # kernels run now and then: their first and last say nothing
        tally(call).phased = False
        suspend(call)
        call.items = 0
        self.call = call

    def begin(self) -> None:
        """It is gone through, perhaps once more: that is a request of its own."""
        if self.call is None and self.again and placement_of(current_call.get()) is OUTERMOST:
            call = begin(self.spec, self.model, (), {})
            if call is not None:
                self._suspend(call)

    def step(self) -> Any:
        """In which one result is computed."""
        return contextlib.nullcontext() if self.call is None else lending(self.call)

    def took(self) -> None:
        """One result was computed."""
        if self.call is not None:
            self.call.items += 1

    def end(self, error: BaseException | None = None) -> None:
        """There are no more, or nobody wants them."""
        call, self.call = self.call, None
        if call is not None:
            finish(call, None if isinstance(error, StopIteration) else error)

    def __del__(self) -> None:
        self.end()


@functools.lru_cache(maxsize=100)
def _streaming(kind: Any) -> Any:
    """The same kind of iterator, at work for its request within each step."""

    class Streaming(kind):  # type: ignore[misc]
        _ecolyzer_stream: _Stream

        def __iter__(self) -> Any:
            stream = self._ecolyzer_stream
            stream.begin()
            with stream.step():
                return super().__iter__()

        def __next__(self) -> Any:
            stream = self._ecolyzer_stream
            try:
                with stream.step():
                    result = super().__next__()
            except BaseException as error:
                stream.end(error)
                raise
            stream.took()
            return result

    Streaming.__name__, Streaming.__qualname__ = kind.__name__, kind.__qualname__
    Streaming.__module__ = kind.__module__
    return Streaming
