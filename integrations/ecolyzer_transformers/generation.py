"""``generate``: one request, or part of one, with its phases, time to first token, input and output tokens.

All modes of generation call ``_has_unfinished_sequences`` before each step: at the second call, the first token
exists. Settings of lengths, ends and sampling are read from the result of ``_prepare_generated_length``. Forward
passes are not patched, so that compiled ones stay whole.

A generation within another request adds its tokens to that request, and its phases as long as there is room for
them.
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
    MAX_PHASES,
    Attr,
    Call,
    CallView,
    batch_of,
    begin,
    enclosing_call,
    measured,
    nested,
)
from ecolyzer_transformers.facts import describe, spec
from ecolyzer_transformers.serving import context_of
from ecolyzer_transformers.tokens import generated_tokens, given_tokens, token_count

__all__ = ["Generation", "counting_steps", "generated", "noting_length", "set_gen_ai_attributes"]

_PROMPTS: Final = ("inputs", "input_ids", "inputs_embeds", "input_features", "pixel_values", "input_values")
_SETTINGS: Final = {
    Attr.GEN_AI_TEMPERATURE: "temperature",
    Attr.GEN_AI_TOP_P: "top_p",
    Attr.GEN_AI_TOP_K: "top_k",
}
#: Sequences of a request whose finish reasons are reported.
_MAX_REASONS: Final = 128


def _prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args and args[0] is not None:
        return args[0]
    return next((kwargs[name] for name in _PROMPTS if kwargs.get(name) is not None), None)


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return batch_of(_prompt(args, kwargs))


_GENERATE: Final = spec("generate", describe, _items, container=True)


class Generation:
    """One ``generate`` until its tokens are counted."""

    __slots__ = ("call", "config", "length", "mask", "model", "prompt", "result", "steps", "stopped")

    def __init__(self, model: Any, call: Call | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.model = model
        #: The call that gets its phases; None where no call does.
        self.call = call
        self.prompt = _prompt(args, kwargs)
        self.mask = kwargs.get("attention_mask")
        self.stopped = kwargs.get("stopping_criteria") is not None or kwargs.get("stop_strings") is not None
        self.config: Any = None
        #: How many tokens of each sequence of the result are its prompt.
        self.length: int | None = None
        self.result: Any = None
        self.steps = 0

    def count(self, call: CallView) -> tuple[int, int]:
        """Returns input and output tokens; sets the attributes of ``call`` that describe the generation."""
        config = self.config if self.config is not None else getattr(self.model, "generation_config", None)
        pad, ends = _numbers(config, "pad_token_id"), _numbers(config, "eos_token_id")
        length, shape = self.length, tuple(getattr(self.prompt, "shape", ()))
        ids = self.prompt if len(shape) == 2 and not self.prompt.is_floating_point() else None
        # A prompt without ids and embeddings is sound or an image: its mask masks no tokens.
        mask = self.mask if ids is not None or len(shape) != 3 or shape[-1] == self._width() else None
        # Without a mask, transformers infers one in this way.
        given = given_tokens(ids, mask, pad[0] if pad and not set(pad) & set(ends) else None)
        if not shape:
            given = length or 0  # only the token that begins a sequence
        rows = self.result
        if getattr(rows, "ndim", 0) != 2 or rows.is_floating_point():
            set_gen_ai_attributes(call, config, length)
            return given, 0  # no result, or sound
        if length is None:
            length = shape[1] if ids is not None and rows.shape[1] >= shape[1] else 0
        found = generated_tokens(rows, length, ends, pad[0] if pad and self.stopped and len(rows) > 1 else None)
        most = set_gen_ai_attributes(call, config, length)
        _add_finish_reasons(call, ["stop" if ended or (most and new < most) else "length" for new, ended in found])
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


def set_gen_ai_attributes(call: CallView, config: Any, length: int | None = None) -> int | None:
    """Set the attributes of OpenTelemetry's conventions for generative AI, besides tokens.

    Returns:
        How many new tokens were requested at most; None where no limit is set.
    """
    details = call.ensure_details()
    attributes: dict[str, Any] = {Attr.GEN_AI_OPERATION: "text_completion"}
    most = getattr(config, "max_new_tokens", None)
    if not isinstance(most, int):
        until = getattr(config, "max_length", None)
        most = until - length if isinstance(until, int) and length is not None else None
    if most is not None:
        attributes[Attr.GEN_AI_MAX_TOKENS] = most
    if getattr(config, "do_sample", False):
        settings = {key: getattr(config, name, None) for key, name in _SETTINGS.items()}
        attributes |= {key: value for key, value in settings.items() if isinstance(value, (int, float))}
    choices = getattr(config, "num_return_sequences", None)
    if isinstance(choices, int) and choices > 1:
        attributes[Attr.GEN_AI_CHOICES] = choices
    details.attributes = (details.attributes or {}) | attributes
    return most


def _add_finish_reasons(call: CallView, reasons: list[str]) -> None:
    """Add why each sequence ended to the reasons of the request's earlier generations."""
    details = call.ensure_details()
    attributes = details.attributes or {}
    found = [*attributes.get(Attr.GEN_AI_FINISH_REASONS, ()), *reasons]
    details.attributes = attributes | {Attr.GEN_AI_FINISH_REASONS: found[:_MAX_REASONS]}


#: The generation whose steps are counted; False within one that is part of another's (an assistant's).
_generating: ContextVar[Generation | bool | None] = ContextVar("ecolyzer_generating", default=None)


def generated(original: Any) -> Any:
    """Wrap ``GenerationMixin.generate``."""
    compiling = sys.modules["torch"].compiler.is_compiling

    @functools.wraps(original)
    def generate(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if compiling():
            return original(self, *args, **kwargs)
        outer = enclosing_call()
        if outer is not None:
            if outer.training:
                return original(self, *args, **kwargs)
            return nested(outer, _part, outer.actual, original, self, args, kwargs)
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
    phased = token_count(call).phased and len(phases) + 3 <= MAX_PHASES
    before = phases[-1][0] if phases else ""
    try:
        return _counted(call, original, model, args, kwargs, phased=phased)
    finally:
        if phased:
            call.mark(before)


def _counted(
    call: Call, original: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, phased: bool = True
) -> Any:
    generation = Generation(model, call if phased else None, args, kwargs)
    # A custom loop may not call _has_unfinished_sequences, which shows the first token.
    if phased and kwargs.get("custom_generate") is None:
        call.mark("prefill")
    token = _generating.set(generation)
    try:
        result = original(model, *args, **kwargs)
        generation.result = getattr(result, "sequences", result)  # without the caches and scores beside them
        return result
    finally:
        _generating.reset(token)
        generation.call = None
        token_count(call).defer(call, generation.count)


def counting_steps(original: Any) -> Any:
    """Wrap ``_has_unfinished_sequences``, which is called before each step."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        goes_on = original(self, *args, **kwargs)
        generation = _generating.get()
        if isinstance(generation, Generation):
            generation.steps += 1
            if generation.steps == 2 and generation.call is not None:
                details = generation.call.ensure_details()
                details.first_token_ns = details.first_token_ns or monotonic_ns()
                if goes_on:
                    generation.call.mark("decode")
        return goes_on

    return wrapper


def noting_length(original: Any) -> Callable[..., Any]:
    """Wrap ``_prepare_generated_length``, which gets the length of the prompts and returns the final settings."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = original(self, *args, **kwargs)
        generation = _generating.get()
        length = kwargs.get("input_ids_length")
        if isinstance(generation, Generation) and isinstance(length, int):
            generation.config, generation.length = config, length
        return config

    return wrapper
