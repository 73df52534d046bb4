"""How far two ways of training are apart, as a share of what training changed."""

from collections.abc import Mapping

from torch import Tensor


def relative_difference(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> float:
    """Return the L2 norm of `a - b` over that of `a - start`, over all tensors.

    Adam divides a gradient by its size: of a weight whose gradient is nearly 0, rounding alone
    decides the step. So single weights tell nothing, and all of them together do.
    """
    assert a.keys() == b.keys()
    names = [name for name, tensor in a.items() if tensor.is_floating_point()]
    apart = sum(float((a[name] - b[name]).double().square().sum()) for name in names)
    moved = sum(float((a[name] - start[name]).double().square().sum()) for name in names)
    assert moved > 0
    return (apart / moved) ** 0.5
