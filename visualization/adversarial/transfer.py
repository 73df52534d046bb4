"""Transferability: do adversarial examples for one model deceive another?

N images, M models.
"""

from collections.abc import Callable, Mapping

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.adversarial.attacks import Attack
from visualization.adversarial.problem import Classes, predict_classes
from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import Images, OutputSelector, as_images, inspection_mode
from visualization.core.records import brief_repr

Attacker = Callable[[nn.Module, Images, Classes], Attack]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class TransferTable:
    """Transfer of adversarial examples between M models.

    Attributes:
        names: of the models.
        accuracy: of each model (second axis) on the images made against each (first) (M, M).
        noise: the same, with the sign of each pixel's change drawn at random (M, M): what changes
            of that size do by themselves.
        clean: accuracy on the images as they are (M,).
        method: of the attack.
        norm: `linf` or `l2`.
        epsilon: the largest size of a perturbation.
        num_images: N.
    """

    names: tuple[str, ...]
    accuracy: NDArray[np.float64]
    noise: NDArray[np.float64]
    clean: NDArray[np.float64]
    method: str
    norm: str
    epsilon: float
    num_images: int


def transfer_table(
    models: Mapping[str, nn.Module],
    images: Images,
    labels: Classes,
    attack: Attacker,
    *,
    seed: int = 0,
    batch_size: int = 256,
    output: OutputSelector | None = None,
) -> TransferTable:
    """Transferability: attack each model, and let each model classify the results.

    Args:
        models: by name; each outputs logits (N, K), of the same classes.
        images: (N, C, H, W).
        labels: the right classes (N,). None makes no sense here, for each model has its own.
        attack: called with a model, the images and the labels, such as
            `functools.partial(pgd, epsilon=0.1)`.
        seed: of the signs of the noise.
        batch_size: images at a time, where they are answered.
        output: picks the logits from what each model outputs; None: it is one tensor. The attack
            takes one of its own.

    Raises:
        ValueError: no models, or no labels; or the attack's.
    """
    if not models:
        raise argument_error("models", "none are given", "one or more, by name")
    if labels is None:
        raise value_error("labels", "None", "the right class of each image")
    attacks = [attack(model, images, labels) for model in models.values()]
    true_labels = attacks[0].labels
    sets = [attacked.adversarial for attacked in attacks]
    noisy = [_random_signs(attacked, seed) for attacked in attacks]
    image_sets = (attacks[0].images, *sets, *noisy)
    columns = [
        [_accuracy(model, each, true_labels, batch_size, output) for each in image_sets]
        for model in models.values()
    ]
    table, num = np.array(columns).T, len(models)
    first = attacks[0]
    return TransferTable(
        names=tuple(models), accuracy=table[1 : num + 1], noise=table[num + 1 :], clean=table[0],
        method=first.method, norm=first.norm, epsilon=first.epsilon, num_images=len(true_labels),
    )  # fmt: skip


def _random_signs(attack: Attack, seed: int) -> Tensor:
    """Return the images with the attack's changes, each pixel's up or down at random."""
    uniform = np.random.default_rng(seed).random(tuple(attack.images.shape), np.float32)
    change = torch.where(torch.as_tensor(uniform) < 0.5, -1, 1) * (
        attack.adversarial - attack.images
    )
    return torch.maximum(torch.minimum(attack.images + change, attack.high), attack.low)


def _accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, output: OutputSelector | None
) -> float:
    with inspection_mode(model):
        predictions, _ = predict_classes(model, as_images(images, model), batch_size, output)
    return float((predictions.cpu() == labels).double().mean())
