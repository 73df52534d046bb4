"""N-gram language models: the baseline of a network on text."""

from collections.abc import Iterator

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
        distinct, counts = np.unique(grams, return_counts=True)
        contexts, begins, kinds = np.unique(distinct // base, return_index=True, return_counts=True)
        return _Counts(distinct, counts, contexts, np.add.reduceat(counts, begins), kinds)

    def probabilities(
        self, grams: NDArray[np.int64], base: int, lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the probability of the last character of each gram (N,), by absolute discounting.

        Interpolated with `lower`, that of the context that is one character shorter. The discount
        is that of Ney, Essen and Kneser (1994): n₁ / (n₁ + 2 n₂), where n₁ and n₂ are the numbers
        of grams that occur once and twice.
        """
        once, twice = (int((self.counts == times).sum()) for times in (1, 2))
        discount = once / max(1, once + 2 * twice) or 0.5
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
