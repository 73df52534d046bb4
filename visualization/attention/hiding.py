"""Attention of a text model while it runs: its weights, and places that are hidden from it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error, unknown_name_error, value_error
from visualization.core.preserve import hooks


@attrs.frozen(eq=False, kw_only=True)
class TextAttention:
    """Attention over the characters that a model has read, as its modules compute the weights.

    A module of weights is called with scores (B, T, Q), or (B, N, T, Q) of N heads, and a mask that
    broadcasts to them and is true where attention is allowed; it returns weights of that shape. B
    samples, T places that attend, Q characters read.

    Attributes:
        layers: modules by name, of characters written that attend to characters read.
        others: modules of other places that attend to characters read.
        num_heads: of each module; None: scores have no axis of heads.
    """

    layers: Mapping[str, nn.Module]
    others: Sequence[nn.Module] = ()
    num_heads: int | None = None

    @property
    def heads(self) -> dict[str, tuple[str, int | None]]:
        """Layer and number of each head in `layers`, by a name such as `layer 1, head 2`."""
        if self.num_heads is None:
            return {layer: (layer, None) for layer in self.layers}
        numbers = range(self.num_heads)
        return {f"{layer}, head {n + 1}": (layer, n) for layer in self.layers for n in numbers}

    @contextlib.contextmanager
    def hide(self, places: Sequence[int], head: str | None = None) -> Iterator[None]:
        """Attention masking: hide characters in a block; the other weights are renormalised.

        A hidden place has weight 0. It is hidden from all modules, or from one head alone.

        Args:
            places: of characters read, from 0.
            head: its name; None: all heads of all layers, and the modules of `others`.

        Raises:
            ValueError: no such head or place, or, when the model runs, no place is left.
        """
        if head is not None and head not in self.heads:
            raise unknown_name_error("head", head, self.heads)
        layer, number = (None, None) if head is None else self.heads[head]

        def mask_out(module: nn.Module, arguments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            scores, mask = arguments
            return scores, _without(mask.expand_as(scores), list(places), number)

        modules = [*self.layers.values(), *self.others] if layer is None else [self.layers[layer]]
        with hooks(module.register_forward_pre_hook(mask_out) for module in modules if places):
            yield

    @contextlib.contextmanager
    def record(self) -> Iterator[dict[str, list[Tensor]]]:
        """Attention weights of each layer in a block: a list with those of each call."""
        calls: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}

        def recorder(layer: str) -> Any:
            return lambda module, arguments, weights: calls[layer].append(weights)

        with hooks(
            module.register_forward_hook(recorder(layer)) for layer, module in self.layers.items()
        ):
            yield calls

    def of_last(self, calls: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        """Attention maps by head (B, A, Q), of A calls that each wrote one more character.

        Args:
            calls: as `record` yields them; the last place of each call is the new character.
        """
        maps = {}
        for name, (layer, number) in self.heads.items():
            weights = [call if number is None else call[:, number] for call in calls[layer]]
            maps[name] = torch.cat([call[:, -1:] for call in weights], dim=1)
        return maps


def _without(allowed: Tensor, places: list[int], head: int | None) -> Tensor:
    """Return a mask (B, T, Q) or (B, N, T, Q) without some places; of one head, or of all."""
    num_places = allowed.shape[-1]
    for place in places:
        if not 0 <= place < num_places:
            raise value_error("places", place, f"0 to {num_places - 1}")
    mask = allowed.clone()
    if head is None:
        mask[..., places] = False
    else:
        mask[:, head, :, places] = False
    if not bool(mask.any(-1).all()):
        raise argument_error("places", "no place is left to attend to", "one that is not hidden")
    return mask
