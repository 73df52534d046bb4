"""LRP composites: which rule each layer has, as zennit names them."""

from collections.abc import Mapping

import attrs

from visualization.attribution.relevance.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Rule,
    ZBox,
    z_plus,
)
from visualization.core.errors import unknown_name_error


@attrs.frozen(kw_only=True, eq=False)
class LrpComposite:
    """LRP composite: rules by kind of layer, by place, and by name.

    Attributes:
        convolution: rule of convolutions, transposed ones too.
        linear: rule of fully connected layers.
        first: rule of the first of them that runs in a pass; None: as the others of its kind.
        first_kinds: kinds of layers among which the first is sought.
        by_layer: rules by dotted names of layers, which come before all others. A name means the
            module in which the function runs, whether that calls it or is itself the layer.
    """

    convolution: Rule
    linear: Rule
    first: Rule | None = None
    first_kinds: tuple[str, ...] = ("convolution", "linear")
    by_layer: Mapping[str, Rule] = attrs.field(factory=dict)

    def rule(self, kind: str, layer: str, *, first: bool) -> Rule:
        """Return the rule of a layer of a kind."""
        if layer in self.by_layer:
            return self.by_layer[layer]
        if first and self.first is not None:
            return self.first
        return self.convolution if kind == "convolution" else self.linear


_ALPHA2 = AlphaBeta(alpha=2, beta=1)
COMPOSITES: Mapping[str, LrpComposite] = {
    "epsilon": LrpComposite(convolution=Epsilon(), linear=Epsilon()),
    "epsilon_plus": LrpComposite(convolution=z_plus(), linear=Epsilon()),
    "epsilon_plus_flat": LrpComposite(convolution=z_plus(), linear=Epsilon(), first=Flat()),
    "epsilon_gamma_box": LrpComposite(
        convolution=Gamma(), linear=Epsilon(), first=ZBox(), first_kinds=("convolution",)
    ),
    "epsilon_alpha2_beta1": LrpComposite(convolution=_ALPHA2, linear=Epsilon()),
    "epsilon_alpha2_beta1_flat": LrpComposite(convolution=_ALPHA2, linear=Epsilon(), first=Flat()),
}


def as_composite(composite: str | LrpComposite) -> LrpComposite:
    """Return a composite that is given by its name or as it is.

    Raises:
        ValueError: an unknown name; names the nearest.
    """
    if isinstance(composite, LrpComposite):
        return composite
    if composite not in COMPOSITES:
        raise unknown_name_error("composite", composite, COMPOSITES, ", or a LrpComposite")
    return COMPOSITES[composite]
