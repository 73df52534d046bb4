"""Relevance in the backward pass: each function of torch gets the one that shares relevance out.

As with ReLU rules (`visualization.core.relus`), functions are intercepted while the forward pass
runs, so that modules, functions, methods and operators are alike. Values are untouched; the
gradient of a tensor, taken afterwards, is its relevance. What several functions read adds up.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from visualization.attribution.relevance import functions, sharing
from visualization.attribution.relevance.composites import LrpComposite
from visualization.attribution.relevance.rules import LinearCall, Rule
from visualization.attribution.relevance.sharing import Share, Sharing
from visualization.core.errors import NothingToShow, argument_error
from visualization.core.packing import flatten_tensors, map_tensors
from visualization.core.preserve import hooks

_NARROW = (torch.float16, torch.bfloat16)  # in which quotients overflow
_LINEAR_ARGUMENTS = ("input", "weight", "bias")


class NoRule(NothingToShow):
    """LRP has no rule for a function of the model."""


class _Shared(torch.autograd.Function):
    """A function whose backward pass shares relevance out among the inputs.

    What it keeps does not go through hooks of saved tensors, such as those of a checkpoint.
    """

    @staticmethod
    def forward(ctx: Any, compute: Callable[[], Tensor], share: Share, *_: Tensor) -> Tensor:
        """Return the function's output."""
        ctx.share = share
        return compute()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Any, ...]:
        """Return the relevance of the inputs."""
        return (None, None, *ctx.share(above))


class _Folding(NamedTuple):
    """What a linear layer's output was made by, for a batch norm that follows."""

    call: LinearCall
    rule: Rule
    input: Tensor
    axis: int  # of the weight, along which its outputs are
    layer: str


class RelevancePropagation(TorchFunctionMode):
    """Layer-wise relevance propagation through what runs in a `with` block.

    If the relevance of a score, taken after the block, stands in place of its gradient, the
    gradient of a tensor that it was computed from is that tensor's relevance.

    Args:
        model: names the layers.
        composite: rules by layer.

    Attributes:
        absorbed: by layer, the relevance of outputs that went to no input: to biases, or lost to
            ε; in sums over all images. "" is what no layer computes, but the model itself.
    """

    def __init__(self, model: nn.Module, composite: LrpComposite) -> None:
        super().__init__()
        self.absorbed: dict[str, float] = {}
        self._model, self._composite = model, composite
        self._running: list[str] = []
        self._has_first = False
        self._foldings: Any = WeakIdKeyDictionary()  # and versions, by outputs of linear layers
        self._weights: Any = WeakIdKeyDictionary()  # softmaxes, which may be weights of attention

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Intercept functions for a block, knowing in which layer they run."""

        def enter(name: str, *_: Any) -> None:
            self._running.append(name)

        def leave(*_: Any) -> None:
            self._running.pop()

        def handles() -> Iterator[Any]:
            for name, module in self._model.named_modules():
                yield module.register_forward_pre_hook(functools.partial(enter, name))
                yield module.register_forward_hook(leave)

        with hooks(handles()), self:
            yield

    @property
    def _layer(self) -> str:
        """The innermost layer that runs."""
        return self._running[-1] if self._running else ""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, with relevance in its backward pass."""
        kwargs = dict(kwargs or {})
        name = str(getattr(func, "__name__", func)).strip("_")
        if not torch.is_grad_enabled() or not _dependent((args, kwargs)):
            return func(*args, **kwargs)
        if name in functions.LAYERS:
            return self._linear(func, name, args, kwargs)
        if name in functions.ROUTES or _only_repeats(name, args, kwargs):
            return self._marked(name, args, _route(func, args, kwargs))
        if func is F.batch_norm and (folded := self._folded_norm(args, kwargs)) is not None:
            return folded
        for names, way in _WAYS:
            if name in names:
                return self._marked(name, args, self._shared(func, args, kwargs, way))
        if name in functions.MIXTURES:
            return self._mixture(func, name, args, kwargs)
        result = func(*args, **kwargs)
        if _dependent(result):
            raise self._no_rule(name)
        return result

    def _no_rule(self, name: str) -> NoRule:
        where = f" in layer {self._layer!r}" if self._layer else ""
        accepted = "convolutions, linear layers, norms, pooling, activations, sums and products"
        problem = f"LRP has no rule for {name}{where}"
        return NoRule(str(argument_error("model", problem, accepted)))

    def _apply(
        self, compute: Callable[[], Tensor], share: Share, inputs: Sequence[Tensor], layer: str
    ) -> Tensor:
        """Return what is computed, noting what of its relevance goes to no input."""

        def noting(relevance: Tensor) -> tuple[Tensor, ...]:
            shares = share(relevance)
            left = relevance.double().sum() - sum(part.double().sum() for part in shares)
            self.absorbed[layer] = self.absorbed.get(layer, 0.0) + float(left)
            return shares

        output: Tensor = _Shared.apply(compute, noting, *inputs)
        return output

    def _shared(self, func: Any, args: Any, kwargs: Any, way: Sharing) -> Tensor:
        """Run a function whose relevance is shared out in some way; in place if it works so."""
        arguments = map_tensors((args, kwargs), lambda x: _HOLE if x.requires_grad else x)
        inputs = _dependent((args, kwargs))
        changed: list[bool] = []

        def function(values: Sequence[Tensor]) -> Tensor:
            remaining = iter(values)
            positional, named = map_tensors(
                arguments, lambda x: next(remaining) if x is _HOLE else x.clone()
            )
            target = flatten_tensors((positional, named))[0]
            before = target._version
            output: Tensor = func(*positional, **named)
            changed.append(target._version != before)
            return output

        def compute() -> Tensor:
            return function([x.detach().clone() for x in inputs])

        output = self._apply(compute, way(function, inputs), inputs, self._layer)
        return flatten_tensors((args, kwargs))[0].copy_(output) if changed[0] else output

    def _linear(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """Run a convolution or a fully connected layer, whose rule the composite has."""
        given = dict(zip(_LINEAR_ARGUMENTS, args, strict=False)) | kwargs
        x, weight, bias = given["input"], given["weight"], given.get("bias")
        if _dependent((weight, bias)):
            raise self._no_rule(f"{name} whose weights depend on the image")
        rest = {key: value for key, value in kwargs.items() if key not in _LINEAR_ARGUMENTS}

        def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            result: Tensor = func(x, weight, bias, *args[3:], **rest)
            return result

        kind = functions.LAYERS[name]
        is_first = kind in self._composite.first_kinds and not self._has_first
        self._has_first |= is_first
        rule = self._composite.rule(kind, self._layer, first=is_first)
        call = LinearCall(run=run, input=_wide(x).clone(), weight=_wide(weight),
                          bias=None if bias is None else _wide(bias))  # fmt: skip
        folding = _Folding(call, rule, x, 1 if "transpose" in name else 0, self._layer)
        output = self._apply_layer(folding, lambda: func(*args, **kwargs))
        if kind == "convolution" or output.ndim == 2:
            self._foldings[output] = folding, output._version
        return output

    def _apply_layer(self, layer: _Folding, compute: Callable[[], Tensor]) -> Tensor:
        x = layer.input

        def share(relevance: Tensor) -> tuple[Tensor, ...]:
            return (layer.rule.relevance(layer.call, relevance.to(layer.call.input)).to(x),)

        return self._apply(compute, share, [x], layer.layer)

    def _folded_norm(self, args: Any, kwargs: Any) -> Tensor | None:
        """Run a batch norm folded into the layer whose output it gets; None: it cannot be."""
        bound = _BATCH_NORM.bind(*args, **kwargs)
        bound.apply_defaults()
        norm = bound.arguments
        x = norm["input"]
        layer: _Folding
        layer, version = self._foldings.get(x, (None, None))
        if version != x._version or norm["training"]:  # no layer's output, or changed in place
            return None
        weight = layer.call.weight
        if weight.shape[layer.axis] != x.shape[1]:  # transposed, in groups
            return None
        mean, variance = _wide(norm["running_mean"]), _wide(norm["running_var"])
        scale = (variance + norm["eps"]).rsqrt()
        scale = scale if norm["weight"] is None else scale * _wide(norm["weight"])
        shift = -mean if layer.call.bias is None else layer.call.bias - mean
        bias = shift * scale if norm["bias"] is None else shift * scale + _wide(norm["bias"])
        sizes = [-1 if axis == layer.axis else 1 for axis in range(weight.ndim)]
        folded = attrs.evolve(layer.call, weight=weight * scale.view(sizes), bias=bias)
        copy = {**norm, "input": x.detach()}
        return self._apply_layer(layer._replace(call=folded), lambda: F.batch_norm(**copy))

    def _marked(self, name: str, args: Any, output: Any) -> Any:
        """Return an output, marked as weights if it is a softmax, or one in another shape."""
        is_first = bool(args) and isinstance(args[0], Tensor) and args[0] in self._weights
        if isinstance(output, Tensor) and (name in functions.SHARES or is_first):
            self._weights[output] = True
        return output

    def _mixture(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Run a function that is linear in what depends on the image.

        Weights of attention count as constants (Ali et al. 2022, section 4.1): of attention as a
        function, and of a product with a softmax.
        """
        if name in functions.ATTENTION:
            args = tuple(_constant(x) if place < 2 else x for place, x in enumerate(args))
            kwargs = {key: _constant(x) if key in ("query", "key") else x
                      for key, x in kwargs.items()}  # fmt: skip
        inputs = _dependent((args, kwargs))
        if name in functions.ONE_SIDED and len(inputs) > 1:
            if not any(x in self._weights for x in inputs):
                error = self._no_rule(f"{name} of two tensors that both depend on the image")
                return self._shared(func, args, kwargs, lambda *_: sharing.refuse(error, inputs))
            args = map_tensors(args, lambda x: x.detach() if x in self._weights else x)
        if name != "multi_head_attention_forward":
            return self._shared(func, args, kwargs, sharing.in_proportion)
        with torch.no_grad():
            weights = func(*args, **kwargs)[1]
        answer = self._shared(lambda *a, **k: func(*a, **k)[0], args, kwargs, sharing.in_proportion)
        return answer, weights


_HOLE = torch.empty(0)  # among arguments, where something depends on the image
_BATCH_NORM = inspect.signature(F.batch_norm)
_WAYS: tuple[tuple[frozenset[str], Sharing], ...] = (
    (functions.ELEMENTWISE, sharing.to_first),
    (functions.SUMS, sharing.sum_of),
    (functions.PRODUCTS, sharing.in_halves),
    (functions.QUOTIENTS, sharing.to_first),
    (functions.SHARES, sharing.to_logits),
)


def _dependent(values: Any) -> list[Tensor]:
    """Return the tensors among arguments that depend on the image, in order."""
    return [tensor for tensor in flatten_tensors(values) if tensor.requires_grad]


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor without its graph, in single precision if it has less."""
    return tensor.detach().float() if tensor.dtype in _NARROW else tensor.detach()


def _constant(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _only_repeats(name: str, args: Any, kwargs: Any) -> bool:
    """Tell whether a function is an interpolation that only repeats numbers."""
    mode = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    return name in ("interpolate", "upsample") and str(mode).startswith("nearest")


def _route(func: Any, args: Any, kwargs: Any) -> Any:
    """Run a function with its own gradient; what that keeps is kept from a checkpoint's hooks."""
    with torch.autograd.graph.saved_tensors_hooks(Tensor.detach, lambda tensor: tensor):
        return func(*args, **kwargs)
