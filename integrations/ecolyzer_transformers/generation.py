"""``generate``: one request, or part of one; its phases, the first token, and how many tokens went in and came out.

All modes of generation ask ``_has_unfinished_sequences`` before each step: the second time, the first token is
there. What was decided of lengths, ends and sampling is read where ``_prepare_generated_length`` gives it back.
Forward passes are left alone, so that compiled ones stay whole.

Within another request, generations add their tokens and phases to that; phases as long as there is room for them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from time import monotonic_ns
from typing import Any, Final

from ecolyzer_otel.instrumentor import (
    INSIDE,
    MAX_PHASES,
    Attr,
    Call,
    CallView,
    batch_of,
    begin,
    current_call,
    lending,
    measured,
    placement_of,
)
from ecolyzer_transformers.facts import describe, spec
from ecolyzer_transformers.serving import context_of
from ecolyzer_transformers.tokens import generated_tokens, given_tokens, tally

__all__ = ["Generation", "counting", "generated", "preparing", "tell"]

_PROMPTS: Final = ("inputs", "input_ids", "inputs_embeds", "input_features", "pixel_values", "input_values")
_SETTINGS: Final = {
    Attr.GEN_AI_TEMPERATURE: "temperature",
    Attr.GEN_AI_TOP_P: "top_p",
    Attr.GEN_AI_TOP_K: "top_k",
}
#: Sequences of which it is told why they ended.
_MAX_REASONS: Final = 128


def _prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args and args[0] is not None:
        return args[0]
    return next((kwargs[name] for name in _PROMPTS if kwargs.get(name) is not None), None)


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return batch_of(_prompt(args, kwargs))


_GENERATE: Final = spec("generate", describe, _items, container=True)


class Generation:
    """What is noted of one ``generate`` until its tokens are counted."""

    __slots__ = ("call", "config", "length", "mask", "model", "prompt", "result", "steps", "stopped")

    def __init__(self, model: Any, call: Call | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.model = model
        #: Whose phases these are; None where they are nobody's.
        self.call = call
        self.prompt = _prompt(args, kwargs)
        self.mask = kwargs.get("attention_mask")
        self.stopped = kwargs.get("stopping_criteria") is not None or kwargs.get("stop_strings") is not None
        self.config: Any = None
        #: How many tokens of each sequence of the result were given.
        self.length: int | None = None
        self.result: Any = None
        self.steps = 0

    def count(self, call: CallView) -> tuple[int, int]:
        """Input and output tokens; tells ``call`` what was asked for."""
        config = self.config if self.config is not None else getattr(self.model, "generation_config", None)
        pad, ends = _numbers(config, "pad_token_id"), _numbers(config, "eos_token_id")
        length, shape = self.length, tuple(getattr(self.prompt, "shape", ()))
        ids = self.prompt if len(shape) == 2 and not self.prompt.is_floating_point() else None
        # What has no ids and no embeddings is sound or an image: its mask masks no tokens.
        mask = self.mask if ids is not None or len(shape) != 3 or shape[-1] == self._width() else None
        # As transformers guesses a mask that it was not given.
        given = given_tokens(ids, mask, pad[0] if pad and not set(pad) & set(ends) else None)
        if not shape:
            given = length or 0  # it began with the token that begins a sequence
        rows = self.result
        if getattr(rows, "ndim", 0) != 2 or rows.is_floating_point():
            tell(call, config, length)
            return given, 0  # none, or sound
        if length is None:
            length = shape[1] if ids is not None and rows.shape[1] >= shape[1] else 0
        found = generated_tokens(rows, length, ends, pad[0] if pad and self.stopped and len(rows) > 1 else None)
        most = tell(call, config, length)
        tell_reasons(call, ["stop" if ended or (most and new < most) else "length" for new, ended in found])
        return given, sum(new for new, _ in found)

    def _width(self) -> int:
        with suppress(Exception):
            return int(self.model.get_input_embeddings().weight.shape[-1])
        return -1


def _numbers(config: Any, name: str) -> list[int]:
    value = getattr(config, name, None)
    if value is None:
        return []
    return [int(one) for one in (value if isinstance(value, (list, tuple)) else [value])]


def tell(call: CallView, config: Any, length: int | None = None, operation: str = "text_completion") -> int | None:
    """What the conventions for generative AI ask for, besides tokens. Returns how many tokens were asked for."""
    more = call.ensure_details()
    told: dict[str, Any] = {Attr.GEN_AI_OPERATION: operation}
    most = getattr(config, "max_new_tokens", None)
    if not isinstance(most, int):
        until = getattr(config, "max_length", None)
        most = until - length if isinstance(until, int) and length is not None else None
    if most is not None:
        told[Attr.GEN_AI_MAX_TOKENS] = most
    if getattr(config, "do_sample", False):
        settings = {key: getattr(config, name, None) for key, name in _SETTINGS.items()}
        told |= {key: value for key, value in settings.items() if isinstance(value, (int, float))}
    choices = getattr(config, "num_return_sequences", None)
    if isinstance(choices, int) and choices > 1:
        told[Attr.GEN_AI_CHOICES] = choices
    more.attributes = (more.attributes or {}) | told
    return most


def tell_reasons(call: CallView, reasons: list[str]) -> None:
    """Why each sequence ended; those of a request's generations one after the other."""
    attributes = call.ensure_details().attributes or {}
    known = [*attributes.get(Attr.GEN_AI_FINISH_REASONS, ()), *reasons]
    call.ensure_details().attributes = attributes | {Attr.GEN_AI_FINISH_REASONS: known[:_MAX_REASONS]}


#: The generation whose steps are counted; False within one that is part of another's (an assistant's).
_generating: ContextVar[Generation | bool | None] = ContextVar("ecolyzer_generating", default=None)


def generated(original: Any) -> Any:
    """Wrap ``GenerationMixin.generate``."""
    compiling = sys.modules["torch"].compiler.is_compiling

    @functools.wraps(original)
    def generate(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if compiling():
            return original(self, *args, **kwargs)
        outer = current_call.get()
        if outer is not None and outer.open:
            if outer.training:
                return original(self, *args, **kwargs)
            if placement_of(outer) is INSIDE:
                return _part(outer.actual, original, self, args, kwargs)
            with lending(outer):
                return _part(outer.actual, original, self, args, kwargs)
        context = context_of(kwargs.get("streamer"))
        if context is not None:
            return context.run(generate, self, *args, **kwargs)
        call = begin(_GENERATE, self, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        return measured(call, _counted, call, original, self, args, kwargs)

    return generate


def _part(call: Call, original: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A generation within a request, or within another generation."""
    if _generating.get() is not None:
        token = _generating.set(False)
        try:
            return original(model, *args, **kwargs)
        finally:
            _generating.reset(token)
    phases = call.ensure_details().phases
    phased = tally(call).phased and len(phases) + 3 <= MAX_PHASES
    before = phases[-1][0] if phases else ""
    try:
        return _counted(call, original, model, args, kwargs, phased=phased)
    finally:
        if phased:
            call.mark(before)


def _counted(
    call: Call, original: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, phased: bool = True
) -> Any:
    notes = Generation(model, call if phased else None, args, kwargs)
    # A loop that was brought along may never say when the first token is there.
    if phased and kwargs.get("custom_generate") is None:
        call.mark("prefill")
    token = _generating.set(notes)
    try:
        result = original(model, *args, **kwargs)
        notes.result = getattr(result, "sequences", result)  # not the caches and scores beside them
        return result
    finally:
        _generating.reset(token)
        notes.call = None
        tally(call).hold(call, notes.count)


def counting(original: Any) -> Any:
    """Wrap ``_has_unfinished_sequences``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        goes_on = original(self, *args, **kwargs)
        notes = _generating.get()
        if isinstance(notes, Generation):
            notes.steps += 1
            if notes.steps == 2 and notes.call is not None:
                more = notes.call.ensure_details()
                more.first_token_ns = more.first_token_ns or monotonic_ns()
                if goes_on:
                    notes.call.mark("decode")
        return goes_on

    return wrapper


def preparing(original: Any) -> Callable[..., Any]:
    """Wrap ``_prepare_generated_length``, which settles how much is generated, and knows how long prompts are."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(self, *args, **kwargs)
        notes = _generating.get()
        length = kwargs.get("input_ids_length")
        if isinstance(notes, Generation) and isinstance(length, int):
            notes.config, notes.length = config, length
        return config

    return wrapper
