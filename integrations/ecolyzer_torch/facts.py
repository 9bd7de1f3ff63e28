"""Facts of a module: a name that people use, the exact number of parameters, the dtype that holds most of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import PurePath
from typing import Any, Final

from ecolyzer_otel.instrumentor import ModelFacts

__all__ = ["describe_module", "describe_modules", "path_name"]

_CACHED: Final = re.compile(r"models--(.+?)/snapshots/")
#: Names of folders that do not identify the model in them.
_GENERIC: Final = re.compile(
    r"model|models|weights|checkpoint(-\d+)?|snapshots?|latest|final|best|output|pytorch|onnx|[0-9a-f]{40}", re.I
)
_PACKED_TYPES: Final = {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint4"}


def describe_module(module: Any, name: str | None = None) -> ModelFacts:
    """Facts of one module.

    Args:
        module: a ``torch.nn.Module``: eager, compiled, scripted, exported, in data parallel wrappers.
        name: a better one than the module has.
    """
    module = _unwrapped(module)
    return describe_modules([module], name or _name(module))


def describe_modules(modules: list[Any], name: str) -> ModelFacts:
    """Facts of several modules that run as one model."""
    sizes: Counter[str] = Counter()
    seen: set[Any] = set()
    device = ""
    for module in modules:
        for key, dtype, size, where in _held(module):
            if key not in seen:
                seen.add(key)
                sizes[dtype] += size
                device = device or where
    most = sizes.most_common(1)[0][0] if sizes else None
    return ModelFacts(name, sizes.total(), most, "cuda:0" if device == "cuda" else device or "cpu")


def path_name(path: str) -> str:
    """Returns the name of a model by its path: ``org/name`` of a hub, or the last folder that identifies it."""
    cached = _CACHED.search(path.replace("\\", "/"))
    if cached is not None:
        return cached[1].replace("--", "/")
    parts = PurePath(path).parts
    if not PurePath(path).is_absolute() and len(parts) == 2 and parts[0] not in (".", ".."):
        return path  # a hub's id
    names = [part for part in parts if not _GENERIC.fullmatch(part) and part.strip("./\\")]
    return names[-1] if names else PurePath(path).name


def _unwrapped(module: Any) -> Any:
    """Returns the module inside ``torch.compile`` and the wrappers of data parallel runs."""
    for _ in range(10):
        inner = getattr(module, "_orig_mod", None)
        if inner is None and type(module).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = getattr(module, "module", None)
        if inner is None:
            break
        module = inner
    return module


def _name(module: Any) -> str:
    given = getattr(getattr(module, "config", None), "_name_or_path", None)
    if isinstance(given, str) and given:
        return path_name(given)
    config = getattr(module, "pretrained_cfg", None)  # timm
    if isinstance(config, dict) and config.get("architecture"):
        return str(config["architecture"])
    return getattr(module, "original_name", None) or _exported_name(module) or type(module).__name__


def _exported_name(module: Any) -> str | None:
    """The class of the module that an exported or traced graph was made from, where the graph records it."""
    graph = getattr(module, "graph", None)
    if not type(module).__name__.startswith("GraphModule") or graph is None:
        return None
    for node in graph.nodes:
        for path, kind in (node.meta.get("nn_module_stack") or {}).values():
            if path == "":
                return str(kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2]
    return None


def _held(module: Any) -> Iterator[tuple[Any, str, int, str]]:
    """Yields key, dtype, number and device of each group of parameters."""
    for parameter in module.parameters():
        if type(parameter).__name__ not in ("UninitializedParameter", "UninitializedBuffer"):
            dtype, size = _unpacked(parameter)
            yield id(parameter), dtype, size, str(parameter.device)
    packed: set[int] = set()
    for part in module.modules():
        if id(part) in packed:
            continue
        for read in ("_weight_bias", "_weight"):
            if callable(getattr(part, read, None)):
                packed.update(id(inner) for inner in part.modules())
                for tensor in _tensors(getattr(part, read)()):
                    yield (id(part), tensor.data_ptr()), _short(tensor.dtype), tensor.numel(), str(tensor.device)
                break
        else:
            yield from _packed_words(part)


def _unpacked(parameter: Any) -> tuple[str, int]:
    """Returns dtype and number of the weights in a tensor, whose elements may hold several each."""
    state = getattr(parameter, "quant_state", None)  # bitsandbytes, 4 bits
    shape = getattr(state, "shape", None)
    if shape is not None:
        return "int4", int(prod(shape))
    low, high = getattr(parameter, "quant_min", None), getattr(parameter, "quant_max", None)  # torchao
    if isinstance(low, int) and isinstance(high, int):
        return f"{'u' if low >= 0 else ''}int{(high - low).bit_length()}", int(parameter.numel())
    named = re.fullmatch(r"Int(\d)\w*Tensor", type(parameter).__name__)  # torchao, newer
    if named is not None:
        return f"int{named[1]}", int(parameter.numel())
    return _short(parameter.dtype), int(parameter.numel())


def _packed_words(part: Any) -> Iterator[tuple[Any, str, int, str]]:
    """GPTQ and AWQ: ``bits`` of each weight in 32-bit words of a buffer."""
    words = getattr(part, "qweight", None)
    bits = getattr(part, "bits", None) or getattr(part, "w_bit", None)
    if words is not None and isinstance(bits, int) and hasattr(words, "element_size"):
        yield id(words), f"int{bits}", int(words.numel()) * words.element_size() * 8 // bits, str(words.device)


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
    elif hasattr(value, "numel"):
        yield value


def _short(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    return _PACKED_TYPES.get(name, name)
