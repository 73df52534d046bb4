"""What holds of every attribution: its class, its batch, its seed, no trace, mistakes named."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, QUICK, assert_close, linear, odd, pictures
from visualization.attribution.cams import grad_cam
from visualization.attribution.gradients import (
    guided_backprop,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.attribution.masking import occlusion_map, rise
from visualization.attribution.methods import attributions


def test_an_explanation_keeps_to_the_class_of_the_image() -> None:
    """With no target, a masked, noisy or empty image is scored by the class of the whole one."""
    model, x = odd(), 3 * pictures(4)
    model.eval()
    numbers = model(x.clone()).argmax(dim=1)
    assert (model(0 * x).argmax(dim=1) != numbers).any()
    for name, method in QUICK.items():
        assert_close(method(model, x), method(model, x, numbers), msg=name)
        assert_close(method(model, x), method(model, x, numbers.tolist()), msg=name)


@pytest.mark.parametrize("name", QUICK)
def test_batches_and_company_change_nothing(name: str) -> None:
    """Maps do not depend on the batch size, nor on which images are explained together."""
    model, x = odd(3), pictures(3, 3)
    whole = QUICK[name](model, x, 2)
    assert whole.shape in {(3, 3, 8, 8), (3, 8, 8)}
    assert whole.dtype == DOUBLE
    assert not whole.requires_grad
    assert whole.abs().max() > 0
    assert_close(QUICK[name](model, x, 2, batch_size=2), whole)
    assert_close(QUICK[name](model, x[1], 2), whole[1:2])
    assert_close(QUICK[name](model, x.numpy(), 2), whole)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("fails", [False, True])
def test_explaining_changes_nothing(name: str, fails: bool) -> None:
    """Weights, modes, gradients, hooks, random state and images stay, also on an exception."""
    model, x = odd(), pictures()
    model.a.eval()
    held = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    grads = [parameter.grad for parameter in model.parameters()]
    before, images = torch.get_rng_state(), x.clone()
    if fails:
        with pytest.raises(ValueError, match="target: channel 4 does not exist; accepted: 0 to 3"):
            QUICK[name](model, x, 4)
    else:
        QUICK[name](model, x)
    assert all(torch.equal(held[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(
        p.grad is grad and (grad == 1).all()
        for p, grad in zip(model.parameters(), grads, strict=True)
    )
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert "forward" not in vars(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, images)


def test_the_seed_alone_decides_what_is_random() -> None:
    """The same seed gives the same map, another seed another."""
    model, x = odd(), pictures(1)
    for name in ("smooth_grad", "rise"):
        first, again, other = (QUICK[name](model, x, 1, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)


class Argmax(nn.Module):
    """Answers without a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 2)."""
        return (self.conv(x) > 0).double().mean((2, 3))


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        (saliency, {"target_layer": "sten"},
         "'sten' is not a layer of the Odd; .* did you mean 'stem'"),
        (saliency, {"target_layer": "stem"}, "target: None is not accepted for an output of shape"),
        (saliency, {"target": [0, 1]}, r"target: torch.int64 of shape \(2,\) does not go with 3"),
        (saliency, {"batch_size": 0}, "batch_size: 0 is not accepted; accepted: 1 or more"),
        (integrated_gradients, {"num_steps": 0}, "num_steps: 0 is not accepted"),
        (integrated_gradients, {"baseline": "gray"}, "baseline: 'gray' .* a number, mean, blur"),
        (integrated_gradients, {"baseline": np.ones((2, 1, 8, 8))},
         r"baseline: shape \(2, 1, 8, 8\) does not go with images \(3, 1, 8, 8\)"),
        (smooth_grad, {"num_samples": 0}, "num_samples: 0 is not accepted"),
        (smooth_grad, {"noise": -0.1}, "noise: -0.1 is not accepted; accepted: 0 or more"),
        (grad_cam, {"cam_layer": "head"},
         r"cam_layer: 'head' outputs \(3, 4\); accepted: layers that"),
        (grad_cam, {"cam_layer": "relu@7"},
         "cam_layer: 'relu@7' was not called while the model ran"),
        (grad_cam, {"cam_layer": "stem", "target_layer": "relu@7", "target": 0},
         "'relu@7' was not called"),
        (grad_cam, {"cam_layer": "stem", "target_layer": "stem", "target": 0},
         "target_layer: 'stem' is cam_layer"),
        (grad_cam, {"cam_layer": "a", "target_layer": "stem", "target": 0},
         "target: the score has no gradient with respect to 'a'"),
        (occlusion_map, {"window": 9}, "window: 9 is not accepted; accepted: 1 to 8 rows, 1 to 8"),
        (occlusion_map, {"window": (5, 3, 4)}, r"window: \(5, 3, 4\) is not accepted"),
        (occlusion_map, {"stride": 4}, "stride: 4 is not accepted; accepted: 1 to 3 rows"),
        (occlusion_map, {"within": torch.ones(7, 8)}, r"within: shape \(7, 8\) is not accepted"),
        (rise, {"num_masks": 1}, "num_masks: 1 is not accepted; accepted: 2 or more"),
        (rise, {"keep": 1.0}, "keep: 1.0 is not accepted; accepted: above 0, below 1"),
        (rise, {"grid": (9, 4)}, r"grid: \(9, 4\) is not accepted; accepted: 1 to 8 rows"),
        (attributions, {"methods": ["grad_cams"]}, "methods: 'grad_cams' .* mean 'grad_cam'"),
        (attributions, {"methods": ["grad_cam"], "target_layer": "a", "target": 1},
         "'grad_cam' is not"),
    ],
)  # fmt: skip
def test_mistakes_are_named(method: Any, settings: dict[str, Any], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    with pytest.raises(ValueError, match=words):
        method(odd(), pictures(), **settings)


def test_scores_without_a_derivative_are_named() -> None:
    """A model that thresholds has no gradient; occlusion needs none."""
    x = pictures(2)
    for method in (saliency, guided_backprop, integrated_gradients, grad_cam):
        with pytest.raises(ValueError, match="target: the score has no gradient with respect to"):
            method(Argmax(), x, 1)
    assert occlusion_map(Argmax(), x, 1).abs().max() > 0
    with pytest.raises(ValueError, match="no layer of the Sequential outputs feature maps"):
        grad_cam(linear()[0], pictures(1, 2, 4))
