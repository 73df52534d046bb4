"""Attention rollout: by hand, and against a product of the graphs of all layers."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.samples import Row
from visualization.attention.rollout import (
    attention_rollout,
    decoder_rollout,
    encoder_decoder_rollout,
)

RNG = np.random.default_rng(0)


def weights(*shape: int) -> NDArray[np.float64]:
    """Return attention weights at random, of two heads: (N, 2, T, S)."""
    num, places, tokens = shape
    return RNG.dirichlet(np.ones(tokens), (num, 2, places))


def test_identity_attention_is_the_identity() -> None:
    """Where each place looks at itself alone, it is made of itself, after any layers."""
    itself = np.broadcast_to(np.eye(5), (3, 2, 5, 5))
    for state in attention_rollout([itself] * 4):
        np.testing.assert_allclose(state, np.broadcast_to(np.eye(5), (3, 5, 5)))


def test_one_layer_is_half_of_its_attention() -> None:
    """One layer is (A + I) / 2 with the mean A of the heads."""
    one = weights(3, 4, 4)
    (state,) = attention_rollout([one])
    np.testing.assert_allclose(state, (one.mean(axis=1) + np.eye(4)) / 2)


@pytest.mark.parametrize("residual", [0.2, 0.5, 0.9])
def test_layers_multiply_and_rows_sum_to_one(residual: float) -> None:
    """After each layer it is the product of the layers so far, the last one leftmost."""
    layers = [weights(2, 4, 4) for _ in range(3)]
    states = attention_rollout(layers, residual=residual)
    wanted = np.broadcast_to(np.eye(4), (2, 4, 4))
    for layer, state in zip(layers, states, strict=True):
        wanted = (residual * np.eye(4) + (1 - residual) * layer.mean(axis=1)) @ wanted
        np.testing.assert_allclose(state, wanted)
        np.testing.assert_allclose(state.sum(axis=-1), 1)


def test_a_decoder_is_one_graph_with_its_encoder() -> None:
    """Rollout of both is the product of matrices over the places of question and answer."""
    asked, written = 5, 3
    encoder = [weights(1, asked, asked) for _ in range(2)]
    own = [weights(1, written, written) for _ in range(2)]
    cross = [weights(1, written, asked) for _ in range(2)]
    whole = np.eye(asked + written)

    def step(rows: slice, columns: slice, attention: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix = np.eye(asked + written)
        matrix[rows] /= 2
        matrix[rows, columns] += attention.mean(axis=1)[0] / 2
        return matrix

    question, answer = slice(asked), slice(asked, None)
    for layer in encoder:
        whole = step(question, question, layer) @ whole
    for to_itself, to_question in zip(own, cross, strict=True):
        whole = step(answer, question, to_question) @ step(answer, answer, to_itself) @ whole
    states = decoder_rollout(attention_rollout(encoder)[-1], own, cross)
    np.testing.assert_allclose(states[-1, 0], whole[answer])
    np.testing.assert_allclose(states.sum(axis=-1), 1)


def test_records_of_encoder_and_decoder() -> None:
    """A decoder's columns are the question and the answer before each place; rows sum to 1."""
    read, written = np.array([list("1+2")]), np.array([list("3\n")])
    records = encoder_decoder_rollout(
        [weights(1, 3, 3)], [weights(1, 2, 2)], [weights(1, 2, 3)], read=read, written=written,
        rows=[Row("2+1", "3", "3", True)],
    )  # fmt: skip
    assert "".join(records["decoder"].read[0]) == "1+2·3"
    assert records["decoder"].labels == ("2+1 = 3",)
    assert records["decoder"].order == "read from its end"
    assert records["encoder"].read.tolist() == read.tolist()
    for record in records.values():
        assert record.rollout.shape == record.attention.shape
        np.testing.assert_allclose(record.attention.sum(axis=-1), 1)
        np.testing.assert_allclose(record.rollout.sum(axis=-1), 1)


@pytest.mark.parametrize(
    ("layers", "settings", "words"),
    [
        ([], {}, "attention: there is no layer"),
        ([2 * weights(1, 3, 3)], {}, "attention: a row does not sum to 1"),
        ([weights(1, 3, 3), weights(1, 4, 4)], {}, r"attention: shape \(1, 4, 4\)"),
        ([weights(1, 3, 4)], {}, "attention: a layer has weights from 3 places to 4"),
        ([weights(1, 3, 3)], {"residual": 1.0}, "residual: 1.0 is not accepted"),
    ],
)
def test_what_is_no_attention_is_refused(layers: Any, settings: Any, words: str) -> None:
    """No layers, weights that are no shares, and layers of two sizes are errors with names."""
    with pytest.raises(ValueError, match=words):
        attention_rollout(layers, **settings)


def test_a_decoder_has_as_many_layers_of_both_kinds() -> None:
    """Self-attention without its cross-attention is an error with both numbers."""
    with pytest.raises(ValueError, match=r"cross_attention: 1 layers; accepted: .* 2"):
        decoder_rollout(np.eye(3)[None], [weights(1, 2, 2)] * 2, [weights(1, 2, 3)])
