"""Continuous batching: requests come and go while one thread steps through all of them at once.

``generate_batch`` is one request, and the thread of its manager works for it. What is added to a manager by itself
is a request each, from ``add_request`` until its last token: the CPU time of each step goes to those that are in
it, by the tokens that it processes for each. On a GPU they share what it draws by their time in flight.
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
    current_call,
    enclosing,
    finish,
    leaf,
    lending,
    suspend,
    training,
)
from ecolyzer_transformers.facts import describe, spec
from ecolyzer_transformers.generation import tell
from ecolyzer_transformers.tokens import tally

__all__ = ["added", "cancelled", "failed", "generated_batch", "looped", "started", "stepped", "stepping", "stopped"]

#: Requests that one manager is watched for.
_MAX_WATCHED: Final = 100_000


class _Failed(Exception):
    """The manager gave a request up."""


class _Added:
    """A request of a manager."""

    __slots__ = ("call", "left", "own", "prompt", "states")

    def __init__(self, call: Call, prompt: int, sequences: int, *, own: bool) -> None:
        self.call = call
        self.prompt = prompt
        #: Sequences that are not finished.
        self.left = sequences
        #: Whether the call was begun for it; else it encloses it.
        self.own = own
        self.states: dict[str, Any] = {}


class _Manager:
    """What is known of the requests of one manager."""

    def __init__(self) -> None:
        self.requests: dict[str, _Added] = {}
        #: Who is in the present step, each with its tokens.
        self.batch: dict[str, int] = {}
        #: The call in which the thread was started, if any: then the thread works for it alone.
        self.starter: Call | None = None

    def enter(self, processor: Any) -> None:
        """A step begins, of all that is prepared."""
        self.batch = {}
        for one in _prepared(processor):
            state = getattr(one, "state", one)
            request = str(state.request_id).partition("__child#")[0]
            known = self.requests.get(request)
            if known is None:
                continue
            if known.own and not known.states:
                known.call.mark("prefill")
            known.states[state.request_id] = state
            tokens = getattr(one, "query_length", None) or len(getattr(state, "tokens_to_process", ())) or 1
            self.batch[request] = self.batch.get(request, 0) + tokens

    def leave(self, spent_ns: int) -> None:
        """It is over; so are those that have all they wanted."""
        batch, self.batch = self.batch, {}
        total = sum(batch.values())
        for request, tokens in batch.items():
            known = self.requests.get(request)
            if known is not None and known.call.open:
                known.call.spend(round(spent_ns * tokens / total))
        for request, known in list(self.requests.items()):
            if known.states:
                self._look(request, known)

    def _look(self, request: str, known: _Added) -> None:
        more = known.call.ensure_details()
        if known.own and not more.first_token_ns and any(one.generated_len() for one in known.states.values()):
            more.first_token_ns = monotonic_ns()
            known.call.mark("decode")
        over = [one for one in known.states.values() if one.status.name in ("FINISHED", "FAILED")]
        if len(over) >= known.left:
            self.end(request, failed=any(one.status.name == "FAILED" for one in over))

    def end_all(self) -> None:
        """Nobody works for them any more."""
        for request in list(self.requests):
            self.end(request, failed=True)

    __del__ = end_all

    def end(self, request: str, *, failed: bool = False) -> None:
        """There will be no more of it."""
        known = self.requests.pop(request, None)
        if known is None or not known.own:
            return
        known.call.ensure_details().tokens = (
            known.prompt,
            sum(_generated(one, known.prompt) for one in known.states.values()),
        )
        tell(known.call, None)
        finish(known.call, _Failed() if failed else None)


def _prepared(processor: Any) -> list[Any]:
    """The requests of the batch that is about to run; in every release they are kept elsewhere."""
    holder = getattr(processor, "inputs_and_outputs", processor)
    pairs = getattr(holder, "io_pairs", None)
    if pairs:  # the next batch is prepared while this one runs
        holder = pairs[holder.current_pair].host_io
    return list(getattr(holder, "requests_in_batch", ()))


def _generated(state: Any, prompt: int) -> int:
    """New tokens of a sequence; when memory was short, some of them have become part of its prompt."""
    given = getattr(state, "initial_tokens", None) or getattr(state, "full_prompt_ids", None) or ()
    return int(state.generated_len()) + max(0, len(given) - prompt)


_managers: Final[weakref.WeakKeyDictionary[Any, _Manager]] = weakref.WeakKeyDictionary()
#: Whose thread this is.
_here: ContextVar[_Manager | None] = ContextVar("ecolyzer_batching", default=None)


def _known(manager: Any) -> _Manager:
    return _managers.setdefault(manager, _Manager())


# One call for all.


def _prompts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    inputs: Any = args[0] if args else kwargs.get("inputs")
    return len(inputs) if hasattr(inputs, "__len__") else 1


_BATCH: Final = spec("generate_batch", describe, _prompts, container=True)


def generated_batch(original: Any) -> Any:
    """Wrap ``generate_batch(inputs, ...)``."""

    @functools.wraps(original)
    def generate_batch(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, *args, **kwargs)
        call = enclosing()
        if call is not None:
            tally(call).hold(call, functools.partial(_count, args, kwargs, outputs))
        return outputs

    return leaf(generate_batch, _BATCH)


def _count(args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any, call: Call) -> tuple[int, int]:
    inputs: Any = args[0] if args else kwargs.get("inputs")
    tell(call, kwargs.get("generation_config") or (args[1] if len(args) > 1 else None))
    return sum(map(len, inputs)), sum(len(one.generated_tokens) for one in outputs.values())


# One call for each.


def _one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 1


_ADDED: Final = spec("generate", describe, _one)


def added(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.add_request(input_ids, request_id=None, ...)``."""

    @functools.wraps(original)
    def add_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        if outer is not None and outer.open:
            return original(self, *args, **kwargs) if outer.training else _enclosed(original, self, args, kwargs)
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
        if not _watch(self, request, call, args, kwargs, own=True):
            call.ensure_details().training = True  # it was not taken: no request
            finish(call, None)
        return request

    return add_request


def _enclosed(original: Any, manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Added within a request: part of that, as long as it is open."""
    call = current_call.get()
    request = original(manager, *args, **kwargs)
    if call is not None:
        _watch(manager, request, call.share(), args, kwargs, own=False)
    return request


def _watch(
    manager: Any, request: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], *, own: bool
) -> bool:
    with contextlib.suppress(Exception):
        watched = _known(manager).requests
        if request is not None and len(watched) < _MAX_WATCHED:
            prompt = len(args[0] if args else kwargs["input_ids"])
            sequences = getattr(manager, "num_return_sequences", None) or 1
            watched[str(request)] = _Added(call, prompt, int(sequences), own=own)
            return True
    return False


def cancelled(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.cancel_request(request_id)``."""

    @functools.wraps(original)
    def cancel_request(self: Any, request_id: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, request_id, *args, **kwargs)
        with contextlib.suppress(Exception):
            _known(self).end(str(request_id))
        return result

    return cancel_request


def failed(original: Any) -> Any:
    """Wrap ``ContinuousBatchProcessor._handle_request_error(error, state)``: some fail before their first step."""

    @functools.wraps(original)
    def _handle_request_error(self: Any, error: Any, state: Any) -> Any:
        result = original(self, error, state)
        here = _here.get()
        if here is not None:
            with contextlib.suppress(Exception):
                here.end(str(state.request_id).partition("__child#")[0], failed=True)
        return result

    return _handle_request_error


# The manager's thread.


def started(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.start()``."""

    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):
            _known(self).starter = enclosing()
        return original(self, *args, **kwargs)

    return start


def looped(original: Any) -> Any:
    """Wrap ``_run_generation_loop``: what it calls is no request; what it leaves unfinished ends with it."""
    guarded: Callable[..., Any] = training(original)

    @functools.wraps(original)
    def _run_generation_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        here = _known(self)
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


def stopped(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.stop()``: what was added since the thread ended, ends now."""

    @functools.wraps(original)
    def stop(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            with contextlib.suppress(Exception):
                if not self.is_running():
                    _known(self).end_all()

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


def stepped(original: Any) -> Any:
    """Wrap one turn of the loop: its CPU time goes to those that it works for."""

    @functools.wraps(original)
    def turn(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = thread_time_ns()
        try:
            return original(self, *args, **kwargs)
        finally:
            here = _here.get()
            if here is not None:
                with contextlib.suppress(Exception):
                    here.leave(thread_time_ns() - before)

    return turn
