"""The requests of a batching manager that are added one by one: their steps, tokens and ends."""

from __future__ import annotations

import contextlib
import weakref
from time import monotonic_ns
from typing import Any, Final

from ecolyzer_otel.instrumentor import Call, finish
from ecolyzer_transformers.generation import set_gen_ai_attributes

__all__ = ["Requests", "follow", "key_of", "requests_of"]

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


class Requests:
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
            key = key_of(state)
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


def key_of(state: Any) -> str:
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


_managers: Final[weakref.WeakKeyDictionary[Any, Requests]] = weakref.WeakKeyDictionary()


def requests_of(manager: Any) -> Requests:
    """Returns those of ``manager``, created at the first use."""
    return _managers.setdefault(manager, Requests())


def follow(
    manager: Any, request: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], *, own: bool
) -> bool:
    """Follow a request of ``add_request(input_ids, ...)``. False if it was not accepted, or there are too many."""
    with contextlib.suppress(Exception):
        followed = requests_of(manager).requests
        if request is not None and len(followed) < _MAX_FOLLOWED:
            prompt = len(args[0] if args else kwargs["input_ids"])
            sequences = getattr(manager, "num_return_sequences", None) or 1
            followed[str(request)] = _Added(call, prompt, int(sequences), own=own)
            return True
    return False
