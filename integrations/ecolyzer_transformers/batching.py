"""Continuous batching: requests begin and end while one thread runs all of them in common steps.

``generate_batch`` is one request, and the thread of its manager works for it. Each single ``add_request`` is a
request that lasts until its last token: the CPU time of a step is split over the requests in it, by the tokens that
it processes for each. On a GPU they share the energy by their time in flight.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextvars import ContextVar
from time import thread_time_ns
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    Call,
    begin,
    enclosing_call,
    enclosing_request,
    finish,
    leaf,
    lending,
    suspend,
    training,
)
from ecolyzer_transformers.facts import describe, spec
from ecolyzer_transformers.generation import set_gen_ai_attributes
from ecolyzer_transformers.managers import Requests, follow, key_of, requests_of
from ecolyzer_transformers.tokens import token_count

__all__ = [
    "adding",
    "cancelling",
    "cycling",
    "failing",
    "generating_batch",
    "looping",
    "starting",
    "stepping",
    "stopping",
]

#: The manager whose thread this is.
_here: ContextVar[Requests | None] = ContextVar("ecolyzer_batching", default=None)


# generate_batch: one request for all.


def _prompts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    inputs: Any = args[0] if args else kwargs.get("inputs")
    return len(inputs) if hasattr(inputs, "__len__") else 1


_BATCH: Final = spec("generate_batch", describe, _prompts, container=True)


def generating_batch(original: Any) -> Any:
    """Wrap ``generate_batch(inputs, ...)``."""

    @functools.wraps(original)
    def generate_batch(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, *args, **kwargs)
        call = enclosing_request()
        if call is not None:
            token_count(call).defer(call, functools.partial(_count, args, kwargs, outputs))
        return outputs

    return leaf(generate_batch, _BATCH)


def _count(args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, call: Call) -> tuple[int, int]:
    inputs: Any = args[0] if args else kwargs.get("inputs")
    set_gen_ai_attributes(call, kwargs.get("generation_config") or (args[1] if len(args) > 1 else None))
    return sum(map(len, inputs)), sum(len(one.generated_tokens) for one in outputs.values())


# add_request: one request each.


def _one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 1


_ADDED: Final = spec("generate", describe, _one)


def adding(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.add_request(input_ids, request_id=None, ...)``."""

    @functools.wraps(original)
    def add_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = enclosing_call()
        if outer is not None:
            request = original(self, *args, **kwargs)
            if not outer.training:  # a part of that request, as long as it is open
                follow(self, request, outer.share(), args, kwargs, own=False)
            return request
        call = begin(_ADDED, self.model, (), {})
        if call is None:
            return original(self, *args, **kwargs)
        call.events = None
        suspend(call)
        try:
            request = original(self, *args, **kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        if not follow(self, request, call, args, kwargs, own=True):
            call.ensure_details().training = True  # the manager did not accept it: no request
            finish(call, None)
        return request

    return add_request


def cancelling(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.cancel_request(request_id)``."""

    @functools.wraps(original)
    def cancel_request(self: Any, request_id: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, request_id, *args, **kwargs)
        with contextlib.suppress(Exception):
            requests_of(self).end(str(request_id))
        return result

    return cancel_request


def failing(original: Any) -> Any:
    """Wrap ``ContinuousBatchProcessor._handle_request_error(error, state)``: some fail before their first step."""

    @functools.wraps(original)
    def _handle_request_error(self: Any, error: Any, state: Any) -> Any:
        result = original(self, error, state)
        here = _here.get()
        if here is not None:
            with contextlib.suppress(Exception):
                here.end(key_of(state), failed=True)
        return result

    return _handle_request_error


# The manager's thread.


def starting(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.start()``."""

    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):
            requests_of(self).starter = enclosing_request()
        return original(self, *args, **kwargs)

    return start


def looping(original: Any) -> Any:
    """Wrap ``_run_generation_loop``: calls in it are no requests; unfinished requests end with it."""
    guarded: Callable[..., Any] = training(original)

    @functools.wraps(original)
    def _run_generation_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        here = requests_of(self)
        token = _here.set(here)
        try:
            if here.starter is None or not here.starter.open:
                return guarded(self, *args, **kwargs)
            with lending(here.starter):
                return original(self, *args, **kwargs)
        finally:
            here.starter = None
            _here.reset(token)
            here.end_all()

    return _run_generation_loop


def stopping(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.stop()``: requests that were added after the thread ended, end now."""

    @functools.wraps(original)
    def stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            with contextlib.suppress(Exception):
                if not self.is_running():
                    requests_of(self).end_all()

    return stop


def stepping(original: Any) -> Any:
    """Wrap ``_generation_step``, which runs the batch that was prepared."""

    @functools.wraps(original)
    def _generation_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        here = _here.get()
        if here is not None and here.starter is None:
            with contextlib.suppress(Exception):
                here.enter(args[0] if args else self.batch_processor)
        return original(self, *args, **kwargs)

    return _generation_step


def cycling(original: Any) -> Any:
    """Wrap one cycle of the loop: its CPU time is split over the requests in it."""

    @functools.wraps(original)
    def cycle(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = thread_time_ns()
        try:
            return original(self, *args, **kwargs)
        finally:
            here = _here.get()
            if here is not None:
                with contextlib.suppress(Exception):
                    here.leave(thread_time_ns() - before)

    return cycle
