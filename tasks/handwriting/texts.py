"""Transcriptions: normalisation of characters and white space, and character sets."""

import unicodedata
from collections.abc import Iterable
from typing import Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


def normalized(text: str, form: Form = "NFC") -> str:
    r"""Return a text in a Unicode form, with single spaces for all white space, none at the ends.

    >>> normalized(" a\N{COMBINING ACUTE ACCENT}\t b\n")
    'á b'

    A byte order mark, and control characters, are removed.
    """
    visible = (c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs"))
    composed = unicodedata.normalize(form, "".join(visible).replace("\N{BYTE ORDER MARK}", ""))
    return " ".join(composed.split())


def charset_of(texts: Iterable[str]) -> str:
    """Return all characters of texts, sorted.

    >>> charset_of(["das", "ist das"])
    ' adist'
    """
    return "".join(sorted(set().union(*texts)))
