"""One pass of a model, and the way back from a layer to the image through autograd's graph."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from visualization.conv.common import activation, home
from visualization.conv.fields.operations import Shape

Held = TypeVar("Held")


class Graph(NamedTuple):
    """One pass: an image (1, C, H, W) that asks for a gradient, and what a layer makes of it."""

    image: Tensor
    output: Tensor


def run(model: nn.Module, layer: str | None, input_shape: Sequence[int]) -> Graph:
    """Return a pass over random numbers, with its graph.

    Raises:
        ValueError: a shape of another kind; no such layer.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or min(shape) < 1:
        accepted = "(channels, height, width) of one image, none of them 0"
        raise ValueError(f"input_shape: {shape} is not accepted; accepted: {accepted}")
    image = random_images(model, (1, *shape)).requires_grad_()
    return Graph(image, activation(model, image.clone(), layer))  # a leaf bears no change in place


def map_size(graph: Graph, layer: str | None) -> tuple[int, int]:
    """Return rows and columns of a layer's maps; of a vector 1 and 1.

    Raises:
        ValueError: the layer puts out neither.
    """
    shape = tuple(graph.output.shape[1:])
    if len(shape) not in (1, 3):
        accepted = "feature maps (channels, rows, columns) or vectors (channels,)"
        raise ValueError(f"layer: {layer!r} puts out {shape} for an image; accepted: {accepted}")
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def random_images(model: nn.Module, shape: Shape, seed: int = 0) -> Tensor:
    """Return normally distributed numbers on a model's device and in its type."""
    device, dtype = home(model)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def carry_back(
    graph: Graph,
    start: Held,
    carry: Callable[[Any, list[Held | None]], Iterable[Held | None]],
    join: Callable[[Held, Held], Held],
) -> Held | None:
    """Carry something from a layer back to the image; None: the graph does not lead there.

    Args:
        graph: of one pass.
        start: what there is at the layer's output.
        carry: takes a node and what arrived at each of its outputs; gives that of each input.
        join: of what arrives at one place on two ways.
    """
    leaf = torch.autograd.graph.get_gradient_edge(graph.image).node
    root: Any = graph.output.grad_fn
    held = {(root, graph.output.output_nr): start}
    nodes = _leading_to(leaf, root)
    for node in nodes:
        arrived = [held.pop((node, number), None) for number in range(len(node._input_metadata))]
        if node is leaf:
            return arrived[0]
        for place, state in zip(node.next_functions, carry(node, arrived), strict=True):
            if state is not None:
                held[place] = join(held[place], state) if place in held else state
    return None


def _leading_to(leaf: Any, root: Any) -> list[Any]:
    """Return the nodes on the ways from a root to a leaf, each before those that it leads to."""
    ordered: list[Any] = []
    seen = set()
    waiting = [(root, False)] if root else []
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            ordered.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(source, False) for source, _ in node.next_functions if source]
    leading = {leaf}
    for node in ordered:
        if any(source in leading for source, _ in node.next_functions):
            leading.add(node)
    return [node for node in reversed(ordered) if node in leading]


def shapes_given(node: Any) -> list[Shape | None]:
    """Return the shape of each input of an operation; None: it has no graph."""
    return [
        tuple(source._input_metadata[number].shape) if source else None
        for source, number in node.next_functions
    ]
