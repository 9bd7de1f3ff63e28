"""Secrets from the environment or from mounted files, kept out of every text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from ecolyzer_otel.common.errors import ConfigError

__all__ = ["Secret", "find_secret", "need_secret", "redact"]

_MAX_LENGTH: Final = 4096
_HIDDEN: Final = "***"
#: A shorter text is not a secret; redacting it would damage ordinary words.
_MIN_LENGTH: Final = 4


class Secret:
    """A token or password that only :meth:`reveal` shows."""

    __slots__ = ("_text", "variable")

    def __init__(self, text: str, variable: str) -> None:
        self._text = text
        self.variable = variable

    def reveal(self) -> str:
        """The text itself, for use in a request only."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({self.variable}, {_HIDDEN})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret must not be stored")


def find_secret(environ: Mapping[str, str], variable: str) -> Secret | None:
    """The secret in ``variable``, else in the file that ``variable`` + ``_FILE`` names, else None.

    Raises:
        ConfigError: the file cannot be read, or the text cannot be sent in a header.
    """
    text, origin = environ.get(variable, "").strip(), variable
    path = environ.get(f"{variable}_FILE", "").strip()
    if not text and path:
        origin = f"{variable}_FILE"
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(_MAX_LENGTH + 1).strip()
        except OSError as error:
            raise ConfigError(
                origin, f"{path} cannot be read ({error.strerror})", "name a readable file that contains the token"
            ) from None
        except ValueError:
            text = "\0"  # not text: refused below
        if not text:
            raise ConfigError(origin, f"{path} is empty", "name a readable file that contains the token")
    if not text:
        return None
    if len(text) > _MAX_LENGTH or not all("!" <= letter <= "~" or letter == " " for letter in text):
        raise ConfigError(
            origin,
            "contains characters that are not allowed in a token",
            "copy the token again, in one line of ASCII",
        )
    return Secret(text, variable)


def need_secret(environ: Mapping[str, str], variable: str, key: str, source: str) -> Secret:
    """As :func:`find_secret`, for a source that requires one.

    Raises:
        ConfigError: it is missing, or cannot be used.
    """
    secret = find_secret(environ, variable)
    if secret is None:
        raise ConfigError(
            key,
            f"{source} needs {variable}, which is not set",
            f"set {variable}, or {variable}_FILE to a file's path",
        )
    return secret


def redact(text: str, secrets: Iterable[Secret]) -> str:
    """``text`` without the secrets, in every form in which a request contains them."""
    for secret in secrets:
        plain = secret.reveal()
        forms = {plain, quote(plain), quote(plain, safe=""), quote_plus(plain)}
        forms.add(base64.b64encode(plain.encode()).decode())
        for form in sorted(forms, key=len, reverse=True):
            if len(form) >= _MIN_LENGTH:
                text = text.replace(form, _HIDDEN)
    return text
