"""A detector of objects on pages: a grid of cells says where boxes are, and of which kind.

Of the YOLO family (Redmon et al. 2016, 1506.02640): one pass of a small convolutional network, two
grids with cells of 8 and 16 pixels, in each cell three boxes relative to anchors of the task's own
boxes. Here with the complete IoU loss (Zheng et al. 2020, 1911.08287) and mosaics of pages.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from agents.configs.yolo_detector import NUM_ANCHORS, YoloConfig
from agents.core.agent import Agent
from agents.core.detection import (
    Grid,
    Priors,
    assign,
    decode_boxes,
    kmeans_anchors,
    make_priors,
    mosaic,
    paired_iou,
    rescale_and_shift,
    suppress,
    vote,
)
from agents.core.layers import HiddenConv2d
from tasks.core.settings import ConfigError
from tasks.core.task import Task
from tasks.handwriting.boxes import Boxes, BoxTask, ImageToBoxes, PageBoxes
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation

STRIDES = (8, 16)  # pixels from row to row of cells, and from column to column if not squeezed
_RARE, _NUM_BEFORE = -4.0, 4  # log odds of an object at first; left, top, width and height
_CANDIDATES = 20  # times as many boxes as are kept, at most, are compared with one another
_NUM_EXPLAINED = 3  # boxes of a page that are targets


def convolution(num_in: int, num_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution with batch norm and ReLU."""
    return nn.Sequential(
        HiddenConv2d(num_in, num_out, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(num_out), nn.ReLU(),
    )  # fmt: skip


class Detector(nn.Module):
    """Images (B, C, H, W) to raw outputs (B, N, 5 + K): box, objectness and kinds of each prior.

    N counts levels, rows, columns and anchors. Height and width are padded to multiples of 16, and
    of each `squeeze` columns of pixels there is only the mean.
    """

    def __init__(self, num_in: int, num: int, num_kinds: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = squeeze
        # A map of the first pixels' size costs more time on a CPU than it is worth.
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), convolution(4 * num_in, 2 * num, stride=2))
        self.stage8 = nn.Sequential(
            convolution(2 * num, 3 * num, stride=2), convolution(3 * num, 3 * num)
        )
        self.stage16 = nn.Sequential(
            convolution(3 * num, 4 * num, stride=2), convolution(4 * num, 4 * num)
        )
        self.narrow = convolution(4 * num, 3 * num, size=1)
        self.up = nn.Upsample(scale_factor=2)
        self.merge = convolution(3 * num, 3 * num)
        self.head8 = self._head(3 * num, num_kinds)
        self.head16 = self._head(4 * num, num_kinds)

    @staticmethod
    def _head(num_in: int, num_kinds: int) -> nn.Conv2d:
        head = nn.Conv2d(num_in, NUM_ANCHORS * (5 + num_kinds), 1)
        bias = torch.zeros(NUM_ANCHORS, 5 + num_kinds)
        bias[:, _NUM_BEFORE:] = _RARE
        head.bias = nn.Parameter(bias.flatten())
        return head

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs."""
        below = -images.shape[2] % STRIDES[-1]
        right = -images.shape[3] % (STRIDES[-1] * self.squeeze)
        images = F.avg_pool2d(F.pad(images, (0, right, 0, below)), (1, self.squeeze))
        fine = self.stage8(self.stem(images))
        coarse = self.stage16(fine)
        merged = self.merge(fine + self.up(self.narrow(coarse)))
        outputs = self.head8(merged), self.head16(coarse)
        return torch.cat([_as_priors(output) for output in outputs], dim=1)


def _as_priors(output: Tensor) -> Tensor:
    """Return outputs of a head (B, A · (5 + K), rows, columns) prior by prior (B, N, 5 + K)."""
    num, depth, rows, columns = output.shape
    by_cell = output.permute(0, 2, 3, 1)
    return by_cell.reshape(num, rows * columns * NUM_ANCHORS, depth // NUM_ANCHORS)


class Kept(NamedTuple):
    """The boxes of a page that are left after suppression, the surest first."""

    prior: Tensor  # (n,), of which it is the output
    boxes: Boxes


class YoloDetector(Agent):
    """Finds boxes on a page, all at once."""

    name = "yolo_detector"
    Config = YoloConfig
    spec_type = ImageToBoxes
    config: YoloConfig
    task: BoxTask

    def __init__(self, task: Task, config: YoloConfig, device: str = "auto") -> None:
        if config.anchors is None and isinstance(task, BoxTask):
            config = attrs.evolve(config, anchors=anchors_of(task))
        super().__init__(task, config, device)

    @staticmethod
    def build_model(config: YoloConfig, spec: ImageToBoxes) -> nn.Module:
        """Return the network for the task's pages and kinds."""
        return Detector(spec.num_channels, config.channels, len(spec.kinds), config.squeeze)

    def loss(self, batch: PageBoxes) -> Mapping[str, Tensor]:
        """Return the losses of boxes, objectness and kinds, each a mean over pages.

        Of a page, a mean over the priors that have to find a box: 1 - CIoU, and the cross entropies
        of all kinds in nats; and the sum over all priors of the cross entropy of objectness, by
        their number. Objectness is to be the IoU of what a prior tells and its box, so that it
        tells how well boxes are placed. Training pages are augmented.
        """
        images, boxes, kinds = self._training_pages(batch)
        raw = self._raw(self.network, images)
        page, prior, box = assign(
            boxes, self._anchors, self._grids(images), self.config.anchor_ratio
        )
        found = decode_boxes(raw[..., :4], self._priors(images))[page, prior]
        right = torch.cat(list(boxes))[box]
        objectness = torch.zeros_like(raw[..., 4])
        objectness[page, prior] = paired_iou(found.detach(), right)
        named = F.one_hot(torch.cat(list(kinds))[box], raw.shape[-1] - 5).to(raw)
        counts = torch.bincount(page, minlength=len(images)).clamp(min=1)
        weights = 1 / (counts[page] * len(images))
        ious = complete_box_iou_loss(found, right)
        said = F.binary_cross_entropy_with_logits(raw[page, prior, 5:], named, reduction="none")
        seen = F.binary_cross_entropy_with_logits(raw[..., 4], objectness, reduction="none")
        return {
            "box": self.config.box_weight * (ious * weights).sum(),
            "objectness": self.config.object_weight * (seen.sum(1) / counts).mean(),
            "kind": self.config.kind_weight * (said.sum(-1) * weights).sum(),
        }

    def predict_batch(self, batch: PageBoxes) -> list[Boxes]:
        """Return the boxes of each page, the surest first."""
        return [kept.boxes for kept in self._kept(batch.image)]

    def observe(self, batch: PageBoxes) -> "Observation":
        """Return pages with right and found boxes, and the scores of the surest as targets."""
        from agents.core.inspection.boxes import boxes_answer, page_batch
        from agents.core.inspection.observation import BoxesPart, ImagePart, observe

        images = torch.as_tensor(batch.image)
        found = cast("list[Boxes]", self.predict_arrays(batch))
        right = self.task.targets(batch)

        @functools.cache
        def kept(sample: int) -> Kept:
            with evaluation_mode(self.model), torch.no_grad():
                return self._kept(images[sample : sample + 1].to(self.device))[0]

        def score(rank: int, output: Tensor, sample: int) -> Tensor:
            prior, boxes = kept(sample)
            if rank >= len(prior):  # there is no such box: how sure the surest prior is
                return output[..., 4].amax(1).sigmoid()
            at, kind = int(prior[rank]), int(boxes.kinds[rank])
            return output[:, at, 4].sigmoid() * output[:, at, 5 + kind].sigmoid()

        return observe(
            self, batch, recurrent=(),
            image=ImagePart(
                model=self.model, images=images, batch_of=page_batch,
                answer=functools.partial(boxes_answer, self.predict_batch, self.task.spec.kinds),
            ),
            rows=self.task.rows(found, batch),
            boxes=BoxesPart(kinds=self.task.spec.kinds, right=right, found=found, is_ink=True),
            targets={
                f"score of box {rank + 1}": functools.partial(score, rank)
                for rank in range(_NUM_EXPLAINED)
            },
        )  # fmt: skip

    @property
    def _anchors(self) -> Tensor:
        """Anchors (levels, A, 2) in pixels."""
        sizes = torch.tensor(self.config.anchor_sizes(), device=self.device)
        return sizes.view(len(STRIDES), NUM_ANCHORS, 2)

    def _priors(self, images: Tensor) -> Priors:
        return make_priors(self._anchors, self._grids(images))

    def _grids(self, images: Tensor) -> list[Grid]:
        """Return the grids over images, whose sides are padded for the coarser one."""
        height, width = images.shape[2:]
        rows = -(-height // STRIDES[-1]) * STRIDES[-1]
        columns = -(-width // (STRIDES[-1] * self.config.squeeze)) * STRIDES[-1]
        return [
            Grid(rows // stride, columns // stride, (stride * self.config.squeeze, stride))
            for stride in STRIDES
        ]

    def _raw(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return raw outputs; with the channels last in memory, which is faster on a CPU."""
        return network(images.contiguous(memory_format=torch.channels_last)).float()

    def _training_pages(self, batch: PageBoxes) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return images, boxes and kinds of a batch: augmented, while the model is training."""
        config, pages = self.config, (batch.image, batch.boxes, batch.kinds)
        if not self.model.training:
            return pages
        if config.mosaic:
            pages = mosaic(*pages, config.mosaic)
        if config.scale or config.shift:
            pages = rescale_and_shift(*pages, config.scale, config.shift)
        return pages

    def _kept(self, images: Tensor) -> list[Kept]:
        """Return the boxes of each page that are left after suppression."""
        raw = self._raw(self.model, images)
        boxes = decode_boxes(raw[..., :4], self._priors(images))
        height, width = images.shape[2:]
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height] * 2))
        likeliest, kinds = raw[..., 5:].sigmoid().max(-1)
        scores = raw[..., 4].sigmoid() * likeliest
        return [self._kept_of(*page) for page in zip(boxes, kinds, scores, strict=True)]

    def _kept_of(self, boxes: Tensor, kinds: Tensor, scores: Tensor) -> Kept:
        """Return what is left of one page: boxes (N, 4), kinds (N,) and scores (N,)."""
        config = self.config
        most = min(len(scores), _CANDIDATES * config.max_boxes)
        prior = scores.topk(most).indices
        prior = prior[scores[prior] >= config.min_score]
        boxes, kinds, scores = boxes[prior], kinds[prior], scores[prior]
        left = suppress(boxes, scores, kinds, config.nms_iou)
        voted, kinds, scores = vote(boxes, scores, kinds, left), kinds[left], scores[left]
        apart = suppress(voted, scores, kinds, config.nms_iou, config.max_boxes)
        return Kept(prior[left[apart]], Boxes(voted[apart], kinds[apart], scores[apart]))


def anchors_of(task: BoxTask) -> str:
    """Return the anchors of a task's training boxes, as the config has them.

    Raises:
        ConfigError: there is no box.
    """
    sizes = task.box_sizes()
    if not len(sizes):
        accepted = "training pages with boxes, or anchors"
        raise ConfigError("task", "", f"{task.name!r} has no boxes to find anchors of", accepted)
    found = kmeans_anchors(sizes, len(STRIDES) * NUM_ANCHORS)
    return " ".join(f"{width:.1f}x{height:.1f}" for width, height in found)
