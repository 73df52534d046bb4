"""Settings of the convolutional classifier."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, ConfigError, setting, with_default
from tasks.core.settings import non_default_settings

SMALL = ("residual", "plain")


@attrs.frozen(kw_only=True)
class CnnConfig(AgentConfig):
    """Sizes and recipe of the classifier."""

    architecture: str = setting(
        "residual", "residual or plain, of the sizes that follow; or a model of torchvision's"
    )
    channels: int = setting(16, "feature maps of the first stage; of each further one twice", ge=1)
    num_stages: int = setting(3, "stages; between two a pool halves height and width", ge=1)
    num_blocks: int = setting(1, "blocks of two convolutions in a stage", ge=1)
    norm: Literal["batch", "group", "none"] = setting(
        "batch", "what a convolution's results are normalised over; group: all of an image's"
    )
    dropout: float = setting(
        0.3, "share of what a small network's read-out reads left out", ge=0.0, lt=1.0
    )
    weights: str | None = setting(
        None, "path of a state dict of the model of torchvision's, as a .safetensors file"
    )
    weights_sha256: str | None = setting(
        None, "digest of that file; null: filled in when it is read. A checkpoint does without it"
    )
    image_size: int | None = setting(
        None,
        "pixels to which such a model's images are enlarged; null: the fewest that it takes",
        ge=1,
    )
    standardise: bool | None = setting(
        None,
        "bring such a model's pixels to ImageNet's mean and deviation; null: if it has weights",
    )
    learning_rate: float = with_default("learning_rate", 5e-3)
    weight_decay: float = with_default("weight_decay", 0.05)
    batch_size: int = with_default("batch_size", 64)
    steps: int = with_default("steps", 2_000)
    num_weight_snapshots: int | None = with_default("num_weight_snapshots", 8)

    def __attrs_post_init__(self) -> None:
        """Refuse settings that say nothing of the chosen architecture."""
        small = self.architecture in ("residual", "plain")
        of_small = ("channels", "num_stages", "num_blocks", "norm")
        of_large = ("weights", "weights_sha256", "image_size", "standardise")
        for field, value in non_default_settings(self).items():
            if field in (of_large if small else of_small):
                problem = f"{value!r} does not go with the architecture {self.architecture}"
                other = "a model of torchvision's" if small else "residual or plain"
                accepted = f"its default, or as architecture {other}"
                raise ConfigError(type(self).__name__, field, problem, accepted)
