"""Class activation maps beside Grad-CAM: LayerCAM, Guided Grad-CAM, Score-CAM, by their papers."""

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, assert_close, odd, pictures
from visualization.attribution.cams import grad_cam, guided_grad_cam, layer_cam
from visualization.attribution.gradients import guided_backprop
from visualization.attribution.score_cam import score_cam


def test_layer_cam_weights_each_place_by_its_own_gain() -> None:
    """It is ReLU(Σ ReLU(gradient) · map), place by place (Jiang et al. 2021)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2)).to(DOUBLE)
    x = pictures(2, 1, 4)
    gradients = model[2].weight[1].detach().view(3, 2, 2)
    maps = model[0](x).detach()
    wanted = (gradients.clamp(min=0) * maps).sum(dim=1)
    plain = {"cam_layer": "0", "upsample": False}
    assert_close(layer_cam(model, x, 1, positive=False, **plain), wanted)
    assert_close(layer_cam(model, x, 1, **plain), wanted.clamp(min=0))
    assert (wanted < 0).any()
    assert (gradients < 0).any()


def test_guided_grad_cam_is_the_product() -> None:
    """It is guided backpropagation, where Grad-CAM is, of the layer that is given (section 3.2)."""
    model, x = odd(3), pictures(2, 3)
    cam = grad_cam(model, x, 2, cam_layer="stem")
    assert_close(guided_grad_cam(model, x, 2, cam_layer="stem"),
                 guided_backprop(model, x, 2) * cam[:, None])  # fmt: skip
    assert cam.abs().max() > 0


class Half(nn.Module):
    """Has maps of the left half, of the right half, one that is the same everywhere, and a score.

    The score is that of what is seen of the left half, and half of that of the right one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 1)."""
        half = x.shape[3] // 2
        places = torch.zeros(3, *x.shape[2:], dtype=x.dtype)
        places[0, :, :half], places[1, :, half:], places[2] = 2, 5, 1
        self.maps(x)
        scores = x[..., :half].sum((1, 2, 3)) + 0.5 * x[..., half:].sum((1, 2, 3))
        return scores[:, None] + 3


def test_score_cam_weighs_maps_by_what_is_seen_through_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights are the softmax of the gains: a map that is the same everywhere shows nothing."""
    model = Half().to(DOUBLE)
    x = torch.ones(2, 1, 2, 4, dtype=DOUBLE)
    x[1] *= 0.25
    places = torch.zeros(3, 2, 4, dtype=DOUBLE)
    places[0, :, :2], places[1, :, 2:], places[2] = 2, 5, 1
    monkeypatch.setattr(
        model.maps, "forward", lambda images: places.expand(len(images), -1, -1, -1)
    )
    gains = torch.tensor([[4.0, 2.0, 0.0], [1.0, 0.5, 0.0]], dtype=DOUBLE)
    wanted = torch.einsum("bc,chw->bhw", gains.softmax(dim=1), places)
    for batch_size in (None, 2):
        found = score_cam(model, x, 0, cam_layer="maps", batch_size=batch_size)
        assert_close(found, wanted)
    # Of two channels those that vary most over the places: the halves, not the constant one.
    some = torch.einsum("bc,chw->bhw", gains[:, :2].softmax(dim=1), places[:2])
    assert_close(score_cam(model, x, 0, cam_layer="maps", num_channels=2), some)
    one = torch.einsum("bc,chw->bhw", torch.ones(2, 1, dtype=DOUBLE), places[1:2])
    assert_close(score_cam(model, x, 0, cam_layer="maps", num_channels=1), one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cam_layer": "head"}, r"cam_layer: 'head' outputs \(3, 4\); accepted: layers that"),
        ({"num_channels": 0}, "num_channels: 0 is not accepted; accepted: 1 or more"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    with pytest.raises(ValueError, match=words):
        score_cam(odd(), pictures(), 1, **settings)
