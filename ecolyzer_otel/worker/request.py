"""Requests that code marks itself: :class:`request`.

Not needed where a framework is instrumented; for anything else, mark requests yourself::

    with ecolyzer_otel.request("my-model", operation="summarise", items=len(texts)) as r:
        answer = engine.run(texts)
    print(r.energy)          # waits for the settlement: joules, a float with more to it

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

    What is called of instrumented frameworks inside is part of it, in helper threads too if they have its context
    (``asyncio.to_thread``). Within another request it is no request but part of that one. As a decorator it makes
    each call a request; a bare ``@request`` takes the function's name.

    Args:
        model: the model's name, or the model itself, which is then described by the instrumentor of its framework.
        operation: what is done.
        items: batch size.
        framework: whose model it is.
        parameters: of the model, for ESS.
        dtype: of its parameters.
        device: where it runs: ``cpu``, ``cuda:0``.
    """

    @overload
    def __new__(cls, model: F) -> F: ...  # type: ignore[misc]
    @overload
    def __new__(cls, model: Any = ..., **options: Any) -> request: ...
    def __new__(cls, model: Any = None, **options: Any) -> Any:
        """A bare decorator gets the function, everybody else a block."""
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
        """Open until the stream ends, at work only within the steps that it gives: what is between is not ours."""
        with self:
            call = None if self.nested else self._call
            if call is not None:
                suspend(call)
            yield contextlib.nullcontext if call is None else lambda: lending(call)

    def _again(self) -> request:
        other: request = object.__new__(request)
        other._items, other._model, other._spec = self._items, self._model, self._spec
        return other

    def __call__(self, function: F) -> F:
        """Make each call of ``function`` a request; coroutine functions and generators too."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def streamed(*args: Any, **kwargs: Any) -> Any:
                items, given, thrown = function(*args, **kwargs), None, None
                with self._again()._streaming() as step:
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
                        except BaseException as error:  # noqa: BLE001 - it is the generator's own business
                            thrown = error

            return streamed  # type: ignore[return-value]
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generated(*args: Any, **kwargs: Any) -> Any:
                items, given, thrown = function(*args, **kwargs), None, None
                with self._again()._streaming() as step:
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
                        except BaseException as error:  # noqa: BLE001 - it is the generator's own business
                            thrown = error

            return generated  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return called  # type: ignore[return-value]


def current() -> request | None:
    """The request that encloses what runs here, as a block to hand to :class:`batch`; None outside of any."""
    call = enclosing_request()
    if call is None:
        return None
    block: request = object.__new__(request)
    block._call, block.nested = call, True
    return block
