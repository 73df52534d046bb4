"""Ablation by frequency: the answers of a few frequencies alone, and of as many others."""

from collections.abc import Callable, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.circuits.fourier import Array, num_frequencies
from visualization.circuits.progress import score_pairs
from visualization.core.errors import check_count
from visualization.core.records import brief_repr

NUM_RANDOM = 20  # sets of other frequencies

Logits = ArrayLike | Tensor


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class FrequencyAblation:
    """Accuracy and loss (nats) of a + b modulo p when only some frequencies are kept.

    Attributes:
        place: where they are kept, such as `embedding`.
        modulus: p.
        key_frequencies: from 1.
        loss: by what is kept: `all`, `only key`, `all but key`.
        accuracy: likewise.
        random_loss: of R sets of as many other frequencies alone (R,).
        random_accuracy: likewise (R,).
    """

    place: str
    modulus: int
    key_frequencies: tuple[int, ...]
    loss: dict[str, float]
    accuracy: dict[str, float]
    random_loss: Array
    random_accuracy: Array


def frequency_ablation(
    full: Logits,
    only: Callable[[Sequence[int]], Logits],
    without: Logits,
    frequencies: Sequence[int],
    pairs: NDArray[np.bool_],
    *,
    place: str,
    num_random: int = NUM_RANDOM,
    seed: int = 0,
) -> FrequencyAblation:
    """Keep only the key frequencies, remove only them, and keep as many others: what is answered?

    Args:
        full: logits (p, p, p) of a, b and the remainder.
        only: returns them when only some frequencies are kept.
        without: those when the key frequencies alone are removed.
        frequencies: the key frequencies.
        pairs: which are scored (p, p).
        place: where frequencies are kept and removed, such as `embedding`.
        num_random: R sets of other frequencies, fewer in each where there are fewer.
        seed: of the choice of these sets.

    Raises:
        ValueError: `num_random` is below 1.
    """
    check_count(num_random, "num_random")
    keys, p = tuple(frequencies), len(pairs)
    scores = {
        name: score_pairs(logits, pairs)
        for name, logits in (("all", full), ("only key", only(keys)), ("all but key", without))
    }
    others = [k for k in range(1, num_frequencies(p) + 1) if k not in keys]
    rng = np.random.default_rng(seed)
    sets = [
        sorted(rng.choice(others, min(len(keys), len(others)), replace=False).tolist())
        for _ in range(num_random)
    ]
    random = np.array([score_pairs(only(chosen), pairs) for chosen in sets])
    return FrequencyAblation(
        place=place, modulus=p, key_frequencies=keys,
        loss={name: loss for name, (loss, _) in scores.items()},
        accuracy={name: accuracy for name, (_, accuracy) in scores.items()},
        random_loss=random[:, 0], random_accuracy=random[:, 1],
    )  # fmt: skip
