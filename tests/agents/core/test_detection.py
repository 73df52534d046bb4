"""Boxes and anchors: k-means, decoding, assignment, suppression, augmentation, by known answers."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

import tasks
from agents.core.detection import (
    Grid,
    assign,
    clipped,
    decode_boxes,
    kmeans_anchors,
    make_priors,
    mosaic,
    paired_iou,
    rescale_and_shift,
    suppress,
    vote,
)
from tasks.handwriting.boxes import Boxes, box_iou

GRIDS = [Grid(16, 16, (8, 8)), Grid(8, 8, (16, 16))]
ANCHORS = torch.tensor([[[8.0, 12], [12, 16], [14, 20]], [[16, 20], [18, 22], [24, 24]]])


def logit(share: Tensor) -> Tensor:
    """Return the log odds of a share."""
    return torch.log(share / (1 - share))


def random_boxes(num: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (n, 4) that overlap a lot, scores and three kinds."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 60, (num, 2)), rng.uniform(8, 40, (num, 2))
    boxes = torch.as_tensor(np.concatenate([corner, corner + size], 1), dtype=torch.float32)
    return boxes, torch.as_tensor(rng.random(num)), torch.as_tensor(rng.integers(3, size=num))


def test_a_head_built_from_its_own_targets_decodes_to_full_precision() -> None:
    """What the head should say, put in as its output, gives back all boxes: AP50 and mAP are 1."""
    task = tasks.make("digit_pages")
    batch = task.samples("test", 24)
    boxes = [torch.as_tensor(page) for page in batch.boxes]
    kinds = torch.cat([torch.as_tensor(page) for page in batch.kinds])
    priors = make_priors(ANCHORS, GRIDS)
    page, prior, box = assign(boxes, ANCHORS, GRIDS)
    every = torch.cat(boxes)[box]
    raw = torch.full((24, len(priors.cells), 15), -12.0)
    middle = (every[:, :2] + every[:, 2:]) / 2 / priors.strides[prior]
    size = (every[:, 2:] - every[:, :2]) / priors.anchors[prior]
    raw[page, prior, :2] = logit((middle - priors.cells[prior] + 0.5) / 2)
    raw[page, prior, 2:4] = logit(size.sqrt() / 2)
    raw[page, prior, 4] = 12.0
    raw[page, prior, 5 + kinds[box]] = 12.0
    answers = []
    for output in raw:
        corners = decode_boxes(output[:, :4], priors)
        scores, kind = output[:, 5:].sigmoid().max(1)
        scores = scores * output[:, 4].sigmoid()
        corners, kind, scores = (part[scores > 0.5] for part in (corners, kind, scores))
        keep = suppress(corners, scores, kind, 0.5)
        answers.append(Boxes(corners[keep].numpy(), kind[keep].numpy(), scores[keep].numpy()))
    assert task.score(answers, batch) == {"AP50": 1.0, "mAP": 1.0}


def test_every_box_has_priors_that_can_tell_it() -> None:
    """Each box, however odd, has a prior with its middle within reach and an anchor of its size."""
    boxes = [
        torch.tensor([[0.0, 0, 3, 3], [0, 60, 128, 64], [120, 120, 128, 128]]),
        torch.zeros(0, 4), torch.tensor([[10.0, 10, 22, 28]]),
    ]  # fmt: skip
    page, prior, box = assign(boxes, ANCHORS, GRIDS)
    priors = make_priors(ANCHORS, GRIDS)
    assert set(box.tolist()) == {0, 1, 2, 3}
    assert set(page[box == 3].tolist()) == {2}
    every = torch.cat(boxes)
    middle = (every[box, :2] + every[box, 2:]) / 2
    offset = middle / priors.strides[prior] - priors.cells[prior]
    assert offset.min() >= -0.5
    assert offset.max() <= 1.5
    sides = (every[3, 2:] - every[3, :2]) / priors.anchors[prior[box == 3]]
    assert torch.maximum(sides, 1 / sides).max() < 4
    assert len(prior[box == 3]) == 3 * 6
    assert len(torch.unique(torch.stack([page, prior]), dim=1)[0]) == len(prior)


def test_a_prior_is_for_the_nearer_of_two_boxes() -> None:
    """Of two boxes that a prior could tell it has the one that is nearer to its cell's middle."""
    boxes = [torch.tensor([[6.0, 4, 18, 20], [10, 4, 22, 20]])]  # middles at 12 and 16, 12
    _, prior, box = assign(boxes, ANCHORS, GRIDS)
    priors = make_priors(ANCHORS, GRIDS)
    for cell, expected in (((0, 1), set()), ((1, 1), {0}), ((2, 1), {1})):
        fine = priors.strides[prior][:, 0] == 8
        here = fine & (priors.cells[prior] == torch.tensor(cell)).all(1)
        assert set(box[here].tolist()) == expected


def test_a_raw_zero_is_the_anchor_in_the_middle_of_its_cell() -> None:
    """σ(0) is a half: the box has the anchor's size, and the cell's middle."""
    priors = make_priors(ANCHORS, GRIDS)
    boxes = decode_boxes(torch.zeros(1, len(priors.cells), 4), priors)[0]
    assert len(boxes) == 3 * (256 + 64)
    assert boxes[0].tolist() == [0.0, -2, 8, 10]
    assert boxes[3].tolist() == [8.0, -2, 16, 10]
    assert boxes[-1].tolist() == [108.0, 108, 132, 132]


def test_a_wide_cell_has_its_boxes_where_they_are() -> None:
    """With cells of 32 by 8 pixels a raw zero is in the middle of one, and boxes have theirs."""
    grids = [Grid(4, 2, (32, 8)), Grid(2, 1, (64, 16))]
    priors = make_priors(ANCHORS, grids)
    boxes = decode_boxes(torch.zeros(1, len(priors.cells), 4), priors)[0]
    assert boxes[3].tolist() == [44.0, -2, 52, 10]
    _, prior, _ = assign([torch.tensor([[36.0, 14, 48, 30]])], ANCHORS, grids)
    fine = priors.strides[prior][:, 0] == 32
    assert priors.strides[prior[fine]].unique(dim=0).tolist() == [[32, 8]]
    assert priors.cells[prior[fine]].unique(dim=0).tolist() == [[0, 2], [1, 2], [1, 3]]


def test_suppression_is_that_of_torchvision_within_a_kind() -> None:
    """Of one kind it keeps what torchvision's nms does; of several, each kind by itself."""
    boxes, scores, kinds = random_boxes(200)
    one = torch.zeros_like(kinds)
    for iou in (0.2, 0.5, 0.9):
        assert torch.equal(suppress(boxes, scores, one, iou), nms(boxes.double(), scores, iou))
        kept = suppress(boxes, scores, kinds, iou)
        apart = [
            torch.nonzero(kinds == kind)[:, 0][nms(boxes[kinds == kind].double(),
                                                   scores[kinds == kind], iou)]
            for kind in range(3)
        ]  # fmt: skip
        assert set(kept.tolist()) == set(torch.cat(apart).tolist())
        assert (scores[kept].diff() <= 0).all()


def test_suppression_leaves_out_only_what_overlaps_more() -> None:
    """An IoU of 1/7 is not more than 1/7; another kind is never a reason; once is enough."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]])
    scores, kinds = torch.tensor([0.9, 0.8]), torch.tensor([0, 0])
    assert paired_iou(boxes[:1], boxes[1:]).item() == pytest.approx(1 / 7)
    assert suppress(boxes, scores, kinds, 1 / 7 + 1e-6).tolist() == [0, 1]
    assert suppress(boxes, scores, kinds, 1 / 7 - 1e-6).tolist() == [0]
    assert suppress(boxes, scores, torch.tensor([0, 1]), 0.0).tolist() == [0, 1]
    many, scores, kinds = random_boxes(300, seed=1)
    kept = suppress(many, scores, kinds, 0.4)
    again = suppress(many[kept], scores[kept], kinds[kept], 0.4)
    assert again.tolist() == list(range(len(kept)))
    assert len(suppress(many, scores, kinds, 0.4, most=5)) == 5


def test_boxes_vote_with_what_was_suppressed_for_them() -> None:
    """The weighted mean of boxes of one kind that are much alike; others have no vote."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 6], [50, 50, 60, 60]])
    scores = torch.tensor([0.8, 0.4, 0.4, 0.5])
    kept = torch.tensor([0, 3])
    one = vote(boxes, scores, torch.zeros(4, dtype=torch.long), kept)
    expected = [[0, 0, 10, (10 * 0.8 + 8 * 0.4) / 1.2], [50, 50, 60, 60]]
    torch.testing.assert_close(one, torch.tensor(expected))
    apart = vote(boxes, scores, torch.tensor([0, 1, 2, 0]), kept)
    torch.testing.assert_close(apart, boxes[kept])
    assert vote(boxes, scores, scores, kept[:0]).shape == (0, 4)


def test_a_smaller_ratio_gives_a_box_fewer_anchors() -> None:
    """A box has the anchors of up to that ratio, and one at least."""
    boxes = [torch.tensor([[10.0, 10, 22, 26]])]  # 12 by 16, as an anchor of the finer level
    for ratio, num in ((4.0, 6), (1.4, 3), (1.001, 1)):
        assert len(assign(boxes, ANCHORS, GRIDS, ratio).prior) == 3 * num


def test_anchors_are_the_centres_of_clusters() -> None:
    """Two clear groups of sizes give their means, from small to large; few boxes are enough."""
    small, large = np.full((30, 2), [10.0, 12]), np.full((10, 2), [300.0, 20])
    sizes = np.concatenate([large, small + np.linspace(-1, 1, 30)[:, None]])
    np.testing.assert_allclose(kmeans_anchors(sizes, 2), [[10, 12], [300, 20]])
    np.testing.assert_allclose(kmeans_anchors(sizes[:1], 6), [[300, 20]] * 6)
    rng = np.random.default_rng(0)
    many = rng.uniform(4, 100, (500, 2))
    anchors = kmeans_anchors(many, 6)
    np.testing.assert_array_equal(anchors, kmeans_anchors(many[::-1], 6))
    assert (np.diff(anchors.prod(1)) >= 0).all()


def test_boxes_move_with_the_page() -> None:
    """After scaling and shifting, ink is where its box is; what left the page has no box."""
    torch.manual_seed(0)
    images, boxes = torch.zeros(40, 1, 64, 64), torch.tensor([[20.0, 24, 36, 48]])
    images[:, :, 24:48, 20:36] = 1
    kinds = [torch.tensor([3])] * 40
    moved, found, left = rescale_and_shift(images, [boxes] * 40, kinds, 0.3, 0.5)
    told = [number for number in range(40) if len(found[number])]
    assert 10 < len(told) < 40
    for number in told:
        rows, columns = torch.nonzero(moved[number, 0] > 0.5, as_tuple=True)
        ink = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
        assert np.abs(ink - found[number].numpy()).max() <= 1
        assert left[number].tolist() == [3]
    same, found, _ = rescale_and_shift(images, [boxes] * 40, kinds, 0.0, 0.0)
    torch.testing.assert_close(same, images)
    torch.testing.assert_close(found[0], boxes)


def test_a_mosaic_has_the_boxes_of_its_quarters() -> None:
    """The ink in each box of a mosaic is that of its page; a share of 0 changes nothing."""
    torch.manual_seed(0)
    batch = tasks.make("digit_pages").samples("test", 12)
    images = torch.as_tensor(batch.image)
    boxes, kinds = ([torch.as_tensor(x) for x in field] for field in (batch.boxes, batch.kinds))
    assert torch.equal(mosaic(images, boxes, kinds, 0.0)[0], images)
    mixed, all_boxes, all_kinds = mosaic(images, boxes, kinds, 1.0)
    assert not torch.equal(mixed, images)
    for page in range(12):
        assert len(all_boxes[page]) == len(all_kinds[page])
        for left, top, right, bottom in all_boxes[page].long().tolist():
            assert mixed[page, 0, top:bottom, left:right].max() > 0.3
        assert np.triu(box_iou(all_boxes[page].numpy(), all_boxes[page].numpy()), 1).max() == 0


def test_a_box_that_is_cut_in_half_is_no_box() -> None:
    """Of a box at the edge at least half of its area is left, or it is not told."""
    boxes = torch.tensor([[-4.0, 0, 4, 4], [-5, 0, 4, 4], [2, 2, 6, 6], [20, 20, 24, 24]])
    cut, kinds = clipped(boxes, torch.arange(4), (0, 0, 10, 10))
    assert cut.tolist() == [[0, 0, 4, 4], [2, 2, 6, 6]]
    assert kinds.tolist() == [0, 2]
