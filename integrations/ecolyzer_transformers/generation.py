"""``generate``: one request, or part of one; its phases, the first token, and how many tokens went in and came out.

All modes of generation ask ``_has_unfinished_sequences`` before each step: the second time, the first token is
there. Tokens are counted by the background thread, from the tensors that went in and came out.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import monotonic_ns
from typing import Any, Final

from ecolyzer_otel.call import Call, begin, current_call, finish, get_ident
from ecolyzer_otel.names import Attr
from ecolyzer_otel.wrap import CallSpec, batch_of, lending
from ecolyzer_transformers.facts import describe

__all__ = ["Generation", "counting", "generated", "note_request"]

_PROMPTS: Final = ("inputs", "input_ids", "inputs_embeds", "input_features", "pixel_values", "input_values")
_SETTINGS: Final = {
    Attr.GEN_AI_TEMPERATURE: "temperature",
    Attr.GEN_AI_TOP_P: "top_p",
    Attr.GEN_AI_TOP_K: "top_k",
}


def _prompt(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args and args[0] is not None:
        return args[0]
    return next((kwargs[name] for name in _PROMPTS if kwargs.get(name) is not None), None)


def _items(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return batch_of(_prompt(args, kwargs))


_GENERATE: Final = CallSpec("transformers", "generate", describe, _items, container=True)


class Generation:
    """What is noted of one ``generate`` until the background thread counts its tokens."""

    def __init__(self, model: Any, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.model = model
        self.call = call
        self.prompt = _prompt(args, kwargs)
        self.mask = kwargs.get("attention_mask")
        config = kwargs.get("generation_config") or (args[1] if len(args) > 1 else None)
        self.config = config if config is not None else getattr(model, "generation_config", None)
        self.given = kwargs
        self.result: Any = None
        #: Generations inside, of an assistant: their steps are not ours.
        self.depth = 0
        self.steps = 0

    def step(self) -> None:
        """Before each step."""
        if self.depth:
            return
        self.steps += 1
        if self.steps == 2:
            self.call.mark("decode")
            more = self.call.note()
            more.first_token_ns = more.first_token_ns or monotonic_ns()

    def setting(self, name: str) -> Any:
        """A setting of this generation."""
        given = self.given.get(name)
        return given if given is not None else getattr(self.config, name, None)

    def complete(self, call: Call) -> None:
        """Count what went in and came out, and add it to the request's."""
        more = call.note()
        rows = _rows(self.result)
        input_tokens, prompt_length = self._prompt_tokens()
        new = [self._new(row[prompt_length:]) for row in rows]
        before = more.tokens or (0, 0)
        more.tokens = before[0] + input_tokens, before[1] + sum(length for length, _ in new)
        note_request(
            call, self.setting, self.setting("max_new_tokens"), reasons=[reason for _, reason in new],
            choices=self.setting("num_return_sequences"),
        )  # fmt: skip
        self.result = self.prompt = self.mask = self.model = None

    def _prompt_tokens(self) -> tuple[int, int]:
        """Tokens of all prompts without padding, and how many of each row of the result are the prompt's."""
        prompt: Any = self.prompt
        shape: Any = getattr(prompt, "shape", ())
        is_ids = len(shape) == 2 and not getattr(prompt, "is_floating_point", lambda: True)()
        if getattr(getattr(self.model, "config", None), "is_encoder_decoder", False):
            length = 1
        else:
            length = int(shape[1]) if is_ids else 0
        if self.mask is not None and (is_ids or len(shape) == 3):
            return int(self.mask.sum()), length
        return (int(prompt.numel()) if is_ids else 0), length

    def _new(self, row: list[int]) -> tuple[int, str]:
        """How many of these tokens were generated, the end token included, and why no more were."""
        ends = self.setting("eos_token_id")
        ends = set(ends if isinstance(ends, (list, tuple)) else [] if ends is None else [int(ends)])
        for index, token in enumerate(row):
            if token in ends:
                return index + 1, "stop"
        limit = self.setting("max_new_tokens")
        return len(row), "stop" if isinstance(limit, int) and len(row) < limit else "length"


def note_request(
    call: Call,
    setting: Callable[[str], Any],
    max_tokens: Any,
    *,
    reasons: Iterable[str] = (),
    choices: Any = None,
) -> None:
    """What the conventions for generative AI ask for, besides tokens."""
    more = call.note()
    told: dict[str, Any] = more.attributes or {}
    told[Attr.GEN_AI_OPERATION] = "text_completion"
    if isinstance(max_tokens, int):
        told[Attr.GEN_AI_MAX_TOKENS] = max_tokens
    if setting("do_sample"):
        told |= {key: setting(name) for key, name in _SETTINGS.items() if isinstance(setting(name), (int, float))}
    if isinstance(choices, int) and choices > 1:
        told[Attr.GEN_AI_CHOICES] = choices
    reasons = list(reasons)
    if reasons:
        told[Attr.GEN_AI_FINISH_REASONS] = [*told.get(Attr.GEN_AI_FINISH_REASONS, ()), *reasons]
    more.attributes = told


def _rows(result: Any) -> list[list[int]]:
    """The sequences of token ids of whatever ``generate`` gave."""
    result = getattr(result, "sequences", result)
    if isinstance(result, dict):
        result = result.get("sequences")
    if len(getattr(result, "shape", ())) != 2 or result.is_floating_point():
        return []  # none, or sound
    rows: list[list[int]] = result.tolist()
    return rows


_generating: ContextVar[Generation | None] = ContextVar("ecolyzer_generating", default=None)


def generated(original: Any) -> Any:
    """Wrap ``generate``, the common one or a model's own."""
    compiling = sys.modules["torch"].compiler.is_compiling

    @functools.wraps(original)
    def generate(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if compiling():
            return original(self, *args, **kwargs)
        outer = current_call.get()
        if outer is not None and outer.open:
            if outer.training:
                return original(self, *args, **kwargs)
            inside = _generating.get()
            if inside is not None and inside.call.open:
                return _deeper(inside, original, self, args, kwargs)
            if outer.thread != get_ident() and get_ident() not in outer.helpers:
                with lending(outer):
                    return _run(outer.itself, original, self, args, kwargs)
            return _run(outer.itself, original, self, args, kwargs)
        call = begin(_GENERATE, self, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            result = _run(call, original, self, args, kwargs)
        except BaseException as error:
            finish(call, error)
            raise
        finish(call, None, result)
        return result

    return generate


def _deeper(inside: Generation, original: Any, model: Any, args: Any, kwargs: Any) -> Any:
    """A model's own ``generate`` that calls the common one, or an assistant's."""
    same = model is inside.model and not inside.steps
    if not same:
        inside.depth += 1
    try:
        return original(model, *args, **kwargs)
    finally:
        if not same:
            inside.depth -= 1


def _run(call: Call, original: Any, model: Any, args: Any, kwargs: Any) -> Any:
    notes = Generation(model, call, args, kwargs)
    token = _generating.set(notes)
    call.mark("prefill")
    try:
        notes.result = original(model, *args, **kwargs)
        return notes.result
    finally:
        _generating.reset(token)
        more = call.note()
        if more.completions is None:
            more.completions = []
        more.completions.append(notes.complete)


def counting(original: Any) -> Any:
    """Wrap ``_has_unfinished_sequences``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes = _generating.get()
        if notes is not None:
            notes.step()
        return original(self, *args, **kwargs)

    return wrapper
