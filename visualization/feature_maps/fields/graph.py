"""Autograd graph of one pass, walked back from a layer to the image."""

import copy
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visualization.core.dispatch import DispatchMode
from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import activation, device_and_dtype
from visualization.feature_maps.fields.operations import Shape

_LARGEST_COMPUTED = 64 * 64  # numbers of an image that are computed with as fast as its shape

Carried = TypeVar("Carried")
_EXITS = {Tensor.numpy, Tensor.__array__, Tensor.tolist}
_NEW = re.compile(r"\.new_|_like$")  # operations that read of a tensor no more than its shape


class Graph(NamedTuple):
    """One pass: an image (1, C, H, W) that asks for a gradient, and what a layer makes of it.

    Attributes:
        image: random numbers.
        output: of the layer.
        is_complete: whether all that follows from the image does so through the graph. It does not
            where something is detached or compared, or a place is chosen by a value.
        has_places: whether whole numbers that follow from the image are read, as places are.
        outside: what follows from the image without a graph, such as the places of maxima.
    """

    image: Tensor
    output: Tensor
    is_complete: bool
    has_places: bool
    outside: "Storages"


class Storages:
    """The memory of tensors, kept so that no later tensor gets the same."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}

    def add(self, tensor: Tensor) -> None:
        """Keep the memory of a tensor."""
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = storage

    def __contains__(self, tensor: Tensor) -> bool:
        """Tell whether a tensor, or a view of it, was added."""
        return tensor.untyped_storage()._cdata in self._storages


class _Follower(DispatchMode):
    """Follows what an image has influence on, with a graph and without, while operations run.

    The memory of all that follows from the image is kept. As soon as such a tensor is read that has
    no graph, or is a leaf of another, or numbers leave torch, the graph is not complete.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.outside = Storages()
        self.is_complete, self.has_places = True, False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation."""
        output = func(*args, **(kwargs or {}))
        inputs = list(_tensors((args, kwargs)))
        loose = [x for x in inputs if x.is_leaf and x in self.outside]
        follows = bool(loose) or any(x.requires_grad for x in inputs)
        if follows and not _NEW.search(str(func.overloadpacket)):
            outputs = list(_tensors(output))
            for tensor in outputs:
                self.outside.add(tensor)
            self.is_complete &= bool(outputs) and not loose
            self.has_places |= any(x.dtype in (torch.int64, torch.int32) for x in loose)
        return output


class _Watchman(TorchFunctionMode):
    """Notes whether numbers go where torch does not follow them: to NumPy, or to lists."""

    def __init__(self) -> None:
        super().__init__()
        self.is_passed = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one function."""
        self.is_passed |= func in _EXITS
        return func(*args, **(kwargs or {}))


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors among the arguments or the outputs of an operation."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (Mapping, list, tuple)):
        for part in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(part)


def trace_graph(model: nn.Module, layer: str | None, input_shape: Sequence[int]) -> Graph:
    """Return a pass over random numbers, with its graph.

    Raises:
        ValueError: a shape of another kind; no such layer.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or min(shape) < 1:
        accepted = "(channels, height, width) of one image, none of them 0"
        raise value_error("input_shape", shape, accepted)
    return _forward(model, layer, random_images(model, (1, *shape)))


def trace_graph_of_shapes(model: nn.Module, layer: str | None, input_shape: Sequence[int]) -> Graph:
    """Return a pass with its graph: of a large image, if possible, of shapes alone.

    That takes a second however large the image is: many of torch's functions of shapes are written
    in Python. It runs through a copy of the model, so that nothing that a model remembers is
    without numbers.

    Raises:
        ValueError: as `trace_graph`.
    """
    if math.prod(input_shape) <= _LARGEST_COMPUTED:
        return trace_graph(model, layer, input_shape)
    try:
        tensors = itertools.chain(model.parameters(), model.buffers())
        shapes = {id(tensor): tensor.detach().to("meta") for tensor in tensors}
        image = torch.empty(1, *input_shape, dtype=device_and_dtype(model)[1], device="meta")
        return _forward(copy.deepcopy(model, shapes), layer, image)
    except Exception:  # it needs numbers; or the other pass says what is wrong
        return trace_graph(model, layer, input_shape)


def _forward(model: nn.Module, layer: str | None, image: Tensor) -> Graph:
    image.requires_grad_()
    with _Follower() as follower, _Watchman() as watchman:
        output = activation(model, image.clone(), layer)  # a leaf bears no change in place
    is_complete = follower.is_complete and not watchman.is_passed and output.requires_grad
    return Graph(image, output, is_complete, follower.has_places, follower.outside)


def map_size(graph: Graph, layer: str | None) -> tuple[int, int]:
    """Return rows and columns of a layer's maps; of a vector 1 and 1.

    Raises:
        ValueError: the layer outputs neither.
    """
    shape = tuple(graph.output.shape[1:])
    if len(shape) not in (1, 3):
        accepted = "feature maps (channels, rows, columns) or vectors (channels,)"
        raise argument_error("layer", f"{layer!r} outputs {shape} for an image", accepted)
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def random_images(model: nn.Module, shape: Shape, seed: int = 0) -> Tensor:
    """Return normally distributed numbers on a model's device and in its type."""
    device, dtype = device_and_dtype(model)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def propagate_backward(
    graph: Graph,
    start: Carried,
    carry: Callable[[Any, list[Carried | None]], Iterable[Carried | None]],
    join: Callable[[Carried, Carried], Carried],
) -> Carried | None:
    """Carry something from a layer back to the image; None: the graph does not lead there.

    Args:
        graph: of one pass.
        start: what there is at the layer's output.
        carry: takes a node and what arrived at each of its outputs; gives that of each input.
        join: of what arrives at one place on two ways.
    """
    leaf = torch.autograd.graph.get_gradient_edge(graph.image).node
    root: Any = graph.output.grad_fn
    arrived_at = {(root, graph.output.output_nr): start}
    nodes = _leading_to(leaf, root)
    for node in nodes:
        arrived = [
            arrived_at.pop((node, number), None) for number in range(len(node._input_metadata))
        ]
        if node is leaf:
            return arrived[0]
        for edge, state in zip(node.next_functions, carry(node, arrived), strict=True):
            if state is not None:
                arrived_at[edge] = join(arrived_at[edge], state) if edge in arrived_at else state
    return None


def _leading_to(leaf: Any, root: Any) -> list[Any]:
    """Return the nodes on the ways from a root to a leaf, each before those that it leads to."""
    ordered: list[Any] = []
    visited = set()
    waiting = [(root, False)] if root else []
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            ordered.append(node)
        elif node not in visited:
            visited.add(node)
            waiting.append((node, True))
            waiting += [(source, False) for source, _ in node.next_functions if source]
    leading = {leaf}
    for node in ordered:
        if any(source in leading for source, _ in node.next_functions):
            leading.add(node)
    return [node for node in reversed(ordered) if node in leading]


def input_shapes(node: Any) -> list[Shape | None]:
    """Return the shape of each input of an operation; None: it has no graph."""
    return [
        tuple(source._input_metadata[number].shape) if source else None
        for source, number in node.next_functions
    ]
