"""Requests that code marks itself: :class:`request`.

Not needed where a framework is instrumented; for anything else, mark requests yourself::

    with ecolyzer_otel.request("my-model", operation="summarise", items=len(texts)) as r:
        answer = engine.run(texts)
    print(r.energy)          # waits for the settlement: joules, a float with attributes

    @ecolyzer_otel.request("my-model")
    async def answer(question): ...

    async with ecolyzer_otel.request("my-model") as r: ...
    await r.settlement()
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar, overload

from ecolyzer_otel.worker.block import FUNCTIONS, Block, described
from ecolyzer_otel.worker.hot_path import suspend
from ecolyzer_otel.worker.nesting import enclosing_request, lending
from ecolyzer_otel.worker.spec import ModelFacts

__all__ = ["current", "request"]

F = TypeVar("F", bound=Callable[..., Any])


class request(Block):
    """One inference request, as a block or a decorator, in plain code and in coroutines.

    Calls of instrumented frameworks inside are part of it, also in helper threads that have its context
    (``asyncio.to_thread``). Inside another request it is a part of that one, not a request. As a decorator it makes
    each call a request; a bare ``@request`` uses the function's name.

    Args:
        model: the model's name, or the model itself, which is then described by the instrumentor of its framework.
        operation: the name of the operation.
        items: batch size.
        framework: the model's framework.
        parameters: of the model, for ESS.
        dtype: of its parameters.
        device: the device that it runs on: ``cpu``, ``cuda:0``.
    """

    @overload
    def __new__(cls, model: F) -> F: ...  # type: ignore[misc]
    @overload
    def __new__(cls, model: Any = ..., **options: Any) -> request: ...
    def __new__(cls, model: Any = None, **options: Any) -> Any:
        """Returns the wrapped function for a bare decorator, else a block."""
        if isinstance(model, FUNCTIONS) and not options:
            return cls(getattr(model, "__qualname__", "function"))(model)
        return super().__new__(cls)

    def __init__(
        self,
        model: Any = None,
        *,
        operation: str = "request",
        items: int = 1,
        framework: str = "custom",
        parameters: int | None = None,
        dtype: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._items = items
        facts = ModelFacts(model if isinstance(model, str) else "", parameters, dtype, device, framework)
        self._model, self._spec = described(model, operation, facts)

    def __enter__(self) -> request:
        self._open(self._spec, self._model, self._items)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    async def __aenter__(self) -> request:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    @contextlib.contextmanager
    def _streaming(self) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
        """A request that is open until the stream ends, and at work only within the steps that this yields."""
        with self:
            call = None if self.nested else self._call
            if call is not None:
                suspend(call)
            yield contextlib.nullcontext if call is None else lambda: lending(call)

    def _copy(self) -> request:
        other: request = object.__new__(request)
        other._items, other._model, other._spec = self._items, self._model, self._spec
        return other

    def __call__(self, function: F) -> F:
        """Make each call of ``function`` a request; coroutine functions and generators too."""
        if inspect.iscoroutinefunction(function):
            return self._wrap_coroutine(function)  # type: ignore[return-value]
        if inspect.isasyncgenfunction(function):
            return self._wrap_async_generator(function)  # type: ignore[return-value]
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._copy():
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]

    def _wrap_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with self._copy():
                return await function(*args, **kwargs)

        return awaited

    def _wrap_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As :meth:`_wrap_generator`, for an async one."""

        @functools.wraps(function)
        async def streamed(*args: Any, **kwargs: Any) -> Any:
            items, given, thrown = function(*args, **kwargs), None, None
            with self._copy()._streaming() as step:
                while True:
                    with step():
                        try:
                            one = await (items.asend(given) if thrown is None else items.athrow(thrown))
                        except StopAsyncIteration:
                            return
                    given = thrown = None
                    try:
                        given = yield one
                    except GeneratorExit:
                        with step():
                            await items.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - thrown into the generator, which handles it
                        thrown = error

        return streamed

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """One request per generator; passes on what its consumer sends and throws (PEP 342)."""

        @functools.wraps(function)
        def generated(*args: Any, **kwargs: Any) -> Any:
            items, given, thrown = function(*args, **kwargs), None, None
            with self._copy()._streaming() as step:
                while True:
                    with step():
                        try:
                            one = items.send(given) if thrown is None else items.throw(thrown)
                        except StopIteration as end:
                            return end.value
                    given = thrown = None
                    try:
                        given = yield one
                    except GeneratorExit:
                        with step():
                            items.close()
                        raise
                    except BaseException as error:  # noqa: BLE001 - thrown into the generator, which handles it
                        thrown = error

        return generated


def current() -> request | None:
    """Returns the request that encloses the running code, as a block for :class:`batch`; None outside any."""
    call = enclosing_request()
    if call is None:
        return None
    block: request = object.__new__(request)
    block._call, block.nested = call, True
    return block
