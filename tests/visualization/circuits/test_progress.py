"""Progress measures and ablation by frequency: of waves whose answers are known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tests.visualization.circuits.test_fourier import waves
from visualization import NothingToShow
from visualization.circuits import frequency_ablation, keep_frequencies, progress_measures
from visualization.circuits.fourier import remove_frequencies
from visualization.circuits.frequency_ablation import FrequencyAblation
from visualization.circuits.progress import Snapshot, score_pairs

P = 23
KEYS = (3, 7)
LOGITS = 5 * waves(P, dict.fromkeys(KEYS, 1.0))
IS_TRAIN = np.random.default_rng(1).random((P, P)) < 0.4


def test_scores_are_torchs() -> None:
    """Loss and accuracy over some pairs equal torch's cross entropy and a count."""
    logits = np.random.default_rng(0).normal(size=(P, P, P)) * 9
    a, b = np.nonzero(IS_TRAIN)
    right = torch.as_tensor((a + b) % P)
    chosen = torch.as_tensor(logits[a, b])
    loss, accuracy = score_pairs(logits, IS_TRAIN)
    assert loss == pytest.approx(F.cross_entropy(chosen, right).item())
    assert accuracy == (chosen.argmax(1) == right).double().mean().item()
    assert np.isnan(score_pairs(logits, np.zeros((P, P), bool))).all()


def test_restricted_loss_of_waves_is_the_loss_and_the_excluded_one_chance() -> None:
    """A network of key frequencies alone answers by them, and without them by chance."""
    table = np.eye(P)
    record = progress_measures([Snapshot(5, LOGITS, table, 12.5)], IS_TRAIN, KEYS)
    np.testing.assert_allclose(record.restricted_loss, record.test_loss)
    np.testing.assert_allclose(record.excluded_loss, math.log(P))
    np.testing.assert_allclose(record.key_share, 1.0)
    np.testing.assert_allclose(record.gini, 0.0, atol=1e-9)  # one-hot: all frequencies are equal
    assert (record.steps[0], record.squared_weights[0]) == (5, 12.5)
    assert record.train_accuracy[0] == record.test_accuracy[0] == 1.0


def test_what_is_known_by_heart_is_in_the_excluded_loss() -> None:
    """Logits right for training pairs alone have these in the excluded loss, not the restricted."""
    a, b = np.nonzero(IS_TRAIN)
    logits = np.zeros((P, P, P))
    logits[a, b, (a + b) % P] = 20.0
    record = progress_measures([Snapshot(1, logits, np.eye(P), 1.0)], IS_TRAIN, KEYS)
    assert record.train_accuracy[0] == 1.0
    assert record.excluded_loss[0] < 0.5
    assert record.restricted_loss[0] > 1.0
    assert record.test_loss[0] == pytest.approx(math.log(P))


def test_without_snapshots_there_is_nothing_to_show() -> None:
    """A run that kept no weights has no measures, and the reason names the setting."""
    with pytest.raises(NothingToShow, match="num_weight_snapshots"):
        progress_measures([], IS_TRAIN, KEYS)


def ablated(keys: tuple[int, ...], seen: list[Sequence[int]]) -> FrequencyAblation:
    """Ablate the logits, and record which frequencies are kept."""

    def only(frequencies: Sequence[int]) -> NDArray[np.float64]:
        seen.append(frequencies)
        return keep_frequencies(LOGITS, frequencies)

    return frequency_ablation(
        LOGITS, only, remove_frequencies(LOGITS, keys), keys, ~IS_TRAIN, place="logits"
    )


def test_key_frequencies_answer_and_others_do_not() -> None:
    """Of waves, the key frequencies alone have the whole loss; without, or with others, chance."""
    record = ablated(KEYS, [])
    assert record.accuracy["all"] == record.accuracy["only key"] == 1.0
    assert record.loss["only key"] == pytest.approx(record.loss["all"])
    assert record.loss["all but key"] == pytest.approx(math.log(P))
    np.testing.assert_allclose(record.random_loss, math.log(P))


def test_the_control_keeps_as_many_others() -> None:
    """Each set drawn has as many frequencies as are key, all different, and none of these."""
    seen: list[Sequence[int]] = []
    ablated(KEYS, seen)
    assert seen[0] == KEYS
    assert len(seen) == 21
    assert all(len(set(drawn)) == 2 and not set(drawn) & set(KEYS) for drawn in seen[1:])
    assert len({tuple(drawn) for drawn in seen[1:]}) > 5


def test_without_key_frequencies_nothing_is_kept() -> None:
    """A network without key frequencies is answered by the means of its classes alone."""
    record = ablated((), [])
    assert record.loss["only key"] == pytest.approx(math.log(P))
    assert record.loss["all but key"] == pytest.approx(record.loss["all"])
