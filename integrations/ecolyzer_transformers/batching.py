"""Continuous batching: requests begin and end while one thread runs all of them in common steps.

``generate_batch`` is one request, and the thread of its manager works for it. Each single ``add_request`` is a
request that lasts until its last token: the CPU time of a step is split over the requests in it, by the tokens that
it processes for each. On a GPU they share the energy by their time in flight.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic_ns, thread_time_ns
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

#: Requests of one manager that are followed at most.
_MAX_FOLLOWED: Final = 100_000


class _Failed(Exception):
    """The manager gave up on a request."""


class _Added:
    """A request of a manager."""

    __slots__ = ("call", "own", "prompt", "sequences", "states")

    def __init__(self, call: Call, prompt: int, sequences: int, *, own: bool) -> None:
        self.call = call
        self.prompt = prompt
        #: How many sequences it generates.
        self.sequences = sequences
        #: Whether the call is this request; else it encloses it.
        self.own = own
        self.states: dict[str, Any] = {}


class _Manager:
    """The requests of one manager."""

    def __init__(self) -> None:
        self.requests: dict[str, _Added] = {}
        #: The tokens of each request in the current step.
        self.batch: dict[str, int] = {}
        #: The request in which the thread was started, if any: then the thread works for it alone.
        self.starter: Call | None = None

    def enter(self, processor: Any) -> None:
        """A step begins, with the prepared requests."""
        self.batch = {}
        for one in _prepared(processor):
            state = getattr(one, "state", one)
            key = _key(state)
            request = self.requests.get(key)
            if request is None:
                continue
            if request.own and not request.states:
                request.call.mark("prefill")
            request.states[state.request_id] = state
            tokens = getattr(one, "query_length", None) or len(getattr(state, "tokens_to_process", ())) or 1
            self.batch[key] = self.batch.get(key, 0) + tokens

    def leave(self, spent_ns: int) -> None:
        """A step ends, and with it the requests that are complete."""
        batch, self.batch = self.batch, {}
        total = sum(batch.values())
        for key, tokens in batch.items():
            request = self.requests.get(key)
            if request is not None and request.call.open:
                request.call.spend(round(spent_ns * tokens / total))
        for key, request in list(self.requests.items()):
            if request.states:
                self._update(key, request)

    def _update(self, key: str, request: _Added) -> None:
        details = request.call.ensure_details()
        first = request.own and not details.first_token_ns
        if first and any(one.generated_len() for one in request.states.values()):
            details.first_token_ns = monotonic_ns()
            request.call.mark("decode")
        over = [one for one in request.states.values() if one.status.name in ("FINISHED", "FAILED")]
        if len(over) >= request.sequences:
            self.end(key, failed=any(one.status.name == "FAILED" for one in over))

    def end_all(self) -> None:
        """End all requests: the manager works for none of them any more."""
        for key in list(self.requests):
            self.end(key, failed=True)

    __del__ = end_all

    def end(self, key: str, *, failed: bool = False) -> None:
        """End one request, if it has not ended."""
        request = self.requests.pop(key, None)
        if request is None or not request.own:
            return
        generated = sum(_generated(one, request.prompt) for one in request.states.values())
        request.call.ensure_details().tokens = request.prompt, generated
        set_gen_ai_attributes(request.call, None)
        finish(request.call, _Failed() if failed else None)


def _key(state: Any) -> str:
    """The id of a request; its further sequences have ids of their own."""
    return str(state.request_id).partition("__child#")[0]


def _prepared(processor: Any) -> list[Any]:
    """The requests of the batch that is about to run; each release keeps them elsewhere."""
    holder = getattr(processor, "inputs_and_outputs", processor)
    pairs = getattr(holder, "io_pairs", None)
    if pairs:  # the next batch is prepared while this one runs
        holder = pairs[holder.current_pair].host_io
    return list(getattr(holder, "requests_in_batch", ()))


def _generated(state: Any, prompt: int) -> int:
    """New tokens of a sequence; when memory was short, some of them became part of its prompt."""
    given = getattr(state, "initial_tokens", None) or getattr(state, "full_prompt_ids", None) or ()
    return int(state.generated_len()) + max(0, len(given) - prompt)


_managers: Final[weakref.WeakKeyDictionary[Any, _Manager]] = weakref.WeakKeyDictionary()
#: The manager whose thread this is.
_here: ContextVar[_Manager | None] = ContextVar("ecolyzer_batching", default=None)


def _of(manager: Any) -> _Manager:
    return _managers.setdefault(manager, _Manager())


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
                _follow(self, request, outer.share(), args, kwargs, own=False)
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
        if not _follow(self, request, call, args, kwargs, own=True):
            call.ensure_details().training = True  # the manager did not accept it: no request
            finish(call, None)
        return request

    return add_request


def _follow(
    manager: Any, request: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], *, own: bool
) -> bool:
    with contextlib.suppress(Exception):
        followed = _of(manager).requests
        if request is not None and len(followed) < _MAX_FOLLOWED:
            prompt = len(args[0] if args else kwargs["input_ids"])
            sequences = getattr(manager, "num_return_sequences", None) or 1
            followed[str(request)] = _Added(call, prompt, int(sequences), own=own)
            return True
    return False


def cancelling(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.cancel_request(request_id)``."""

    @functools.wraps(original)
    def cancel_request(self: Any, request_id: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, request_id, *args, **kwargs)
        with contextlib.suppress(Exception):
            _of(self).end(str(request_id))
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
                here.end(_key(state), failed=True)
        return result

    return _handle_request_error


# The manager's thread.


def starting(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.start()``."""

    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):
            _of(self).starter = enclosing_request()
        return original(self, *args, **kwargs)

    return start


def looping(original: Any) -> Any:
    """Wrap ``_run_generation_loop``: calls in it are no requests; unfinished requests end with it."""
    guarded: Callable[..., Any] = training(original)

    @functools.wraps(original)
    def _run_generation_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        here = _of(self)
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
                    _of(self).end_all()

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
