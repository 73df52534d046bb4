"""Transcription errors: which characters are read for which, by length and page, worst lines.

A text that was read is aligned with the right one by the least number of edits (Levenshtein).
"""

from collections import Counter
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from visualization.core.errors import NothingToShow, argument_error
from visualization.core.records import brief_repr

NOTHING = ""  # read for a character that was left out; right, of one that is too many
_NUM_LENGTHS = 5  # groups of lines by length
_Z = 1.96  # standard errors of a 95 % interval


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class Confusions:
    """Confusion matrix of characters, with insertions and deletions.

    Attributes:
        symbols: the characters, those with most errors first; the first of all is "": nothing.
        counts: how often each right character (rows) was read as each (columns) (K, K). The row of
            "" has what was inserted, its column what was left out.
    """

    symbols: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def num_errors(self) -> int:
        """Edits of all lines together."""
        return int(self.counts.sum() - np.trace(self.counts))

    def most_common(self, num: int) -> list[tuple[str, str, int, int]]:
        """Return the commonest errors: right, read, how often, and how often it was right to read.

        The last number is how often the right character was to be read at all; 0 of insertions.
        """
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:num]
        totals = self.counts.sum(axis=1)
        totals[0] = 0
        return [
            (self.symbols[row], self.symbols[column], int(wrong[row, column]), int(totals[row]))
            for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
            if wrong[row, column]
        ]


@attrs.frozen(kw_only=True)
class LineGroup:
    """Lines that belong together, such as those of a page.

    Attributes:
        name: such as `21 to 30 characters`.
        num_lines: how many.
        num_characters: of their right texts.
        num_edits: errors.
        margin: half of the 95 % interval of the error rate, with whole lines as what is drawn; NaN:
            a single line.
    """

    name: str
    num_lines: int
    num_characters: int
    num_edits: int
    margin: float

    @property
    def error_rate(self) -> float:
        """Character error rate: edits over characters; infinite without any."""
        return self.num_edits / self.num_characters if self.num_characters else float("inf")


@attrs.frozen(kw_only=True, field_transformer=brief_repr)
class ErrorRates:
    """Character error rates of groups of lines.

    Attributes:
        title: what the lines are grouped by.
        groups: in their order.
        total: of all lines.
    """

    title: str
    groups: tuple[LineGroup, ...]
    total: LineGroup


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class WorstLines:
    """Lines with the most errors, with their pictures.

    Attributes:
        images: of each line (H, W), from 0 to 1; 1 is ink.
        names: of the lines.
        answers: what was read.
        targets: what is right.
        num_edits: errors of each.
        num_wrong: lines with errors, of all that were looked at.
        num_lines: that were looked at.
    """

    images: tuple[NDArray[np.float32], ...]
    names: tuple[str, ...]
    answers: tuple[str, ...]
    targets: tuple[str, ...]
    num_edits: tuple[int, ...]
    num_wrong: int
    num_lines: int


def confusions(answers: Sequence[str], targets: Sequence[str]) -> Confusions:
    """Return which characters were read for which.

    >>> found = confusions(["kitten"], ["sitting"])
    >>> sorted(found.most_common(9))
    [('g', '', 1, 1), ('i', 'e', 1, 2), ('s', 'k', 1, 1)]
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for answer, target in _pairs(answers, targets):
        for step in Levenshtein.opcodes(target, answer):
            right, read = (
                target[step.src_start : step.src_end],
                answer[step.dest_start : step.dest_end],
            )
            longest = max(len(right), len(read))
            pairs.update(zip(_padded(right, longest), _padded(read, longest), strict=True))
    errors: Counter[str] = Counter()
    for (right, read), num in pairs.items():
        if right != read:
            errors.update({right: num, read: num})
    named = sorted(errors.keys() - {NOTHING}, key=lambda symbol: (-errors[symbol], symbol))
    symbols = (NOTHING, *named)
    place = {symbol: at for at, symbol in enumerate(symbols)}
    counts = np.zeros((len(symbols), len(symbols)), np.int64)
    for (right, read), num in pairs.items():
        if right in place:  # else it was never read wrongly, nor any other as it
            counts[place[right], place[read]] = num
    return Confusions(symbols=symbols, counts=counts)


def _padded(text: str, length: int) -> list[str]:
    return [*text, *[NOTHING] * (length - len(text))]


def _pairs(answers: Sequence[str], targets: Sequence[str]) -> list[tuple[str, str]]:
    if len(answers) != len(targets):
        problem = f"{len(answers)} texts for {len(targets)} targets"
        raise argument_error("answers", problem, "one for each target")
    if not answers:
        raise NothingToShow("no line was read")
    return list(zip(answers, targets, strict=True))


def errors_by_length(answers: Sequence[str], targets: Sequence[str]) -> ErrorRates:
    """Return error rates of short to long lines: five groups of about as many lines."""
    pairs = _pairs(answers, targets)
    lengths = np.array([len(target) for _, target in pairs])
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, _NUM_LENGTHS + 1)[1:-1]) // 1)
    number = np.searchsorted(edges, lengths)
    names = [""] * len(pairs)
    for group in np.unique(number):
        members = lengths[number == group]
        low, high = int(members.min()), int(members.max())
        name = f"{low} to {high}" if low < high else f"{low}"
        for at in np.flatnonzero(number == group):
            names[at] = name
    order = [names[at] for at in np.argsort(lengths, kind="stable")]
    return _error_rates("characters of a line", pairs, names, tuple(dict.fromkeys(order)))


def errors_by_group(
    answers: Sequence[str], targets: Sequence[str], groups: Sequence[str], title: str
) -> ErrorRates:
    """Return error rates of groups of lines, such as pages, the worst first.

    Raises:
        NothingToShow: all lines are of one group.
    """
    pairs = _pairs(answers, targets)
    if len(set(groups)) < 2:
        raise NothingToShow("the lines are of no different pages")
    found = _error_rates(title, pairs, groups, tuple(dict.fromkeys(groups)))
    worst = sorted(found.groups, key=lambda group: -group.error_rate)
    return attrs.evolve(found, groups=tuple(worst))


def _error_rates(
    title: str, pairs: Sequence[tuple[str, str]], names: Sequence[str], order: Sequence[str]
) -> ErrorRates:
    edits = np.array([Levenshtein.distance(*pair) for pair in pairs], np.int64)
    lengths = np.array([len(target) for _, target in pairs], np.int64)
    member = np.array([order.index(name) for name in names])
    groups = tuple(
        _line_group(name, edits[member == at], lengths[member == at])
        for at, name in enumerate(order)
    )
    return ErrorRates(title=title, groups=groups, total=_line_group("all", edits, lengths))


def _line_group(name: str, edits: NDArray[np.int64], lengths: NDArray[np.int64]) -> LineGroup:
    """Return a group; the margin is that of a ratio of sums over lines."""
    total, margin = int(lengths.sum()), float("nan")
    if total and len(edits) > 1:
        beside = edits - edits.sum() / total * lengths
        variance = (beside**2).sum() * len(edits) / (len(edits) - 1)
        margin = float(_Z * np.sqrt(variance) / total)
    return LineGroup(
        name=name, num_lines=len(edits), num_characters=total, num_edits=int(edits.sum()),
        margin=margin,
    )  # fmt: skip


def worst_lines(
    answers: Sequence[str],
    targets: Sequence[str],
    images: Sequence[NDArray[np.float32]],
    names: Sequence[str],
    num: int = 10,
) -> WorstLines:
    """Return the lines with the most errors for their length, at most `num`.

    Raises:
        NothingToShow: no line has an error.
    """
    pairs = _pairs(answers, targets)
    edits = np.array([Levenshtein.distance(*pair) for pair in pairs])
    rates = edits / np.maximum(1, [len(target) for _, target in pairs])
    order = [int(at) for at in np.argsort(-rates, kind="stable") if edits[at]][:num]
    if not order:
        raise NothingToShow(f"none of {len(pairs):,} lines has an error")
    return WorstLines(
        images=tuple(images[at] for at in order), names=tuple(names[at] for at in order),
        answers=tuple(answers[at] for at in order), targets=tuple(targets[at] for at in order),
        num_edits=tuple(int(edits[at]) for at in order), num_wrong=int((edits > 0).sum()),
        num_lines=len(pairs),
    )  # fmt: skip
