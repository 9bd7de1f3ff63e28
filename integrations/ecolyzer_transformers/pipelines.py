"""``Pipeline.__call__``: one request per call; with a generator or a data set until the last result is taken."""

from __future__ import annotations

import contextlib
import functools
import re
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    MAX_PHASES,
    Call,
    CallSpec,
    Suspended,
    begin,
    enclosing_call,
    finish,
    nested,
)
from ecolyzer_transformers.facts import describe, spec
from ecolyzer_transformers.tokens import token_count

__all__ = ["answered", "called"]

#: Phase marks that a generation within a pipeline needs.
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
    """Wrap ``Pipeline.__call__``, which the pipelines of all tasks call."""

    @functools.wraps(original)
    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        outer = enclosing_call()
        if outer is not None:
            return nested(outer, original, self, *args, **kwargs)
        what = _spec(str(getattr(self, "task", None) or _task_of(type(self).__name__)))
        call = begin(what, getattr(self, "model", self), args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        batch = kwargs.get("batch_size") or getattr(self, "_batch_size", None) or 1
        if isinstance(batch, int) and isinstance(call.items, int) and call.items > batch * (MAX_PHASES // _MARKS):
            token_count(call).phased = False
        # Not by measured(): the call may outlast this function.
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        if not hasattr(result, "__next__") or not _follow(result, call, args):
            if args and hasattr(args[0], "__next__") and isinstance(result, list):
                call.items = len(result)  # a generator that this release reads to its end at once
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
    """Let the request last until its last result is taken. False where the results cannot be followed."""
    try:
        kind: Any = type(results)
        results.__class__ = _streaming(kind)
        sized = bool(args) and hasattr(args[0], "__len__")
        vars(results)["_ecolyzer_stream"] = _Stream(call, again=sized)
    except Exception:  # noqa: BLE001 - not one of transformers' own iterators
        return False
    return True


class _Stream:
    """The request whose results an iterator yields."""

    def __init__(self, call: Call, *, again: bool) -> None:
        #: Whether a second iteration computes everything again.
        self.again = again
        self.spec, self.model = call.spec, call.model
        #: None between iterations.
        self.request: Suspended | None = _suspended(call)

    def begin(self) -> None:
        """An iteration begins; from the second on, it is a request of its own."""
        if self.request is None and self.again and enclosing_call() is None:
            call = begin(self.spec, self.model, (), {})
            if call is not None:
                self.request = _suspended(call)

    def step(self) -> contextlib.AbstractContextManager[None]:
        """Returns the context manager within which a result is computed."""
        return contextlib.nullcontext() if self.request is None else self.request.step()

    def took(self) -> None:
        """One result was computed."""
        if self.request is not None:
            self.request.call.items += 1

    def end(self, error: BaseException | None = None) -> None:
        """There are no more results, or the iteration was given up."""
        request, self.request = self.request, None
        if request is not None:
            request.end(None if isinstance(error, StopIteration) else error)

    def __del__(self) -> None:
        self.end()


def _suspended(call: Call) -> Suspended:
    call.events = None  # kernels run now and then: the first and the last bound no busy interval
    token_count(call).phased = False
    suspended = Suspended(call)
    call.items = 0
    return suspended


@functools.lru_cache(maxsize=100)
def _streaming(kind: Any) -> Any:
    """Returns a subclass of an iterator's class whose steps work for its request."""

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
