"""A page whose model learns on: what is kept of its weights is of those that it has now."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from tests.helpers import live as small
from tests.helpers.live import LAYER, ask, frame, maps_of
from visualization.feature_maps.fields.patches import top_patches
from visualization.live.session import Session
from visualization.live.weights import WeightsWatch

IMAGE = small.samples()[0]


def in_place(weight: nn.Parameter) -> None:
    """Multiply weights, as some optimizers do."""
    with torch.no_grad():
        weight.mul_(-2)


def by_data(weight: nn.Parameter) -> None:
    """Multiply the data of weights, which counts no version."""
    weight.data.mul_(-2)


def by_fused_adam(weight: nn.Parameter) -> None:
    """Move weights by torch's fused kernel, which counts no version."""
    ones, first, second = (torch.ones_like(weight) * number for number in (1, 0, 0))
    with torch.no_grad():
        adam(
            [weight], [ones], [first], [second], [], [torch.zeros(())], foreach=False, fused=True,
            amsgrad=False, beta1=0.9, beta2=0.99, lr=5.0, weight_decay=0.0, eps=1e-8,
            maximize=False,
        )  # fmt: skip


CHANGES = [in_place, by_data, by_fused_adam]


@pytest.mark.parametrize("change", CHANGES)
def test_an_untouched_drawing_has_no_change(change: Callable[[nn.Parameter], None]) -> None:
    """However weights are changed, the original's maps are of the new ones, as the drawing's."""
    model = small.network()
    session = Session(small.live(small.subject(model)))
    for _ in range(2):
        assert not maps_of(session.handle(*frame(IMAGE, compared="change"))).any()
        change(model[0].weight)
        shown = maps_of(session.handle(*frame(IMAGE)))
        with torch.no_grad():
            now = model.eval()[:2](torch.as_tensor(IMAGE)[None])[0].numpy()
        np.testing.assert_allclose(shown, now, atol=np.ptp(now) / 255)


@pytest.mark.parametrize("change", CHANGES)
def test_the_best_examples_are_of_the_new_weights(change: Callable[[nn.Parameter], None]) -> None:
    """After a change of the weights a channel's best examples are searched again."""
    model = small.network()
    session = Session(small.live(small.subject(model)))
    shown = []
    for _ in range(2):
        unit = ask(session, "unit", IMAGE, layer=LAYER, channel=2, row=1, column=3).data
        best = top_patches(model, LAYER, small.samples(), [2], k=8)
        found = best.image[0] >= 0
        shown.append([(each["image"], each["value"]) for each in unit["examples"]])
        expected = zip(best.image[0][found].tolist(), best.value[0][found].tolist(), strict=True)
        assert shown[-1] == list(expected)
        change(model[0].weight)
    assert shown[0] != shown[1]


def replaced(model: nn.Sequential) -> None:
    """Put another parameter in the place of one."""
    model[0].weight = nn.Parameter(model[0].weight.detach() + 1)


def counted(model: nn.Sequential) -> None:
    """Change a buffer."""
    buffer: Tensor = model[1].running_mean
    buffer.add_(1)


@pytest.mark.parametrize("change", [replaced, counted, lambda model: model.double()])
def test_a_number_is_that_of_the_same_weights(change: Callable[[nn.Sequential], object]) -> None:
    """It stays while nothing changes, and no pass changes anything; then it is another one."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    watch = WeightsWatch(model)
    before = watch.number()
    model(torch.zeros(1, 1, 5, 5))
    assert watch.number() == before
    change(model)
    assert watch.number() != before
    assert watch.number() == watch.number()


def test_a_model_that_diverged_is_not_always_another_one() -> None:
    """NaN equals no number, but weights that are NaN stay the same weights."""
    model = nn.Linear(2, 2)
    watch = WeightsWatch(model)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    assert watch.number() == watch.number()
    with torch.no_grad():
        model.weight[0, 1] = torch.nan
    assert watch.number() == 2
