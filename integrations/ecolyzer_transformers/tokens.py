"""Input and output tokens of a request: counted by the background thread, from tensors that are kept until then.

Numbers on a CUDA device are copied in a stream of our own, which waits for no other kernels. numpy counts: torch
would start threads of its own for it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from ecolyzer_otel.instrumentor import CallView

__all__ = ["TokenCount", "generated_tokens", "given_tokens", "to_numpy", "token_count"]

#: Counts that are deferred at most; then the oldest are made on the request path, since a stream may never end.
_MAX_DEFERRED: Final = 32
_streams: Final[dict[Any, Any]] = {}


class TokenCount:
    """The tokens of one request, which may consist of several generations or encodings."""

    __slots__ = ("deferred", "phased", "tokens")

    def __init__(self) -> None:
        self.tokens = 0, 0
        self.deferred: list[Callable[[CallView], tuple[int, int]]] = []
        #: Whether its generations have phases; not where a request cannot hold that many.
        self.phased = True

    def defer(self, call: CallView, count: Callable[[CallView], tuple[int, int]]) -> None:
        """Run ``count``, which returns input and output tokens, before the report of ``call``."""
        if len(self.deferred) >= _MAX_DEFERRED:
            deferred, self.deferred = self.deferred, []
            self._add(call, deferred)  # all before this one: their kernels are done
        self.deferred.append(count)

    def _add(self, call: CallView, counts: list[Callable[[CallView], tuple[int, int]]]) -> None:
        for count in counts:
            with contextlib.suppress(Exception):  # what cannot be counted adds nothing
                given, generated = count(call)
                self.tokens = self.tokens[0] + given, self.tokens[1] + generated

    def complete(self, call: CallView) -> None:
        """Set the tokens of ``call``, unless they are set already."""
        self._add(call, self.deferred)
        self.deferred = []
        details = call.ensure_details()
        if details.tokens is None:
            details.tokens = self.tokens


def token_count(call: CallView) -> TokenCount:
    """Returns that of ``call``, created at the first use."""
    details = call.ensure_details()
    if details.completions is None:
        details.completions = []
    for complete in details.completions:
        owner = getattr(complete, "__self__", None)
        if isinstance(owner, TokenCount):
            return owner
    created = TokenCount()
    details.completions.append(created.complete)
    return created


def to_numpy(tensor: Any) -> Any:
    """Returns the numbers in a tensor, as an array of numpy."""
    device = tensor.device
    if device.type == "cuda":
        cuda = sys.modules["torch.cuda"]
        if device not in _streams:
            _streams[device] = cuda.Stream(device)
        with cuda.stream(_streams[device]):
            tensor = tensor.to("cpu")
    return tensor.detach().cpu().numpy()


def given_tokens(ids: Any, mask: Any, pad: Any = None) -> int:
    """Returns the number of tokens without padding: by the attention mask, else by the padding token, else all."""
    if mask is not None:
        return int((to_numpy(mask) != 0).sum())
    if ids is None:
        return 0
    if pad is None:
        return int(ids.numel())
    return int((to_numpy(ids) != pad).sum())


def generated_tokens(ids: Any, prompt: int, ends: Sequence[int], pad: Any = None) -> list[tuple[int, bool]]:
    """Returns for each sequence how many tokens follow the prompt, with the end token, and whether it has one.

    Args:
        ids: a batch of sequences.
        prompt: how many tokens of each were given.
        ends: the tokens that end a sequence.
        pad: the token behind the end of a sequence that a stopping criterion ended; None where there is none.
    """
    rows = to_numpy(ids)[:, prompt:]
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
