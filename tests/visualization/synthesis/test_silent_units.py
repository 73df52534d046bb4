"""Units that are silent at the start of an ascent: what a real image excites is not dead."""

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.synthesis import words
from visualization import conv


def bar() -> tuple[nn.Module, Tensor]:
    """Return a ReLU that answers to a bright bar on black, and an image (1, 1, 12, 12) of one."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-1.0, 1.0, -1.0]] * 3))
        model[0].bias.fill_(-2.0)
    image = torch.zeros(1, 1, 12, 12)
    image[..., 5] = 1
    return model, image


class Lock(nn.Module):
    """Puts out the brightness of images that are near one alone, whose way has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("key", torch.eye(6)[None])

    def forward(self, x: Tensor) -> Tensor:
        """Return what is unlocked (B, 1)."""
        near = (x - self.key).abs().flatten(1).amax(dim=1) < 0.1
        return (near * x.flatten(1).mean(dim=1))[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_a_channel_whose_pattern_is_lost_in_its_mean_is_found(seed: int) -> None:
    """The redirected gradient of all places is uniform; that of one place opens the unit."""
    model, image = bar()
    found = conv.maximise(model, conv.channel("1", [0, 0]), image.shape[1:], steps=80, seed=seed)
    assert found.verdicts == ("redirected", "redirected")
    assert (found.values > 0).all()
    assert (model(found.images).mean((1, 2, 3)) > 0).all()


def test_one_dead_channel_is_tried_again_beside_others_that_live() -> None:
    """What rises by itself is not touched by the second try."""
    model, image = bar()
    twice = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with torch.no_grad():
        twice[0].weight.copy_(torch.cat([torch.ones(1, 1, 3, 3), model[0].weight]))
        twice[0].bias.copy_(torch.tensor([0.0, -2.0]))
    options = {"input_shape": tuple(image.shape[1:]), "steps": 80}
    both = conv.maximise(twice, conv.channel("1", [0, 1]), **options)
    assert both.verdicts == ("risen", "redirected")
    assert both.curve.shape == (len(both.steps), 2)
    alone = conv.maximise(twice, conv.channel("1", 0), **options)
    torch.testing.assert_close(both.images[:1], alone.images, rtol=1e-4, atol=1e-5)


def test_what_a_real_image_excites_is_never_called_dead() -> None:
    """Where no gradient leads to it, the ascent begins again at the best real image."""
    model = Lock()
    images = torch.cat([torch.zeros(1, 1, 6, 6), torch.eye(6)[None, None]])
    assert conv.maximise(model, conv.logit(0), (1, 6, 6), steps=4).verdicts == ("dead",)
    found = conv.maximise(
        model, conv.logit(0), reference=images, steps=4, num_images=2, prior_strength=0
    )
    assert found.verdicts == ("real", "real")
    assert (found.values >= 0.99 * found.dataset_examples.values).all()
    assert "begun again at the best real image" in found.sentence(1)
    assert "begun at a real image" in words(found)
    others = conv.maximise(model, conv.logit(0), reference=images[:1], steps=4)
    assert others.verdicts == ("dead",)
    assert "No image of it was found" in others.sentence(0)
