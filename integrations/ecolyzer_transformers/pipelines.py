"""``Pipeline.__call__``: one request per call; of a generator or a data set until the last result."""

from __future__ import annotations

import functools
from typing import Any

from ecolyzer_otel.call import Call, begin, current_call, finish, get_ident, suspend
from ecolyzer_otel.wrap import CallSpec, lending
from ecolyzer_transformers.facts import describe

__all__ = ["called"]


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = args[0] if args else next(iter(kwargs.values()), None)
    if isinstance(given, (list, tuple)):
        chat = bool(given) and isinstance(given[0], dict) and "role" in given[0]
        return 1 if chat else len(given)
    return 1


@functools.lru_cache(maxsize=1000)
def _spec(task: str) -> CallSpec:
    return CallSpec("transformers", task, describe, _items, container=True)


def called(original: Any) -> Any:
    """Wrap ``Pipeline.__call__``; the tasks' own call it."""

    @functools.wraps(original)
    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        if outer is not None and outer.open:
            if outer.training or outer.thread == get_ident() or get_ident() in outer.helpers:
                return original(self, *args, **kwargs)
            with lending(outer):
                return original(self, *args, **kwargs)
        call = begin(_spec(str(self.task)), self.model, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        if not hasattr(result, "__next__"):
            finish(call, None, result)
            return result
        suspend(call)
        call.items = 0
        result.__class__ = _streaming(type(result))  # type: ignore[arg-type]
        result._ecolyzer_call = call
        return result

    return __call__


@functools.lru_cache(maxsize=100)
def _streaming(kind: Any) -> Any:
    """The same kind of iterator, at work for its request within each step."""

    class Streaming(kind):  # type: ignore[misc]
        _ecolyzer_call: Call | None = None

        def __iter__(self) -> Any:
            call = self._ecolyzer_call
            if call is None or not call.open:
                return super().__iter__()  # a second time: whatever it calls is a request of its own
            with lending(call):
                return super().__iter__()

        def __next__(self) -> Any:
            call = self._ecolyzer_call
            if call is None or not call.open:
                return super().__next__()
            try:
                with lending(call):
                    result = super().__next__()
            except BaseException as error:
                finish(call, None if isinstance(error, StopIteration) else error)
                raise
            call.items += 1
            return result

        def __del__(self) -> None:
            call = self._ecolyzer_call
            if call is not None and call.open:
                finish(call, None)

    Streaming.__name__, Streaming.__qualname__ = kind.__name__, kind.__qualname__
    Streaming.__module__ = kind.__module__
    return Streaming
