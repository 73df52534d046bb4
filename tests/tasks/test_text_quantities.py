"""What is told of a text: strings, comments and brackets as Python reads them, and broken ones."""

import io
import re
import sysconfig
import tokenize
from pathlib import Path

import numpy as np
import pytest

from tasks import text_quantities
from tasks.text_quantities import text_properties, tokens


def library() -> list[Path]:
    """Return every fourth source of the library, and the lexer's own."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    files = [file for file in files if not file.name.startswith("_sysconfigdata")]
    return [*files[::4], Path(tokenize.__file__)]


def tokenized(text: str) -> list[tuple[str, int, int]]:
    """Return strings, comments and brackets by Python's own lexer."""
    begins = [0, *np.cumsum([len(line) for line in io.StringIO(text)]).tolist()]
    fields = {"FSTRING_START": 1, "FSTRING_END": -1}  # Python 3.12 takes f-strings apart
    found: list[tuple[str, int, int]] = []
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        begin, end = (begins[row - 1] + column for row, column in (token.start, token.end))
        if kind == "STRING" or kind == "FSTRING_START":
            begin += min(token.string.find(q) for q in "'\"" if q in token.string)
        depth += fields.get(kind, 0)
        if kind == "FSTRING_START" and depth == 1:
            found.append(("string", begin, -1))
        elif kind == "FSTRING_END" and depth == 0:
            found[-1] = ("string", found[-1][1], end)
        elif depth == 0 and kind == "STRING":
            found.append(("string", begin, end))
        elif depth == 0 and kind == "COMMENT":
            found.append(("comment", begin, end))
        elif depth == 0 and kind == "OP" and token.string in tuple("()[]{}"):
            found.append((token.string, begin, end))
    return found


@pytest.mark.parametrize("path", library(), ids=lambda path: path.name)
def test_tokens_are_those_of_python(path: Path) -> None:
    """Strings, comments and brackets of the library are where Python's own lexer sees them."""
    with tokenize.open(path) as file:
        text = file.read()
    assert list(tokens(text)) == tokenized(text)


@pytest.mark.parametrize(
    "source",
    [
        "f'{x[\"a\"]}' # b", "f'{x!r:>{width}}'()", "rf'{{ {a} }}\\N' []", "f'\\N{DASH} {a}'",
        "f'''{\na}''' '#'", "f'{ {1: 2}[1] }'", "b'\\'' \"\" ''", "'''a'b''c\\''''", "f'{x:%H:%M}'",
        "x = 'a\\\nb' # c", "{f'{a}': (f\"{'b'}\", )}",
    ],
)  # fmt: skip
def test_hard_strings_are_read_as_python_reads_them(source: str) -> None:
    """Fields, specifications, escapes and quotes within quotes end where Python says."""
    assert list(tokens(source)) == tokenized(source)


def test_quotes_within_the_same_quotes_belong_to_a_field() -> None:
    """Since Python 3.12 a field may hold its string's own quote; it ends the string in no case."""
    text = "f'{a['b']} c' d"
    assert list(tokens(text)) == [("string", 1, 13)]
    broken = "f'{a['\nb"
    assert next(tokens(broken)) == ("string", 1, 6)  # no field: as without the f


HARD = {
    "nested": "f'{",
    "nested, triple": "f'''{",
    "nested, both": "f'{f\"{",
    "in turn": "f'{ ' ",
    "specifications": "f'{a:{",
    "names": "f'\\N{",
    "never closed": 'f"""{ \'}\' """ ',
    "lines": "f'{\n",
    "closed and not": "f'{f'{a}' ",
}


class Counted:
    """A pattern that adds up how many characters it walks over."""

    walked = 0

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern

    def count(self, method: str, text: str, at: int) -> re.Match[str] | None:
        """Return what the pattern's method does."""
        found: re.Match[str] | None = getattr(self.pattern, method)(text, at)
        Counted.walked += (found.end() if found else len(text)) - at + 1
        assert Counted.walked < 30 * len(text) + 100, "more than linear work"
        return found

    def search(self, text: str, at: int) -> re.Match[str] | None:
        """Search from a place on."""
        return self.count("search", text, at)

    def match(self, text: str, at: int) -> re.Match[str] | None:
        """Match at a place."""
        return self.count("match", text, at)


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("times", [28, 2000])
def test_strings_without_an_end_take_linear_work(
    case: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fields nest and break off, each character is walked over a bounded number of times.

    And what is found covers the text in its order, as ever.
    """
    monkeypatch.setattr(Counted, "walked", 0)
    for name in ("_TOKEN", "_FIELD", "_LITERAL"):
        monkeypatch.setattr(text_quantities, name, Counted(getattr(text_quantities, name)))
    rest = {quote: Counted(pattern) for quote, pattern in text_quantities._REST.items()}
    monkeypatch.setattr(text_quantities, "_REST", rest)
    text = HARD[case] * times
    found = list(tokens(text))
    assert 0 < len(found) <= len(text)
    ends = [0, *(end for _, _, end in found)]
    assert all(before <= begin < end for before, (_, begin, end) in zip(ends, found, strict=False))


def test_a_broken_field_leaves_the_next_line_alone() -> None:
    """Where an f-string's field never ends, it is a plain string; one in the next line has some."""
    broken = "f'{a' b\n"
    assert list(tokens(broken)) == [("string", 1, 5)]
    closed = "f'(' f'{'\nf'{a['b']} c'"
    assert list(tokens(closed))[-1] == ("string", 11, 23)


def test_fields_within_fields_are_read_up_to_eight_deep() -> None:
    """Eight fields within each other are one string; with a ninth it is read without fields."""
    for depth, kinds in ((8, ["string"]), (9, None)):
        text = "f'{" * depth + "a" + "}'" * depth
        found = list(tokens(text))
        if kinds:
            assert found == [("string", 1, len(text))]
        else:
            assert found[0] == ("string", 1, 5)


def test_what_nothing_closes_ends_with_the_line() -> None:
    """An apostrophe of prose is a quote until its line ends, and brackets never go below none."""
    known = text_properties("don't) (\nb)")
    assert known["inside quotes"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    assert known["bracket depth"].tolist() == [0.0] * 11
    assert known["line position"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2]


def test_lines_words_and_indentation_are_counted() -> None:
    """The quantities of a known source are those that one counts by hand."""
    known = text_properties("if a_1:\n\t  b 2\n  \nc")
    assert known["line position"].tolist() == [
        1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 0, 1,
    ]  # fmt: skip
    assert known["indentation"].tolist() == [
        0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 0, 1, 2, 0, 0,
    ]  # fmt: skip
    assert known["word length"].tolist() == [
        1, 2, 0, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1,
    ]  # fmt: skip
