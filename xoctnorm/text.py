"""Text that files can hold: Python also has text with lone surrogates, as of file names that are no UTF-8."""

from __future__ import annotations


def holdable(text: str) -> bool:
    """Whether every file can hold a text: it has no lone surrogate, which is no UTF-8, and no NUL, which ends it."""
    return "\0" not in text and text == escaped(text)


def escaped(text: str) -> str:
    r"""The text with lone surrogates as escapes, ``\ud800``: to be seen, and in JSON the same text as before.

    Examples
    --------
    >>> import json
    >>> escaped("Schnitt ä \ud800")
    'Schnitt ä \\ud800'
    >>> json.loads(escaped(json.dumps("\ud800", ensure_ascii=False))) == "\ud800"
    True
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
