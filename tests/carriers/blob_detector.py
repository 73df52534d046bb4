"""A detector of blobs: boxes and classes on a grid, with a loss of three parts (Redmon 2016)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou

from agents.core.agent import Agent
from agents.core.config import AgentConfig, setting
from agents.core.inspection.observation import ImagePart, Observation, observe
from tasks.core.task import SPLITS, BatchRequest, Task

SIDE, CELL, NUM_KINDS, MOST = 24, 4, 2, 3  # pixels; squares and discs; blobs of an image


class Blobs(NamedTuple):
    """Images (batch, 1, 24, 24), and of each a list of boxes (n, 4) and kinds (n,)."""

    image: Any
    boxes: list[Any]  # left, top, right, bottom in pixels
    kinds: list[Any]


class Found(NamedTuple):
    """The boxes of an image, the surest first."""

    boxes: Any  # (n, 4)
    kinds: Any  # (n,)
    scores: Any  # (n,)


@attrs.frozen(kw_only=True)
class BlobImages(Task):
    """One to three squares and discs on a dark ground, which do not overlap."""

    monitor = ("f1", "max")

    def num_samples_in(self, split: str) -> int:
        """Return how many images one pass has."""
        return 1024 if split == "train" else 128

    def iter_batches(self, request: BatchRequest) -> Iterator[Blobs]:
        """Yield the batches of a pass."""
        rng = np.random.default_rng([SPLITS.index(request.split), request.seed, request.epoch])
        drawn = [blobs(rng) for _ in range(self.num_samples_in(request.split))]
        for span in request.slices(len(drawn)):
            images, boxes, kinds = zip(*drawn[span], strict=True)
            yield Blobs(np.stack(images), list(boxes), list(kinds))

    def encode(self, x: Sequence[Any]) -> Blobs:
        """Encode images of a person: arrays (24, 24)."""
        none = [np.zeros((0, 4), np.float32)] * len(x)
        return Blobs(np.stack(x)[:, None], none, [np.zeros(0, np.int64)] * len(x))

    def targets(self, batch: Blobs) -> list[Found]:
        """Return the right boxes of each image."""
        pairs = zip(batch.boxes, batch.kinds, strict=True)
        return [Found(boxes, kinds, np.ones(len(kinds))) for boxes, kinds in pairs]

    def decode(self, answers: Any) -> list[str]:
        """Return how many blobs of each kind there are."""
        return [f"{(a.kinds == 0).sum()} squares, {(a.kinds == 1).sum()} discs" for a in answers]

    def score(self, answers: Any, targets: Blobs) -> dict[str, float]:
        """Return F1 of boxes that overlap a right one of their kind by a half or more."""
        hits = total = 0
        for found, right in zip(answers, self.targets(targets), strict=True):
            total += len(found.kinds) + len(right.kinds)
            hits += 2 * matches(found, right)
        return {"f1": hits / max(total, 1)}


def matches(found: Found, right: Found) -> int:
    """Return how many right boxes have a found one of their kind with an IoU of 0.5."""
    if not len(found.kinds):
        return 0
    overlap = box_iou(torch.as_tensor(right.boxes), torch.as_tensor(found.boxes)).numpy()
    same = np.asarray(right.kinds)[:, None] == np.asarray(found.kinds)
    return int(((overlap >= 0.5) & same).any(axis=1).sum())


def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image (1, 24, 24), boxes (n, 4) and kinds (n,)."""
    image = rng.uniform(0, 0.2, (SIDE, SIDE)).astype(np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    corners = rng.permutation(9)[: rng.integers(1, MOST + 1)]  # of cells of 8 pixels
    boxes, kinds = [], []
    for corner in corners:
        size, kind = int(rng.integers(4, 8)), int(rng.integers(NUM_KINDS))
        top, left = 8 * (corner // 3), 8 * (corner % 3)
        middle = (size - 1) / 2
        inside = (rows - top >= 0) & (rows - top < size) & (columns - left >= 0)
        inside &= columns - left < size
        if kind:
            inside &= np.hypot(rows - top - middle, columns - left - middle) <= size / 2
        image[inside] = 1.0
        boxes.append([left, top, left + size, top + size])
        kinds.append(kind)
    return image[None], np.array(boxes, np.float32), np.array(kinds)


class BlobDetector(Agent):
    """Each cell of 4 × 4 pixels says whether a blob's middle is in it, where, and of which kind."""

    @attrs.frozen(kw_only=True)
    class Config(AgentConfig):
        """Its sizes."""

        channels: int = setting(24, "feature maps of each convolution", ge=1)

    @staticmethod
    def build_model(config: Config, spec: Any) -> nn.Module:
        """Return convolutions from images (B, 1, 24, 24) to (B, 1 + 4 + K, 6, 6)."""
        num = config.channels
        return nn.Sequential(
            nn.Conv2d(1, num, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(num, num, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(num, num, 3, padding=1), nn.ReLU(), nn.Conv2d(num, 5 + NUM_KINDS, 1),
        )  # fmt: skip

    def loss(self, batch: Blobs) -> Mapping[str, Tensor]:
        """Return cross entropies of objectness and kind, and the L1 of boxes, per image."""
        output = self.network(batch.image)
        samples, rows, columns, boxes = cells(batch.boxes)
        kinds = torch.cat(list(batch.kinds))
        there = torch.zeros_like(output[:, 0])
        there[samples, rows, columns] = 1
        chosen = output[samples, :, rows, columns]
        num = len(output)
        return {
            "objectness": F.binary_cross_entropy_with_logits(output[:, 0], there, reduction="sum")
            / num,
            "box": (chosen[:, 1:5] - boxes).abs().sum() / num,
            "kind": F.cross_entropy(chosen[:, 5:], kinds, reduction="sum") / num,
        }

    def predict_batch(self, batch: Blobs) -> list[Found]:
        """Return boxes of cells that are sure by a half or more, after NMS."""
        found = []
        for output in self.model(batch.image):
            scores = output[0].sigmoid()
            rows, columns = torch.nonzero(scores >= 0.5, as_tuple=True)
            values = output[:, rows, columns]
            middle = torch.stack([columns, rows]) + values[1:3]
            half = values[3:5].abs() / 2
            boxes = torch.cat([middle - half, middle + half]).T * CELL
            kinds, sure = values[5:].argmax(0), scores[rows, columns]
            keep = batched_nms(boxes, sure, kinds, 0.4)
            found.append(Found(boxes[keep], kinds[keep], sure[keep]))
        return found

    def observe(self, batch: Blobs) -> Observation:
        """Return the images, and the surest cell's objectness and kind as targets."""
        return observe(
            self, batch, image=ImagePart(model=self.model, images=torch.as_tensor(batch.image)),
            targets={"surest box": lambda output, sample: output[:, 0].flatten(1).amax(1)},
        )  # fmt: skip


def cells(boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sample, row and column of the cell of each box, and its middle and size in cells."""
    samples = torch.cat([torch.full((len(b),), n) for n, b in enumerate(boxes)])
    every = torch.cat(list(boxes)) / CELL
    middle, size = (every[:, :2] + every[:, 2:]) / 2, every[:, 2:] - every[:, :2]
    corner = middle.floor()
    offset = torch.cat([middle - corner, size], dim=1)
    return samples, corner[:, 1].long(), corner[:, 0].long(), offset
