"""Transcriptions: normalisation of characters and white space, and character sets."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

# Control characters that are not white space, surrogates, and the byte order mark.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff]")
Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


def normalized(text: str, form: Form = "NFC") -> str:
    r"""Return a text in a Unicode form, with single spaces for all white space, none at the ends.

    >>> normalized(" a\N{COMBINING ACUTE ACCENT}\t b\n")
    'á b'

    A byte order mark, and control characters, are removed.
    """
    return " ".join(unicodedata.normalize(form, _INVISIBLE.sub("", text)).split())


def charset_of(texts: Iterable[str]) -> str:
    """Return all characters of texts, sorted.

    >>> charset_of(["das", "ist das"])
    ' adist'
    """
    return "".join(sorted(set().union(*texts)))
