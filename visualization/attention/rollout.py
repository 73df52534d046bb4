"""Attention rollout: how much of each input token is in each place after several layers.

Abnar and Zuidema 2020 (2005.00928, section 3): a layer leaves half of a place's vector as it is
(the residual connection) and mixes the other half by its attention, the mean of its heads; the
product over the layers says where what is in a place came from. It is a model of the flow of
information: values, norms and feed-forward blocks are left out, so that it is no attribution.
"""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.attention.maps import reading_order
from visualization.core.arrays import as_array, check_shape
from visualization.core.errors import argument_error, check_share
from visualization.core.records import brief_repr
from visualization.records import AnsweredQuestion

RESIDUAL = 0.5  # share of a place that a sublayer leaves as it is
_AXES = ("sample", "head", "query", "key")

Weights = ArrayLike | Tensor
Array = NDArray[np.float64]


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class AttentionRollout:
    """Attention and its rollout after each of L layers, of N samples from T places to S tokens.

    Attributes:
        layers: names (L,).
        attention: of each layer alone, the mean of its heads (L, N, T, S); rows sum to 1.
        rollout: after each layer, of all up to it (L, N, T, S); rows sum to 1.
        written: the character at each place (N, T).
        read: the characters that it came from (N, S).
        labels: each sample in words (N,).
        order: a word on the order of the question's characters, "" where a person reads so.
    """

    layers: tuple[str, ...]
    attention: Array
    rollout: Array
    written: NDArray[np.str_]
    read: NDArray[np.str_]
    labels: tuple[str, ...]
    order: str = ""


def mean_of_heads(weights: Weights, name: str = "attention") -> Array:
    """Return the mean over heads (N, T, S) of attention weights (N, heads, T, S).

    Raises:
        ValueError: a row does not sum to 1, or a weight is below 0.
    """
    array = as_array(weights, name, _AXES, finite=True).astype(np.float64).mean(axis=1)
    if array.min() < 0 or np.abs(array.sum(axis=-1) - 1).max() > 1e-3:
        raise argument_error(name, "a row does not sum to 1, or a weight is below 0", "shares of 1")
    return np.asarray(array)


def attention_rollout(attention: Sequence[Weights], *, residual: float = RESIDUAL) -> Array:
    """Attention rollout after each layer (L, N, T, T): rows sum to 1.

    The equation of section 3: R_l = (residual · I + (1 - residual) · A_l) R_(l-1), with R_0 = I.

    Args:
        attention: of each layer (N, heads, T, T), the lowest first; heads are averaged.
        residual: share of a place that is left as it is.

    Raises:
        ValueError: names the argument that is not accepted.
    """
    check_share(residual, "residual")
    layers = [mean_of_heads(weights) for weights in attention]
    if not layers:
        raise argument_error("attention", "there is no layer", "one or more")
    num, places, tokens = layers[0].shape
    if places != tokens:
        problem = f"a layer has weights from {places} places to {tokens}"
        raise argument_error("attention", problem, "self-attention (N, heads, T, T)")
    state = np.broadcast_to(np.eye(places), (num, places, places))
    states = []
    for layer in layers:
        check_shape("attention", layer.shape, state.shape, "the layer before it")
        state = residual * state + (1 - residual) * layer @ state
        states.append(state)
    return np.stack(states)


def decoder_rollout(
    encoder: Array,
    self_attention: Sequence[Weights],
    cross_attention: Sequence[Weights],
    *,
    residual: float = RESIDUAL,
) -> Array:
    """Attention rollout of a decoder after each layer (L, N, A, Q + A): rows sum to 1.

    Each place begins as its own character of the answer; self-attention mixes places, and
    cross-attention takes in the question's characters as the encoder left them. Deviation: the
    paper has encoders alone; here both sublayers are one step of the same equation.

    Args:
        encoder: rollout of the encoder's last layer (N, Q, Q).
        self_attention: of each layer (N, heads, A, A), the lowest first.
        cross_attention: of each layer (N, heads, A, Q).
        residual: share of a place that each sublayer leaves as it is.

    Returns:
        shares of the Q characters of the question, then of the A characters of the answer.

    Raises:
        ValueError: names the argument that is not accepted.
    """
    check_share(residual, "residual")
    if len(self_attention) != len(cross_attention):
        problem = f"{len(cross_attention)} layers"
        accepted = f"as many as self_attention has: {len(self_attention)}"
        raise argument_error("cross_attention", problem, accepted)
    num, asked = encoder.shape[:2]
    state, states = None, []
    for to_itself, to_question in zip(self_attention, cross_attention, strict=True):
        own, other = mean_of_heads(to_itself), mean_of_heads(to_question, "cross_attention")
        if state is None:
            state = np.zeros((num, own.shape[1], asked + own.shape[1]))
            state[..., asked:] = np.eye(own.shape[1])
        state = residual * state + (1 - residual) * own @ state
        taken = np.pad(other @ encoder, ((0, 0), (0, 0), (0, own.shape[1])))
        state = residual * state + (1 - residual) * taken
        states.append(state)
    if not states:
        raise argument_error("self_attention", "there is no layer", "one or more")
    return np.stack(states)


def encoder_decoder_rollout(
    encoder: Sequence[Weights],
    self_attention: Sequence[Weights],
    cross_attention: Sequence[Weights],
    *,
    read: NDArray[np.str_],
    written: NDArray[np.str_],
    rows: Sequence[AnsweredQuestion],
) -> dict[str, AttentionRollout]:
    """Attention rollout of an encoder–decoder Transformer: a record of each of both.

    Args:
        encoder: attention of each layer of the encoder (N, heads, Q, Q), the lowest first.
        self_attention: of the decoder (N, heads, A, A).
        cross_attention: of the decoder (N, heads, A, Q).
        read: characters of the questions (N, Q).
        written: characters of the answers (N, A); the decoder reads each after it is written, so
            that the place that writes the first one begins with a start symbol, `·`.
        rows: question and answer of each sample (N,).

    Raises:
        ValueError: names the argument that is not accepted.
    """
    asked = attention_rollout(encoder)
    answered = decoder_rollout(asked[-1], self_attention, cross_attention)
    own = np.stack([mean_of_heads(weights) for weights in self_attention])
    other = np.stack([mean_of_heads(weights, "cross_attention") for weights in cross_attention])
    start = np.full_like(written[:, :1], "·")
    words = tuple(f"{row.question} = {row.answer}" for row in rows)
    order = reading_order(read, rows)
    return {
        "encoder": AttentionRollout(
            layers=_layer_names(encoder), attention=np.stack([mean_of_heads(w) for w in encoder]),
            rollout=asked, written=read, read=read, labels=words, order=order,
        ),
        "decoder": AttentionRollout(
            layers=_layer_names(self_attention), attention=np.concatenate([other, own], -1) / 2,
            rollout=answered, written=written,
            read=np.concatenate([read, start, written[:, :-1]], axis=1), labels=words, order=order,
        ),
    }  # fmt: skip


def _layer_names(layers: Sequence[Weights]) -> tuple[str, ...]:
    return tuple(f"layer {number}" for number in range(1, len(layers) + 1))
