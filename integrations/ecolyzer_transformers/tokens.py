"""How many tokens went into a request and came out: counted by the background thread, from tensors held till then.

Numbers on a CUDA device are fetched in a stream of our own, which waits for nobody's kernels. Counting is numpy's
work: torch would start threads of its own for it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallView

__all__ = ["Tally", "generated_tokens", "given_tokens", "host", "tally"]

#: What may be held before the oldest is counted on the request path: a stream of prompts never ends.
_MAX_HELD: Final = 32
_streams: Final[dict[Any, Any]] = {}


class Tally:
    """The tokens of one request, of however many generations or encodings it consists."""

    __slots__ = ("held", "phased", "tokens")

    def __init__(self) -> None:
        self.tokens = 0, 0
        self.held: list[Callable[[CallView], tuple[int, int]]] = []
        #: Whether its generations have phases; not where there are too many of them to be told apart.
        self.phased = True

    def hold(self, call: CallView, count: Callable[[CallView], tuple[int, int]]) -> None:
        """Count this later."""
        if len(self.held) >= _MAX_HELD:
            held, self.held = self.held, []
            self._fold(call, held)  # all before this one: their kernels are done
        self.held.append(count)

    def _fold(self, call: CallView, held: list[Callable[[CallView], tuple[int, int]]]) -> None:
        for count in held:
            with contextlib.suppress(Exception):  # what cannot be counted counts nothing
                came, went = count(call)
                self.tokens = self.tokens[0] + came, self.tokens[1] + went

    def complete(self, call: CallView) -> None:
        """Tell the tokens, unless somebody has told them before."""
        self._fold(call, self.held)
        self.held = []
        if call.ensure_details().tokens is None:
            call.ensure_details().tokens = self.tokens


def tally(call: CallView) -> Tally:
    """That of ``call``, made when it is first asked for."""
    more = call.ensure_details()
    if more.completions is None:
        more.completions = []
    for complete in more.completions:
        owner = getattr(complete, "__self__", None)
        if isinstance(owner, Tally):
            return owner
    made = Tally()
    more.completions.append(made.complete)
    return made


def host(tensor: Any) -> Any:
    """The numbers in a tensor, as an array of numpy."""
    device = tensor.device
    if device.type == "cuda":
        cuda = sys.modules["torch.cuda"]
        if device not in _streams:
            _streams[device] = cuda.Stream(device)
        with cuda.stream(_streams[device]):
            tensor = tensor.to("cpu")
    return tensor.detach().cpu().numpy()


def given_tokens(ids: Any, mask: Any, pad: Any = None) -> int:
    """Tokens without padding: by the attention mask, else by the padding token, else all."""
    if mask is not None:
        return int((host(mask) != 0).sum())
    if ids is None:
        return 0
    if pad is None:
        return int(ids.numel())
    return int((host(ids) != pad).sum())


def generated_tokens(ids: Any, prompt: int, ends: Sequence[int], pad: Any = None) -> list[tuple[int, bool]]:
    """Of each sequence how many tokens follow the prompt, the end token included, and whether it has one.

    Args:
        ids: a batch of sequences.
        prompt: how many tokens of each were given.
        ends: the tokens that end a sequence.
        pad: what is behind the end of one that a stopping criterion has ended, where there may be such.
    """
    rows = host(ids)[:, prompt:]
    hits = rows != rows
    for end in ends:
        hits |= rows == end
    found = []
    for row, hit in zip(rows, hits, strict=True):
        if hit.any():
            found.append((int(hit.argmax()) + 1, True))
            continue
        kept: Any = (row != pad).nonzero()[0] if pad is not None else ()
        found.append((int(kept[-1]) + 1 if len(kept) else len(row), False))
    return found
