"""Continuous batching: requests come and go while one thread steps through all of them at once.

``generate_batch`` is one request. What is added to a manager by itself is a request each, from ``add_request``
until its last output is delivered. The CPU time of each step of the manager's thread goes to those that are in it,
by the tokens that it processes for each; the thread's module calls are nobody's own.
"""

from __future__ import annotations

import functools
import weakref
from time import monotonic_ns, thread_time_ns
from typing import Any, Final

from ecolyzer_otel.call import Call, begin, current_call, finish, suspend
from ecolyzer_otel.wrap import CallSpec, leaf, training
from ecolyzer_transformers.facts import describe
from ecolyzer_transformers.generation import note_request

__all__ = ["added", "cancelled", "delivered", "delivered_batch", "generated_batch", "looped", "stepped"]


class _Owner:
    """Whose a request of a manager is: a call that was begun for it, or one that encloses it."""

    __slots__ = ("call", "own")

    def __init__(self, call: Call, own: bool) -> None:
        self.call = call
        self.own = own


#: By the manager's router of outputs, or by the manager where it has none; then by id.
_owners: Final[weakref.WeakKeyDictionary[Any, dict[str, _Owner]]] = weakref.WeakKeyDictionary()
#: Requests that one manager is watched for.
_MAX_WATCHED: Final = 100_000


class _Failed(Exception):
    """The manager gave a request up."""


def _key(manager: Any) -> Any:
    return getattr(manager, "output_router", manager)


# One call for all.


def _prompts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    inputs: Any = args[0] if args else kwargs.get("inputs")
    return len(inputs) if hasattr(inputs, "__len__") else 1


def _keep(call: Call, result: Any) -> None:
    call.events = result


def _count(call: Call) -> None:
    outputs = list((call.events or {}).values())
    call.events = None
    prompts = {tuple(one.prompt_ids) for one in outputs}
    call.note().tokens = sum(map(len, prompts)), sum(len(one.generated_tokens) for one in outputs)
    note_request(call, lambda name: None, None)


_BATCH: Final = CallSpec(
    "transformers", "generate_batch", describe, _prompts, ended=_keep, complete=_count, container=True
)


def generated_batch(original: Any) -> Any:
    """Wrap ``generate_batch(inputs, ...)``."""
    return leaf(original, _BATCH)


# One call for each.


def _one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 1


_ADDED: Final = CallSpec("transformers", "generate", describe, _one)


def added(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.add_request(input_ids, ...)``."""

    @functools.wraps(original)
    def add_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = current_call.get()
        enclosed = outer is not None and outer.open and not outer.training
        call = outer.itself if outer is not None and enclosed else begin(_ADDED, self.model, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        if enclosed:
            call.share()
        else:
            suspend(call)
            call.mark("prefill")
        try:
            request = original(self, *args, **kwargs)
        except BaseException as error:
            if not enclosed:
                finish(call, error)
            raise
        watched = _owners.setdefault(_key(self), {})
        if isinstance(request, str) and len(watched) < _MAX_WATCHED:
            watched[request] = _Owner(call, not enclosed)
        elif not enclosed:
            finish(call, None)
        return request

    return add_request


def cancelled(original: Any) -> Any:
    """Wrap ``ContinuousBatchingManager.cancel_request(request_id)``."""

    @functools.wraps(original)
    def cancel_request(self: Any, request_id: str, *args: Any, **kwargs: Any) -> Any:
        _end(_key(self), request_id, None)
        return original(self, request_id, *args, **kwargs)

    return cancel_request


def delivered(original: Any) -> Any:
    """Wrap ``OutputRouter.deliver(output)``."""

    @functools.wraps(original)
    def deliver(self: Any, output: Any, *args: Any, **kwargs: Any) -> Any:
        _heard(self, output)
        return original(self, output, *args, **kwargs)

    return deliver


def delivered_batch(original: Any) -> Any:
    """Wrap ``OutputRouter.deliver_batch(outputs)``."""

    @functools.wraps(original)
    def deliver_batch(self: Any, outputs: Any, *args: Any, **kwargs: Any) -> Any:
        for output in outputs:
            _heard(self, output)
        return original(self, outputs, *args, **kwargs)

    return deliver_batch


def _heard(router: Any, output: Any) -> None:
    if output.is_finished():
        _end(router, output.request_id, output)


def _end(router: Any, request: str, output: Any) -> None:
    owner = _owners.get(router, {}).pop(request, None)
    if owner is None or not owner.own:
        return
    call = owner.call
    if output is not None:
        call.note().tokens = len(output.prompt_ids), len(output.generated_tokens)
        note_request(call, lambda name: None, None)
    failed = output is not None and getattr(output, "error", None)
    finish(call, _Failed() if failed else None)


# The manager's thread.


def looped(original: Any) -> Any:
    """Wrap ``_run_generation_loop``: what it calls is no request; what it leaves unfinished ends with it."""
    guarded = training(original)

    @functools.wraps(original)
    def _run_generation_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return guarded(self, *args, **kwargs)
        finally:
            for request in list(_owners.get(_key(self), ())):
                _end(_key(self), request, None)

    return _run_generation_loop


def stepped(original: Any) -> Any:
    """Wrap one turn of the loop: its CPU time goes to those that it works for."""

    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = thread_time_ns()
        owners = dict(_owners.get(_key(self), ()))
        try:
            return original(self, *args, **kwargs)
        finally:
            _share(self, owners, thread_time_ns() - before)

    return step


def _share(manager: Any, owners: dict[str, _Owner], spent_ns: int) -> None:
    owners = owners or _owners.get(_key(manager), {})
    scheduler = getattr(getattr(manager, "batch_processor", None), "scheduler", None)
    states = getattr(scheduler, "active_requests", None) or {}
    weights = {
        request: max(1, len(getattr(states.get(request), "tokens_to_process", ()) or ())) for request in owners
    }
    total = sum(weights.values())
    for request, owner in owners.items():
        owner.call.spend(round(spent_ns * weights[request] / total))
        if owner.own and owner.call.open and getattr(states.get(request), "generated_tokens", None):
            more = owner.call.note()
            if not more.first_token_ns:
                more.first_token_ns = monotonic_ns()
                owner.call.mark("decode")
