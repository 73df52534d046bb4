"""Direct logit attribution: an answer's logit as a sum over what writes to the residual stream.

Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits": heads and blocks add
vectors to one stream, from which the logits are read by a final layer norm and a linear map. With
the norm's scale held at what it was, the logit is a sum of one term for each of them, and exact.
"""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error
from visualization.core.records import brief_repr

BIASES = "readout biases"  # and that of the norm
_TOLERANCE = 1e-3  # of the largest logit


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class LogitAttribution:
    """Direct logit attribution of N answers of A characters to M parts of the residual stream.

    Attributes:
        parts: names of what writes to the stream (M,), such as `layer 1 head 2`.
        values: what each adds to the logit of the character written, minus the mean over all
            characters (N, A, M); the sum over M is `logits`.
        logits: of the characters written, minus that mean (N, A).
        written: the characters (N, A).
        labels: each sample in words (N,).
    """

    parts: tuple[str, ...]
    values: NDArray[np.float64]
    logits: NDArray[np.float64]
    written: NDArray[np.str_]
    labels: tuple[str, ...]


def direct_logit_attribution(
    parts: Mapping[str, Tensor],
    logits: Tensor,
    codes: Tensor,
    readout: nn.Linear,
    norm: nn.LayerNorm | None = None,
    *,
    written: NDArray[np.str_],
    labels: Sequence[str],
) -> LogitAttribution:
    """Direct logit attribution of answers: what each head, block, embedding and bias adds.

    The mean over all V characters is subtracted, as only differences of logits change an answer.

    Args:
        parts: vectors (N, A, D) that sum to the residual stream before the norm, by name.
        logits: of the model (N, A, V).
        codes: the characters written (N, A), from 0 to V - 1.
        readout: from the normalised stream to the logits.
        norm: the final layer norm, of which the scale of each place is frozen; None: there is none.
        written: the characters (N, A).
        labels: each sample in words (N,).

    Raises:
        ValueError: the terms do not sum to the logits, so that `parts` is not all there is.
    """
    weight = readout.weight.detach().double()
    offset = weight.new_zeros(len(weight)) if readout.bias is None else readout.bias.detach()
    bias = offset.double()
    vectors = torch.stack([part.detach().double() for part in parts.values()], dim=2)  # N, A, M, D
    if norm is not None:
        if norm.bias is not None:
            bias = bias + weight @ norm.bias.detach().double()
        vectors = _with_frozen_scale(vectors, norm)
    centred = weight - weight.mean(0)
    values = torch.einsum("namd,nad->nam", vectors, centred[codes])
    of_biases = (bias - bias.mean())[codes][..., None]
    names = tuple(parts)
    if norm is not None or readout.bias is not None:
        values, names = torch.cat([values, of_biases], dim=-1), (*names, BIASES)
    raw = logits.detach().double()
    total = (raw - raw.mean(-1, keepdim=True)).gather(-1, codes[..., None])[..., 0]
    error = float((values.sum(-1) - total).abs().max())
    if error > _TOLERANCE * max(1.0, float(raw.abs().max())):
        problem = f"their terms miss the model's logits by up to {error:.3g}"
        raise argument_error("parts", problem, "all that is added to the residual stream")
    return LogitAttribution(
        parts=names, values=values.cpu().numpy(), logits=total.cpu().numpy(), written=written,
        labels=tuple(labels),
    )  # fmt: skip


def _with_frozen_scale(vectors: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return parts (N, A, M, D) normalised by the scale of their sum, without the norm's bias."""
    variance = vectors.sum(2).var(-1, unbiased=False)[..., None, None]
    centred = vectors - vectors.mean(-1, keepdim=True)
    scaled = centred / (variance + norm.eps).sqrt()
    return scaled * norm.weight.detach().double() if norm.elementwise_affine else scaled
