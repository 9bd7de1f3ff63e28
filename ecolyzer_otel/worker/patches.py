"""Replaced attributes of classes and modules, and their exact restoration."""

from __future__ import annotations

import sys
from types import CellType, FunctionType
from typing import Any, Final

__all__ = ["Patches"]


class Patches:
    """Attributes replaced on classes and modules, and restored exactly as they were.

    An inherited attribute is deleted again rather than copied down, and descriptors are restored as they stood in
    the owner's ``__dict__``. If another library has wrapped our wrapper in a plain function since, it is taken out
    of that function's closure; in any other object it stays in place and only passes calls through.
    """

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, new: Any) -> None:
        """Set ``owner.name``; an owner that refuses raises TypeError or AttributeError."""
        old = vars(owner).get(name, _MISSING)
        setattr(owner, name, new)
        self._undo.append((owner, name, old, vars(owner).get(name)))

    def replace_copies(self, package: str, old: Any, new: Any) -> None:
        """Replace ``old`` in every imported module of ``package`` that holds it under its name."""
        name = old.__name__
        for key, module in list(sys.modules.items()):
            if key.partition(".")[0] == package and vars(module).get(name) is old:
                self.replace(module, name, new)

    def adopt(self, owner: Any, name: str, wrapper: Any) -> None:
        """Restore ``owner.name``, a copy of our ``wrapper`` made by another library, to its original as well."""
        self._undo.append((owner, name, wrapper.__wrapped__, wrapper))

    def undo(self) -> None:
        """Restore everything, last first."""
        while self._undo:
            owner, name, old, new = self._undo.pop()
            now = vars(owner).get(name)
            if now is not new:
                _take_out(now, new, old)
            elif old is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, old)


def _take_out(outer: Any, new: Any, old: Any) -> None:
    """Put ``old`` where ``outer``, a chain of wrappers made by :func:`functools.wraps`, holds ``new``."""
    while isinstance(outer, FunctionType) and hasattr(outer, "__wrapped__"):
        cells = [cell for cell in outer.__closure__ or () if _content(cell) is new]
        if cells and outer.__wrapped__ is new and old is not _MISSING:
            outer.__wrapped__ = old
            for cell in cells:
                cell.cell_contents = old
            return
        outer = outer.__wrapped__


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


_MISSING: Final = object()
