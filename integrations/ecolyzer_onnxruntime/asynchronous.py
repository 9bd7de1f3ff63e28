"""``run_async``: the request lasts from the call to the callback, which comes in a thread of the runtime."""

from __future__ import annotations

import functools
from typing import Any

from ecolyzer_otel.instrumentor import Call, CallSpec, begin, current_call, finish, lending, suspend

__all__ = ["until_the_callback"]


def until_the_callback(original: Any, spec: CallSpec) -> Any:
    """Wrap ``run_async(output_names, input_feed, callback, user_data, run_options)``.

    The runtime's threads are not Python's: what they spend is measured by the thread, as in ``run``.
    """

    @functools.wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        if outer is not None and outer.open:
            return original(self, *args, **kwargs)
        call = begin(spec, self, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        ending = _Ending(call)
        # Before the runtime has it, for the callback may come before this thread goes on.
        suspend(call)
        try:
            args, kwargs, comes = _with_callback(args, kwargs, ending)
            with lending(call):
                result = original(self, *args, **kwargs)
        except BaseException as error:
            ending.end(error)
            raise
        if not comes:
            ending.end(None)
        return result

    return wrapper


class _Ending:
    """Ends a call once, whoever comes first."""

    __slots__ = ("_calls",)

    def __init__(self, call: Call) -> None:
        self._calls = [call]

    def end(self, error: BaseException | None) -> None:
        try:
            call = self._calls.pop()  # atomic
        except IndexError:
            return
        finish(call, error)


def _with_callback(
    args: tuple[Any, ...], kwargs: dict[str, Any], ending: _Ending
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """The arguments with a callback that ends the call; False when there is none that could be called."""
    given = args[2] if len(args) > 2 else kwargs.get("callback")
    if not callable(given):
        return args, kwargs, False

    @functools.wraps(given, updated=())
    def callback(*results: Any) -> Any:
        # (results, user_data, error message)
        failed = len(results) > 2 and results[2]
        ending.end(RuntimeError() if failed else None)
        return given(*results)

    if len(args) > 2:
        return (*args[:2], callback, *args[3:]), kwargs, True
    return args, {**kwargs, "callback": callback}, True
