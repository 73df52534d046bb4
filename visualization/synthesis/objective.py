"""Objectives: one number for each image, to be maximised; they can be added up.

Each names the layers that it is read from, so that one pass can serve many, and end early. It may
differ for each image of a batch. Which objectives there are: `objectives`,
`constraints`.

B images, N images that an objective tells apart (1: it is the same for any number of them),
C channels, H rows, W columns.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import final

import attrs
import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error, not_called_error, value_error
from visualization.core.inputs import (
    activation,
    at_least_float32,
    check_tensor,
    device_and_dtype,
    numbered_call,
)
from visualization.core.layout import intercept_maps
from visualization.core.tracing import NamedLayer, layer_name


@final
@attrs.frozen(eq=False)
class ForwardCache:
    """Outputs of one forward pass.

    Attributes:
        images: as the model got them (B, C, H, W).
        outputs: by layer (B, …), of at least 32 bits; None: the model's own.
        rows: which of its N images an objective is to see in each (B,).
    """

    images: Tensor
    outputs: Mapping[NamedLayer | None, Tensor]
    rows: Tensor

    def __getitem__(self, layer: NamedLayer | None) -> Tensor:
        """Return the output of a layer (B, …); None: the model."""
        return self.outputs[layer_or_output(layer)]

    @property
    def output(self) -> Tensor:
        """The output of the model, such as logits (B, K)."""
        return self.outputs[None]

    def own(self, values: Tensor, like: Tensor) -> Tensor:
        """Return each image's own (B, …) of values (N, …), of the type of `like`."""
        rows = self.rows if len(values) > 1 else torch.zeros_like(self.rows)
        return values.to(like)[rows]


Measure = Callable[[ForwardCache], Tensor]


def zeros_per_image(cache: ForwardCache) -> Tensor:
    """Return 0 for each image (B,)."""
    return cache.images.new_zeros(len(cache.images))


@final
@attrs.frozen(eq=False)
class Objective:
    """Objective: one number for each image of a batch, to be maximised.

    It has two parts: the objective proper, and a prior that regularises images.

    Attributes:
        layers: that it is read from, by dotted name or as modules; None: the model's own output.
            With none at all it is read from the image alone.
        names: a word for each of N images; one: it is the same for any number of them.
        measure: the objective proper: from the outputs for B images to (B,).
        prior: the rest: from the images alone to (B,), such as minus their total variation.
        coupled: whether an image's number depends on the others of its batch.
        most: what `measure` can be at most: 0 of a demand, which is then met, and of a prior alone.
    """

    layers: tuple[NamedLayer | None, ...]
    names: tuple[str, ...]
    measure: Measure = zeros_per_image
    prior: Measure = zeros_per_image
    coupled: bool = False
    most: float = math.inf

    def __call__(self, cache: ForwardCache) -> Tensor:
        """Return the number of each image (B,), of both parts.

        Raises:
            ValueError: it is not one number for each image.
        """
        return self.read(cache) + self.prior(cache)

    def read(self, cache: ForwardCache) -> Tensor:
        """Return the objective of each image (B,), without the prior.

        Raises:
            ValueError: it is not one number for each image.
        """
        value = self.measure(cache)
        if not isinstance(value, Tensor) or value.shape != (len(cache.images),):
            description = (
                f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            )
            accepted = f"a tensor ({len(cache.images)},), a number for each image"
            raise argument_error(f"objective {self.names[0]!r}", f"gives {description}", accepted)
        return value

    def __add__(self, other: "Objective") -> "Objective":
        pairs = zip(*_broadcast_names(self.names, other.names), strict=True)
        return Objective(
            union(self.layers, other.layers), tuple(f"{a} + {b}" for a, b in pairs),
            lambda cache: self.read(cache) + other.read(cache),
            lambda cache: self.prior(cache) + other.prior(cache), self.coupled or other.coupled,
            self.most + other.most,
        )  # fmt: skip

    def __mul__(self, weight: float) -> "Objective":
        number = float(weight)
        return Objective(
            self.layers, tuple(f"{number:g} {_in_brackets(name)}" for name in self.names),
            lambda cache: number * self.read(cache), lambda cache: number * self.prior(cache),
            self.coupled, number * self.most if number > 0 else math.inf,
        )  # fmt: skip

    __rmul__ = __mul__

    def __neg__(self) -> "Objective":
        return (self * -1).named(*(f"−{_in_brackets(name)}" for name in self.names))

    def __sub__(self, other: "Objective") -> "Objective":
        pairs = zip(*_broadcast_names(self.names, other.names), strict=True)
        return (self + -other).named(*(f"{a} − {_in_brackets(b)}" for a, b in pairs))

    def named(self, *names: str) -> "Objective":
        """Return the same under other names: one, or one for each image."""
        return attrs.evolve(self, names=_broadcast_names(self.names, names)[1])


def _in_brackets(name: str) -> str:
    return f"({name})" if " + " in name or " − " in name else name


def layer_or_output(layer: NamedLayer | None) -> NamedLayer | None:
    """Return a layer, and None for the model's own output, which is also named ""."""
    return None if isinstance(layer, str) and not layer else layer


def layer_word(layer: NamedLayer | None) -> str:
    """Return a layer's name, of a module its kind, as it is written in the names of objectives."""
    return type(layer).__name__ if isinstance(layer, nn.Module) else layer or "output"


def union(*layers: Iterable[NamedLayer | None]) -> tuple[NamedLayer | None, ...]:
    """Return layers of several objectives, each once."""
    return tuple(dict.fromkeys(layer_or_output(layer) for group in layers for layer in group))


def _broadcast_names(*groups: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return names of objectives that belong together, those of one name as often as others."""
    counts = sorted({len(group) for group in groups} - {1})
    if len(counts) > 1:
        problem = f"for {counts[0]} and for {counts[1]} images do not go together"
        raise argument_error("objectives", problem, "for the same number, or for 1")
    count = counts[0] if counts else 1
    return [group if len(group) == count else group * count for group in groups]


@contextlib.contextmanager
def caching_forward(
    model: nn.Module, layers: Collection[NamedLayer | None]
) -> Iterator[Callable[[Tensor, Tensor], ForwardCache]]:
    """Give a function that runs a model on images and returns what objectives need of the pass.

    It takes images (B, C, H, W) and rows (B,), and leaves the pass at the last of the layers.

    Raises:
        ValueError: no such layer, it is not called, or it outputs no single tensor.
    """
    calls = {
        layer: numbered_call(model, layer_name(model, layer))
        for layer in layers
        if layer is not None
    }
    _, dtype = device_and_dtype(model)
    outputs_by_call: dict[str, Tensor] = {}

    def keeper(call: str) -> Callable[[Tensor], Tensor]:
        def take(output: Tensor) -> Tensor:
            outputs_by_call[call] = at_least_float32(check_tensor(output, repr(call)))
            return output.clone()  # what follows may work in place

        return take

    def forward(images: Tensor, rows: Tensor) -> ForwardCache:
        outputs_by_call.clear()
        model_input = images.to(dtype)
        outputs: dict[NamedLayer | None, Tensor] = {}
        if None in layers:
            outputs[None] = at_least_float32(activation(model, model_input))
        elif layers:
            model(model_input)
        for call in calls.values():
            if call not in outputs_by_call:
                raise not_called_error("layer", call)
        outputs |= {layer: outputs_by_call[call] for layer, call in calls.items()}
        return ForwardCache(images, outputs, rows)

    taps = {call: keeper(call) for call in calls.values()}
    with intercept_maps(model, taps, stop=None not in layers):
        yield forward


def custom(
    function: Measure, layers: Iterable[NamedLayer | None] = (None,), name: str = "result"
) -> Objective:
    """Custom objective: any function of a forward pass.

    Args:
        function: from what was seen to (B,): `lambda seen: -seen["conv2"].var(dim=(1, 2, 3))`, or
            `lambda seen: seen.output[:, 3] - seen.output[:, 8]`; see `ForwardCache`.
        layers: that it reads; None: the model's own output.
        name: a word for it.
    """
    return Objective(union(layers), (name,), function)


def per_image(objectives: Sequence[Objective]) -> Objective:
    """Per-image objective: the first objective for the first image, and so on.

    An objective for several images takes as many.

    Raises:
        ValueError: there are none.
    """
    if not objectives:
        raise argument_error("objectives", "there are none", "one or more")
    has_prior = any(objective.prior is not zeros_per_image for objective in objectives)
    widths = torch.tensor([len(objective.names) for objective in objectives])
    owner = torch.arange(len(objectives)).repeat_interleave(widths)
    first = widths.cumsum(0) - widths

    def routed(cache: ForwardCache, part: Callable[[Objective, ForwardCache], Tensor]) -> Tensor:
        value = zeros_per_image(cache)
        owners = owner.to(cache.rows.device)[cache.rows]
        for number in sorted(set(owners.tolist())):
            positions = (owners == number).nonzero()[:, 0]
            needed = cache.outputs.keys() & set(objectives[number].layers)
            outputs = {name: cache[name][positions] for name in needed}
            own = ForwardCache(
                cache.images[positions], outputs, cache.rows[positions] - int(first[number])
            )
            value = value.index_put((positions,), part(objectives[number], own))
        return value

    return Objective(
        union(*(objective.layers for objective in objectives)),
        tuple(name for objective in objectives for name in objective.names),
        lambda cache: routed(cache, lambda objective, own: objective.read(own)),
        zeros_per_image
        if not has_prior
        else lambda cache: routed(cache, lambda objective, own: objective.prior(own)),
        any(objective.coupled for objective in objectives),
        max(objective.most for objective in objectives),
    )


def interpolation(first: Objective, second: Objective, num: int = 5) -> Objective:
    """Interpolation of two objectives over `num` images.

    Raises:
        ValueError: fewer than 2 images, or an objective for several.
    """
    if num < 2:
        raise value_error("num", num, "2 or more images")
    for objective in (first, second):
        if len(objective.names) > 1:
            problem = f"{len(objective.names)} images, from {objective.names[0]!r}"
            raise argument_error("interpolation", f"an objective for {problem}", "for 1")
    shares = torch.linspace(0, 1, num, dtype=torch.float64)
    (one,), (other,) = first.names, second.names
    blends = (f"{1 - share:.2g} {one} + {share:.2g} {other}" for share in shares[1:-1].tolist())

    def blended(cache: ForwardCache, one: Tensor, other: Tensor) -> Tensor:
        return one + (other - one) * cache.own(shares, one)

    return Objective(
        union(first.layers, second.layers), (one, *blends, other),
        lambda cache: blended(cache, first.read(cache), second.read(cache)),
        lambda cache: blended(cache, first.prior(cache), second.prior(cache)),
        first.coupled or second.coupled,
    )  # fmt: skip
