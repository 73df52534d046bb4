"""Settings of the detector."""

import re
from typing import Literal

import attrs

from agents.core.config import AgentConfig, ConfigError, setting, with_default

LARGEST_RATIO = 4.0  # of a box's side and an anchor's, as far as outputs reach
NUM_ANCHORS = 3  # of each of the two levels
_ANCHORS = re.compile(r"[0-9.]+x[0-9.]+( [0-9.]+x[0-9.]+){5}")


@attrs.frozen(kw_only=True)
class YoloConfig(AgentConfig):
    """Sizes and recipe of the detector."""

    channels: int = setting(
        16, "width of the network: its stages have two, three and four times as many feature maps",
        ge=4,
    )  # fmt: skip
    squeeze: int = setting(
        1,
        "pixels beside each other of which the network sees the mean, for wide and flat boxes such "
        "as lines of text: cells are so many times as wide as high",
        ge=1,
    )  # fmt: skip
    anchors: str | None = setting(
        None,
        "usual widths and heights of boxes in pixels, six from small to large such as 9x12 …; "
        "null: found in the training boxes by k-means",
    )
    anchor_ratio: float = setting(
        1.6,
        "largest ratio of a side of a box to that of an anchor which has to find it; less: each "
        "anchor has fewer sizes to learn",
        gt=1.0,
        le=LARGEST_RATIO,
    )
    mosaic: float = setting(
        0.0,
        "augmentation, if pages are few: share of training pages made of quarters of four",
        ge=0.0,
        le=1.0,
    )
    scale: float = setting(
        0.0,
        "augmentation, if pages are few: largest enlargement or reduction of a training page, as a "
        "share",
        ge=0.0,
    )
    shift: float = setting(
        0.0,
        "augmentation, if pages are few: largest translation of a training page, as a share",
        ge=0.0,
        le=0.5,
    )
    box_weight: float = setting(10.0, "weight of the loss of box coordinates", gt=0.0)
    object_weight: float = setting(1.0, "weight of the loss of objectness", gt=0.0)
    kind_weight: float = setting(3.0, "weight of the loss of kinds", gt=0.0)
    min_score: float = setting(
        0.01, "lowest score of a box that is among the answers", ge=0.0, lt=1.0
    )
    nms_iou: float = setting(
        0.5, "overlap with a surer box of its kind above which a box is suppressed", ge=0.0, le=1.0
    )
    max_boxes: int = setting(1000, "most boxes of a page among the answers", ge=1)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 1e-2)
    weight_decay: float = with_default("weight_decay", 0.05)
    batch_size: int = with_default("batch_size", 16)
    steps: int = with_default("steps", 1_800)
    eval_samples: int = with_default("eval_samples", 128)
    eval_every: int | None = with_default("eval_every", 900)
    num_weight_snapshots: int | None = with_default("num_weight_snapshots", 8)

    def __attrs_post_init__(self) -> None:
        """Refuse anchors that are none."""
        if self.anchors is not None and not (
            _ANCHORS.fullmatch(self.anchors) and min(min(pair) for pair in self.anchor_sizes()) > 0
        ):
            accepted = "six widths and heights such as 9x12 13x15 …, or null"
            raise ConfigError(type(self).__name__, "anchors", repr(self.anchors), accepted)

    def anchor_sizes(self) -> list[tuple[float, float]]:
        """Return widths and heights of the anchors, six."""
        assert self.anchors is not None, "an agent fills them in"
        pairs = (pair.split("x") for pair in self.anchors.split())
        return [(float(width), float(height)) for width, height in pairs]
