"""N-gram language models: the baseline of a network on text."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray


@attrs.frozen(eq=False)
class _Counts:
    """Counts of n-grams. A gram is a number: its characters are digits in base V.

    Attributes:
        grams: in rising order (G,).
        counts: of each (G,).
        contexts: all but the last character, in rising order (C,).
        totals: occurrences of each context (C,).
        kinds: different characters that follow it (C,).
    """

    grams: NDArray[np.int64]
    counts: NDArray[np.int64]
    contexts: NDArray[np.int64]
    totals: NDArray[np.int64]
    kinds: NDArray[np.int64]

    @staticmethod
    def of(grams: NDArray[np.int64], base: int) -> "_Counts":
        """Count grams (N,) of V = `base` characters."""
        return _Counts.counted(*np.unique(grams, return_counts=True), base)

    @staticmethod
    def counted(distinct: NDArray[np.int64], counts: NDArray[np.int64], base: int) -> "_Counts":
        """Return what follows from the counts of distinct grams (G,) in rising order."""
        contexts, begins, kinds = np.unique(distinct // base, return_index=True, return_counts=True)
        return _Counts(distinct, counts, contexts, np.add.reduceat(counts, begins), kinds)

    @property
    def discount(self) -> float:
        """What is taken off each count: n₁ / (n₁ + 2 n₂) (Ney, Essen and Kneser 1994).

        n₁ and n₂ are the numbers of grams that occur once and twice.
        """
        once, twice = (int((self.counts == times).sum()) for times in (1, 2))
        return once / max(1, once + 2 * twice) or 0.5

    def probabilities(
        self, grams: NDArray[np.int64], base: int, lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the probability of the last character of each gram (N,), by absolute discounting.

        Interpolated with `lower`, that of the context that is one character shorter.
        """
        discount = self.discount
        at = np.searchsorted(self.contexts, grams // base).clip(max=len(self.contexts) - 1)
        is_known = self.contexts[at] == grams // base
        index = np.searchsorted(self.grams, grams).clip(max=len(self.grams) - 1)
        count = np.where(self.grams[index] == grams, self.counts[index], 0)
        discounted = np.maximum(count - discount, 0.0) + discount * self.kinds[at] * lower
        return np.where(is_known, discounted / self.totals[at], lower)


def ngram_bits(
    train: NDArray[np.integer],
    text: NDArray[np.integer],
    following: NDArray[np.integer],
    num_codes: int,
    longest: int = 8,
) -> tuple[float, ...]:
    """Return the bits per character of n-grams with contexts of 0, 1, … and `longest` characters.

    Interpolated Kneser–Ney (1995; as in Chen and Goodman 1999): for the shorter contexts, the count
    of a gram is the number of different contexts in which it occurs. At the beginning of a text,
    the context is what has been read so far, as for a network.

    Args:
        train: codes that are counted (N,).
        text: codes that are read (B, T).
        following: the code after each (B, T).
        num_codes: V; V to the power of `longest` + 1 must fit 63 bits, or fewer are returned;
            so are they for texts that are shorter.
        longest: characters of the longest context.
    """
    longest = min(longest, text.shape[1])
    while num_codes ** (longest + 1) >= 2**63:
        longest -= 1
    sequences = np.concatenate([text, following[:, -1:]], axis=1).astype(np.int64)
    num_samples, num_steps = text.shape
    shorter = np.full((num_samples, num_steps), 1 / num_codes)  # of the continuation counts
    probabilities = shorter
    bits = []
    for size, counts, continued in _all_counts(train.astype(np.int64), num_codes, longest):
        # The gram that ends with the next character after step t has its first one at t + 1 - size.
        places = slice(max(0, size - 1), None)
        grams = _grams(sequences[:, 1:] if size == 0 else sequences, size + 1, num_codes)
        probabilities = probabilities.copy()
        probabilities[:, places] = counts.probabilities(grams, num_codes, shorter[:, places])
        bits.append(float(-np.log2(probabilities).mean()))
        if continued is not None:
            shorter = shorter.copy()
            shorter[:, places] = continued.probabilities(grams, num_codes, shorter[:, places])
    return tuple(bits)


def _all_counts(
    train: NDArray[np.int64], base: int, longest: int
) -> Iterator[tuple[int, _Counts, _Counts | None]]:
    """Yield for each length of context its counts, and in how many contexts each gram occurs."""
    counts = _Counts.of(_grams(train, 1, base), base)
    for size in range(longest):
        longer = _Counts.of(_grams(train, size + 2, base), base)
        yield size, counts, _Counts.of(longer.grams % base ** (size + 1), base)
        counts = longer
    yield longest, counts, None


def _grams(codes: NDArray[np.int64], size: int, base: int) -> NDArray[np.int64]:
    """Return the number of every `size` codes that follow each other (…, N − size + 1)."""
    num = codes.shape[-1] - size + 1
    grams = np.zeros((*codes.shape[:-1], num), np.int64)
    for at in range(size):
        grams = grams * base + codes[..., at : at + num]
    return grams


class NgramTable(NamedTuple):
    """All n-grams of one length, as a file in the ARPA format lists them.

    Attributes:
        grams: codes (G, n).
        log_probability: ln p(last | others), interpolated (G,).
        log_backoff: ln of what the gram, as a context, leaves to shorter contexts (G,).
    """

    grams: NDArray[np.int64]
    log_probability: NDArray[np.float64]
    log_backoff: NDArray[np.float64]


def kneser_ney(
    texts: Sequence[NDArray[np.integer]], num_codes: int, order: int
) -> list[NgramTable]:
    """Interpolated Kneser–Ney n-grams of separate texts, each with a beginning and an end.

    As in Chen and Goodman (1999), section 3, with one discount for each length: p(w | h) =
    max(c − D, 0) / N + backoff(h) p(w | shorter h), backoff(h) = D · kinds / N. For all but the
    longest grams the count is that of the different codes before it; of grams that begin a text,
    before which there is nothing, it is their own. A single code's shorter context is an even
    share for every code, the end, and an unknown one.

    Args:
        texts: codes from 0 to `num_codes` − 1. In the tables `num_codes` is the beginning of a
            text, the next number its end, and the one after it an unknown code.
        num_codes: how many there are.
        order: n of the longest grams: what `order` − 1 characters say of the next.

    Raises:
        ValueError: there is no text, or the grams have more digits than 63 bits.
    """
    base = num_codes + 3
    if not texts or order < 1 or base**order >= 2**63:
        raise ValueError(f"{len(texts)} texts, {base} codes, order {order}: no n-grams of these")
    tables: list[NgramTable] = []
    grams, odds = np.arange(base), np.full(base, 1 / (num_codes + 2))
    for size, counts in enumerate(_counts_of_texts(texts, num_codes, order), 1):
        lower = odds
        if size > 1:
            lower = odds[np.searchsorted(grams, counts.grams % base ** (size - 1))]
            tables[-1] = _with_backoff(tables[-1], counts, base)
            grams = counts.grams
        odds = counts.probabilities(grams, base, lower)
        if size == 1:
            odds[num_codes] = 0.0  # a beginning is never written
        digits = grams[:, None] // base ** np.arange(size - 1, -1, -1) % base
        with np.errstate(divide="ignore"):
            tables.append(NgramTable(digits, np.log(odds), np.zeros(len(grams))))
    return tables


def _counts_of_texts(
    texts: Sequence[NDArray[np.integer]], begin: int, order: int
) -> Iterator[_Counts]:
    """Yield the counts of grams of 1 to `order` codes, fewer if no text is so long."""
    base = begin + 3
    stream = np.concatenate([np.concatenate([[begin], text, [begin + 1]]) for text in texts])
    stream, line = stream.astype(np.int64), np.cumsum(stream == begin)
    longest = max(map(len, texts)) + 2
    order = min(order, longest)

    def own(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        within = line[: len(line) - size + 1] == line[size - 1 :]
        return np.unique(_grams(stream, size, base)[within], return_counts=True)

    grams, counts = own(1)
    for size in range(1, order + 1):
        if size == order:
            keep = (grams != begin) | (size > 1)
            yield _Counts.counted(grams[keep], counts[keep], base)
            return
        longer = own(size + 1)
        begins = (grams // base ** (size - 1) == begin) & (size > 1)
        suffixes, kinds = np.unique(longer[0] % base**size, return_counts=True)
        merged = np.concatenate([suffixes, grams[begins]])
        rising = np.argsort(merged)
        yield _Counts.counted(merged[rising], np.concatenate([kinds, counts[begins]])[rising], base)
        grams, counts = longer


def _with_backoff(table: NgramTable, longer: _Counts, base: int) -> NgramTable:
    """Return a table with what its grams, as contexts of `longer` ones, leave to shorter ones."""
    size = table.grams.shape[1]
    grams = table.grams @ base ** np.arange(size - 1, -1, -1)
    at = np.searchsorted(longer.contexts, grams).clip(max=len(longer.contexts) - 1)
    share = longer.discount * longer.kinds[at] / longer.totals[at]
    log_backoff = np.where(longer.contexts[at] == grams, np.log(share), 0.0)
    return table._replace(log_backoff=log_backoff)
