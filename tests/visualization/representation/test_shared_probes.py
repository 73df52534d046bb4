"""Probes that share one fit equal the same probes alone."""

import numpy as np
import pytest

from visualization.core.statistics import fit_class_sets, fit_classes
from visualization.recurrent import probe_states


@pytest.mark.parametrize("seed", range(3))
def test_sets_of_classes_fitted_together_equal_each_fitted_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=(90, 5)), np.ones((90, 1))], axis=1)
    sets = [(rng.integers(0, num, (rows, 90)), num) for rows, num in ((2, 3), (1, 7), (3, 2))]
    together = fit_class_sets(x, sets, 1e-2)
    for weights, (codes, num) in zip(together, sets, strict=True):
        assert weights.shape == (len(codes), 6, num)
        np.testing.assert_allclose(weights, fit_classes(x, codes, num, 1e-2), atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_quantities_probed_together_score_as_each_probed_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(200, 3, 4))
    kinds = (states[..., 0] > 0).astype(int) + (states[..., 1] > 0)
    some = np.where(rng.random((200, 3)) < 0.2, -1, kinds)  # in other rows than the rest
    quantities = {
        "kind": kinds, "sign": states[..., 2] > 0, "some": some,
        "number": states[..., 0] - states[..., 3], "same": np.zeros(200, int),
    }  # fmt: skip
    table = probe_states(states, quantities)
    for row, (name, values) in enumerate(quantities.items()):
        alone = probe_states(states, {name: values})
        answers = 2 / 60  # two held-out answers, of 60 samples, may be rounded the other way
        for field in ("scores", "controls"):
            together, own = getattr(table, field)[row], getattr(alone, field)[0]
            np.testing.assert_allclose(together, own, atol=answers, err_msg=name)
        np.testing.assert_allclose(table.correlations[row], alone.correlations[0], atol=1e-12)
