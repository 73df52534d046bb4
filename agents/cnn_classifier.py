"""Convolutional image classification, by a small network or any model of torchvision.

The small networks are `residual`, of residual blocks (He et al. 2016, 1512.03385, section 3.3), and
`plain`, the same without shortcuts. Models of torchvision can have weights from a file.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from agents.configs.cnn_classifier import SMALL, CnnConfig
from agents.core.classification import Classifier
from agents.core.training.evaluation import map_microbatches
from agents.core.training.loop import to_device
from tasks.core.task import ImageLabels, ImageToLabel
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation


class Block(nn.Module):
    """Two convolutions; a residual block adds its input before the last ReLU.

    If the numbers of feature maps differ, `shortcut` is a 1×1 convolution (1512.03385, equation 2).
    """

    def __init__(self, num_in: int, num_out: int, norm: str, residual: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(num_in, num_out, 3, norm)
        self.norm1 = _norm(norm, num_out)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(num_out, num_out, 3, norm)
        self.norm2 = _norm(norm, num_out)
        self.shortcut: nn.Module | None = None
        if residual and num_in == num_out:
            self.shortcut = nn.Identity()
        elif residual:
            parts = {"conv": _convolution(num_in, num_out, 1, norm)}
            self.shortcut = nn.Sequential(OrderedDict(parts | {"norm": _norm(norm, num_out)}))
        self.relu2 = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Return feature maps (B, D, H, W) of feature maps (B, C, H, W)."""
        output = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(maps)))))
        if self.shortcut is not None:
            output = output + self.shortcut(maps)
        return cast("Tensor", self.relu2(output))


def _convolution(num_in: int, num_out: int, size: int, norm: str) -> nn.Conv2d:
    """Return a convolution that keeps height and width; before a norm a bias has no effect."""
    return nn.Conv2d(num_in, num_out, size, padding=size // 2, bias=norm == "none")


def _norm(norm: str, num: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(num)
    return nn.GroupNorm(1, num) if norm == "group" else nn.Identity()


def small_network(config: CnnConfig, spec: ImageToLabel) -> nn.Sequential:
    """Return a network from images (B, C, H, W) to logits (B, K) whose layers have short names."""
    num, norm = config.channels, config.norm
    stem = {"conv": _convolution(spec.num_channels, num, 3, norm), "norm": _norm(norm, num)}
    parts: dict[str, nn.Module] = {"stem": nn.Sequential(OrderedDict(stem | {"relu": nn.ReLU()}))}
    for stage in range(1, config.num_stages + 1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for block in range(1, config.num_blocks + 1):
            num_out = config.channels * 2 ** (stage - 1)
            blocks[f"block{block}"] = Block(num, num_out, norm, config.architecture == "residual")
            num = num_out
        parts[f"stage{stage}"] = nn.Sequential(blocks)
        if stage < config.num_stages:
            parts[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)  # one pixel stays one
    parts |= {"average": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    parts |= {"dropout": nn.Dropout(config.dropout), "readout": nn.Linear(num, len(spec.labels))}
    return nn.Sequential(OrderedDict(parts))


class CnnClassifier(Classifier):
    """Convolutional image classifier."""

    name = "cnn_classifier"
    Config = CnnConfig
    spec_type = ImageToLabel
    config: CnnConfig

    @staticmethod
    def complete_config(config: CnnConfig, model: nn.Module) -> CnnConfig:
        """Return the config with the digest of its file of weights."""
        if config.weights is None:
            return config
        from agents.core.torchvision_models import TorchvisionClassifier

        digest = cast("TorchvisionClassifier", model).weights_sha256
        return attrs.evolve(config, weights_sha256=digest)

    @staticmethod
    def build_model(config: CnnConfig, spec: ImageToLabel) -> nn.Module:
        """Return the network for the task's images and labels; weights of a file are in it."""
        name = config.architecture
        if name in SMALL:
            return small_network(config, spec)
        from agents.core.torchvision_models import load_weights, make_classifier

        normalize = config.normalize
        if normalize is None:
            normalize = config.weights is not None
        model = make_classifier(name, spec, config.image_size, normalize)
        if config.weights is not None:
            model.weights_sha256 = load_weights(model, name, config.weights, config.weights_sha256)
        return model

    def logits(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return logits (B, K) of images.

        In channels-last format convolutions on a CPU take two thirds of the time.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        if self.model.training and len(x) == 1:
            # Batch normalisation in training needs two values; a last batch may be one image.
            return network(x.repeat(2, 1, 1, 1))[:1]
        return network(x)

    def observe(self, batch: ImageLabels) -> "Observation":
        """Return the observation of a batch, with images for feature maps."""
        from agents.core.inspection.observation import ImagePart

        tensors = to_device(batch, self.device)

        def logits() -> Tensor:
            with evaluation_mode(self.model):  # batch normalisation would be updated
                memory = self.config.eval_memory * 2**20
                return torch.cat(
                    map_microbatches(
                        lambda microbatch: self.model(microbatch.image), tensors, self.model, memory
                    )
                )

        return self._observe(
            batch, logits, recurrent=(), short_names=self._questions(batch),
            image=ImagePart(
                model=self.model, images=torch.as_tensor(batch.image),
                is_handwriting=self.task.spec.is_handwriting,
            ),
            classes=(self.task.spec.labels, np.asarray(batch.label)[:, 0]),
            targets={"predicted class": lambda output, sample: output.amax(1)},
        )  # fmt: skip
