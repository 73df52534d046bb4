"""Attention with places hidden: weights that are exactly 0, and the others renormalised."""

import pytest
import torch
from torch import Tensor, nn

from visualization.attention.hiding import TextAttention


class Weights(nn.Module):
    """Weights of attention, as models compute them."""

    def forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return weights of scores (…, Q)."""
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)


SCORES = torch.log(torch.tensor([[[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]]))  # (1, 2, 4)
MASK = torch.tensor([[[True, True, True, False]]])


def heads(scores: Tensor) -> Tensor:
    """Return scores of two heads that are alike (1, 2, T, Q)."""
    return scores[:, None].expand(-1, 2, -1, -1)


def test_hidden_places_weigh_nothing_and_the_others_keep_their_ratio() -> None:
    """Weights of 1, 2 and 3 parts without the second place are 1 and 3 of 4 parts."""
    module, other = Weights(), Weights()
    attention = TextAttention(layers={"a": module}, others=[other])
    with attention.hide([1]):
        for each in (module, other):
            weights = each(SCORES, MASK)
            torch.testing.assert_close(weights[0, 0], torch.tensor([0.25, 0, 0.75, 0]))
            assert bool((weights[..., 1] == 0).all())
    torch.testing.assert_close(module(SCORES, MASK)[0, 0], torch.tensor([1, 2, 3, 0]) / 6)


def test_a_place_is_hidden_from_one_head_alone() -> None:
    """The second head of a layer does not see the place, the first and other modules do."""
    module, other = Weights(), Weights()
    attention = TextAttention(layers={"a": module}, others=[other], num_heads=2)
    assert attention.heads == {"a, head 1": ("a", 0), "a, head 2": ("a", 1)}
    before = module(heads(SCORES), MASK)
    with attention.hide([0], "a, head 2"):
        weights = module(heads(SCORES), MASK)
        torch.testing.assert_close(other(SCORES, MASK), before[:, 0])
    assert torch.equal(weights[:, 0], before[:, 0])
    assert bool((weights[:, 1, :, 0] == 0).all())
    torch.testing.assert_close(weights[0, 1, 0], torch.tensor([0, 0.4, 0.6, 0]))


def test_the_last_place_of_each_call_is_recorded() -> None:
    """Two calls, of one place and of two, give a map with a row for each: their last ones."""
    module = Weights()
    attention = TextAttention(layers={"a": module}, num_heads=2)
    with attention.record() as calls:
        first = module(heads(SCORES[:, :1]), MASK)
        second = module(heads(SCORES), MASK)
    maps = attention.of_last(calls)
    assert list(maps) == ["a, head 1", "a, head 2"]
    expected = torch.stack([first[:, 0, -1], second[:, 0, -1]], dim=1)
    assert torch.equal(maps["a, head 1"], expected)


@pytest.mark.parametrize(
    ("places", "head", "problem"),
    [
        ([0, 1, 2], None, "places: no place is left to attend to"),
        ([4], None, "places: 4 is not accepted; accepted: 0 to 3"),
        ([0], "b", "head: 'b' is not accepted; accepted: a; did you mean 'a'"),
    ],
)
def test_what_cannot_be_hidden_is_refused(places: list[int], head: str, problem: str) -> None:
    """The error says what is wrong, and no hook is left behind."""
    module = Weights()
    attention = TextAttention(layers={"a": module})
    with pytest.raises(ValueError, match=problem), attention.hide(places, head):
        module(SCORES, MASK)
    assert not module._forward_pre_hooks
