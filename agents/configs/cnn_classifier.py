"""Settings of the convolutional classifier."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, ConfigError, setting, with_default
from tasks.core.settings import non_default_settings

SMALL = ("residual", "plain")


@attrs.frozen(kw_only=True)
class CnnConfig(AgentConfig):
    """Model sizes and recipe of the classifier."""

    architecture: str = setting(
        "residual", "residual or plain, of the sizes below; or a model of torchvision"
    )
    channels: int = setting(
        16, "feature maps of the first stage; doubled in each further stage", ge=1
    )
    num_stages: int = setting(
        3, "number of stages; max pooling between two halves height and width", ge=1
    )
    num_blocks: int = setting(1, "blocks of two convolutions in a stage", ge=1)
    norm: Literal["batch", "group", "none"] = setting(
        "batch", "normalisation after convolutions; batch: BatchNorm; group: GroupNorm of one group"
    )
    dropout: float = setting(
        0.3, "dropout before the classifier head, of a small network", ge=0.0, lt=1.0
    )
    weights: str | None = setting(
        None, "path of a state dict of the torchvision model, as a .safetensors file"
    )
    weights_sha256: str | None = setting(
        None, "SHA-256 digest of the file of weights; null: filled in when it is read"
    )
    image_size: int | None = setting(
        None,
        "pixels to which a torchvision model's images are enlarged; null: its smallest size",
        ge=1,
    )
    normalize: bool | None = setting(
        None,
        "normalize images of a torchvision model by ImageNet's statistics; null: if it has weights",
        renamed_from="standardise",
    )
    learning_rate: float = with_default("learning_rate", 5e-3)
    weight_decay: float = with_default("weight_decay", 0.05)
    batch_size: int = with_default("batch_size", 64)
    steps: int = with_default("steps", 2_000)
    num_weight_snapshots: int | None = with_default("num_weight_snapshots", 8)

    def __attrs_post_init__(self) -> None:
        """Check that settings are those of the chosen architecture."""
        is_small = self.architecture in SMALL
        small_only = ("channels", "num_stages", "num_blocks", "norm")
        torchvision_only = ("weights", "weights_sha256", "image_size", "normalize")
        for field, value in non_default_settings(self).items():
            if field in (torchvision_only if is_small else small_only):
                problem = f"{value!r} cannot be combined with the architecture {self.architecture}"
                other = "a model of torchvision" if is_small else "residual or plain"
                accepted = f"its default, or as architecture {other}"
                raise ConfigError(type(self).__name__, field, problem, accepted)
