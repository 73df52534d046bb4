r"""Probe targets of a text at every character, such as the bracket depth.

The rules are those of Python's syntax, applied to any text. Each value depends only on the
characters up to its own, so that a hidden state can contain it:

>>> values = text_properties("f(a, 'b')  # c\n")
>>> values["inside quotes"].tolist()  # from the opening quote on, until the closing one is read
[0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
>>> values["bracket depth"].astype(int).tolist()  # brackets in quotes and comments do not count
[0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |(?:(?<!\w)(?P<prefix>[fFtT][rR]?|[rR][fFtT]))?(?P<quote>'''|\"\"\"|'|\")
    |(?P<bracket>[()\[\]{}])""",
    re.VERBOSE,
)
_FIELD = re.compile(_TOKEN.pattern + r"|(?P<colon>:)", re.VERBOSE)
_ESCAPED = r"\\[\s\S]"  # an escaped quote does not end a string, also not a raw one
_REST = {  # of a string after its quote; a single quote ends at the latest with its line
    "'": re.compile(rf"(?:[^\\\n']|{_ESCAPED})*(?P<end>')?"),
    '"': re.compile(rf'(?:[^\\\n"]|{_ESCAPED})*(?P<end>")?'),
    "'''": re.compile(rf"[^\\']*(?:(?:{_ESCAPED}|'(?!''))[^\\']*)*(?P<end>''')?"),
    '"""': re.compile(rf'[^\\"]*(?:(?:{_ESCAPED}|"(?!""))[^\\"]*)*(?P<end>""")?'),
}
_LITERAL = re.compile(rf"\\N\{{[^}}\n]*\}}|{_ESCAPED}|\{{\{{|\}}\}}|['\"]{{3}}|[{{}}'\"\n]")
_OPENING = "([{"
_DEEPEST = 8  # nested replacement fields


def _plain_end(text: str, at: int, quote: str) -> tuple[int, bool]:
    """Return the end of a string without fields after its opening quote, and if it is closed."""
    match = _REST[quote].match(text, at)
    assert match is not None  # the rest may be empty
    return match.end(), match["end"] is not None


def _literal_end(
    text: str, at: int, quote: str, depth: int, *, raw: bool, spec: bool = False
) -> tuple[int, bool]:
    """Return the end of an f-string's literal part with all its fields, and whether it is closed.

    If it is not, the end is where the search ended. A format specification (`spec`) ends before the
    brace that closes its field. `depth` is the number of fields around it.
    """
    while match := _LITERAL.search(text, at):
        token, at = match[0], match.end()
        if token.startswith(quote):
            return match.start() + len(quote), not spec
        if token[0] in "'\"":
            at = match.start() + 1
        elif token[:2] == "\\N" and raw:
            at = match.start() + 2
        elif token == "\n" and len(quote) == 1:
            return at, False
        elif token[0] == "}" and spec:
            return match.start(), True
        elif token == "{" or (token == "{{" and spec):
            at, closed = _field_end(text, match.start() + 1, quote, depth + 1, raw=raw)
            if not closed:
                return at, False
    return len(text), False


def _field_end(text: str, at: int, quote: str, depth: int, *, raw: bool) -> tuple[int, bool]:
    """Return the end of a replacement field that begins at `at`, and whether it is closed."""
    if depth > _DEEPEST:
        return at, False
    brackets = 0
    while match := _FIELD.search(text, at):
        at = match.end()
        if match["quote"]:
            at, closed = _string_end(text, match, depth)
            if not closed:
                return at, False
        elif match["colon"] and brackets == 0:
            at, closed = _literal_end(text, at, quote, depth, raw=raw, spec=True)
            return at + closed, closed
        elif match["bracket"]:
            brackets += 1 if match[0] in _OPENING else -1
            if brackets < 0:
                return at, True
    return len(text), False


def _string_end(text: str, opening: "re.Match[str]", depth: int = 0) -> tuple[int, bool]:
    """Return the end of a string after its opening, and whether it is closed."""
    prefix, quote = opening["prefix"], opening["quote"]
    if prefix:  # only these have fields, which may contain the same quote (PEP 701)
        return _literal_end(text, opening.end(), quote, depth, raw="r" in prefix.lower())
    return _plain_end(text, opening.end(), quote)


def tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each string, comment and bracket: kind, begin and end.

    A string begins with its opening quote; an unclosed one (`open`) ends with its line, or with the
    text. An f-string whose fields do not end, or are nested more than eight deep, is read as a
    string without fields, and so are those in the part that was searched for its end: no part is
    searched twice, and the time is linear in the length of the text.
    """
    at = searched = 0
    while match := _TOKEN.search(text, at):
        at = match.end()
        if match["quote"]:
            begin, closed = match.start("quote"), False
            if begin >= searched:
                at, closed = _string_end(text, match)
                searched = at
            if not closed:
                at, closed = _plain_end(text, match.end(), match["quote"])
            yield ("string" if closed else "open"), begin, at
        else:
            yield ("comment" if match["comment"] else match[0]), match.start(), at


def text_properties(text: str) -> Mapping[str, NDArray[Any]]:
    """Return the probe targets of a text at each character, each (characters,).

    `inside quotes`, `inside comment`: 0 or 1, from the opening symbol until the next character is
    outside. `bracket depth`: number of open brackets. `indentation`: blanks at the beginning of the
    line, so far. `line position`: characters since the beginning of the line, 0 for the newline
    before. `word length`: number of letters, digits and underscores since another character.
    """
    quotes, comments, depths = (np.zeros(len(text) + 1, np.int32) for _ in range(3))  # changes
    depth = 0
    for kind, begin, end in tokens(text):
        if kind in ("string", "open"):
            quotes[begin] += 1
            quotes[end - (kind == "string")] -= 1
        elif kind == "comment":
            comments[begin] += 1
            comments[end] -= 1
        else:
            change = 1 if kind in _OPENING else -min(1, depth)  # prose may close what is not open
            depths[begin] += change
            depth += change
    return {
        "inside quotes": quotes[:-1].cumsum(),
        "inside comment": comments[:-1].cumsum(),
        "bracket depth": depths[:-1].cumsum().astype(np.float64),
        **_of_lines(text),
    }


def _of_lines(text: str) -> dict[str, NDArray[Any]]:
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    distinct, codes = np.unique(points, return_inverse=True)
    is_word = np.array([chr(p).isalnum() or chr(p) == "_" for p in distinct], bool)[codes]
    newline = points == ord("\n")
    blank = (points == ord(" ")) | (points == ord("\t"))
    begin = _last(newline)
    printed = np.concatenate([[0], (~blank & ~newline).cumsum()])
    leading = blank & (printed[1:] == printed[begin + 1])
    led = np.concatenate([[0], leading.cumsum()])
    at = np.arange(len(points))
    return {
        "indentation": (led[1:] - led[begin + 1]).astype(np.float64),
        "line position": (at - begin).astype(np.float64),
        "word length": (at - _last(~is_word)).astype(np.float64),
    }


def _last(true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the last index up to each one at which a value is true (N,); -1: none."""
    places = np.where(true, np.arange(len(true)), -1)
    return np.maximum.accumulate(places) if len(true) else places
