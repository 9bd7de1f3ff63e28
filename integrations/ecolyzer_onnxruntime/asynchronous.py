"""``run_async``: the request lasts from the call to the callback, which runs in a thread of the runtime."""

from __future__ import annotations

import functools
from typing import Any

from ecolyzer_otel.instrumentor import CallSpec, Suspended, begin, enclosing_call

__all__ = ["until_the_callback"]


def until_the_callback(original: Any, spec: CallSpec) -> Any:
    """Wrap ``run_async(output_names, input_feed, callback, user_data, run_options)``.

    The runtime's threads are not Python's: their CPU time is read by thread, as in ``run``.
    """

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        call = begin(spec, self, args, kwargs) if enclosing_call() is None else None
        if call is None:
            return original(self, *args, **kwargs)
        # Before the runtime starts: the callback may run before this thread continues.
        request = Suspended(call)
        try:
            args, kwargs, has_callback = _with_callback(args, kwargs, request)
            with request.step():
                result = original(self, *args, **kwargs)
        except BaseException as error:
            request.end(error)
            raise
        if not has_callback:
            request.end()
        return result

    return wrapper


def _with_callback(
    args: tuple[Any, ...], kwargs: dict[str, Any], request: Suspended
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """Returns the arguments with a callback that ends the request; False if there is no callable one."""
    given = args[2] if len(args) > 2 else kwargs.get("callback")
    if not callable(given):
        return args, kwargs, False

    @functools.wraps(given, updated=())
    def callback(*results: Any) -> Any:
        # (results, user_data, error message)
        failed = len(results) > 2 and results[2]
        request.end(RuntimeError() if failed else None)
        return given(*results)

    if len(args) > 2:
        return (*args[:2], callback, *args[3:]), kwargs, True
    return args, {**kwargs, "callback": callback}, True
