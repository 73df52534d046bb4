"""Model cost: parameters, multiply-adds (MACs) and output sizes of each layer."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from visualization.core.dispatch import DispatchMode
from visualization.core.errors import value_error
from visualization.core.packing import flatten_tensors
from visualization.core.preserve import check_module, hooks, preserve_state
from visualization.core.records import brief_repr

OUTSIDE = "outside any layer"
_CELLS = (nn.RNNBase, nn.RNNCellBase)
_UNCOUNTED = frozenset({  # words in the names of operators that multiply matrices
    "addbmm", "addmm", "attention", "baddbmm", "bmm", "cdist", "cholesky", "conv", "conv2d",
    "conv3d", "convolution", "det", "eig", "eigh", "eigvals", "fft", "gru", "hspmm", "inv",
    "linear", "lstm", "lstsq", "lu", "matmul", "matrix", "mm", "qr", "rnn", "slogdet", "smm",
    "solve", "sspaddmm", "svd", "transformer", "trilinear",
})  # fmt: skip


@attrs.frozen(kw_only=True)
class LayerCost:
    """One layer with parameters of its own, or with products that none of its parts counts.

    A layer that runs functions such as `F.conv2d` itself is counted for them; what runs while no
    module does is the row `outside any layer`. A layer of parameters that was never called has 0
    calls.
    """

    name: str  # "" is the model itself
    kind: str
    output_shape: tuple[int, ...]  # of the last call, the batch included
    calls: int
    num_parameters: int  # of its own; one that layers share counts for the first
    multiply_adds: int | None  # over all calls and the whole batch; None: cannot be counted
    output_bytes: int  # of what it returned, over all calls and the whole batch


@attrs.frozen(field_transformer=brief_repr)
class CostTable:
    """The layers of a model in the order of their first call, and how many samples were counted."""

    layers: tuple[LayerCost, ...]
    num_samples: int

    @property
    def num_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers that can be counted, for all samples."""
        return sum(layer.multiply_adds or 0 for layer in self.layers)


@attrs.define
class _Count:
    """What is known so far of one module, or of what runs outside all."""

    calls: int = 0
    output_shape: tuple[int, ...] = ()
    output_bytes: int = 0
    multiply_adds: int = 0
    countable: bool = True


class CostCounter:
    """Counts the layers of a model while it runs, any number of calls.

    Multiply-adds are those of the matrix products and convolutions; element-wise work (gates,
    activations, norms, biases) is not counted. They are counted operator by operator, with the
    formulas of `torch.utils.flop_counter`, and go to the innermost module that is running. A
    recurrent layer, whose operators are fused, costs, per time step, layer and direction,
    gates · hidden · (input + hidden), with 4, 3 and 1 gates for LSTM, GRU and RNN.
    """

    def __init__(self, model: nn.Module) -> None:
        check_module(model)
        self._names = {module: name for name, module in model.named_modules()}
        self._running: list[nn.Module] = []
        self._counts: dict[nn.Module | None, _Count] = {}

    def _begin(self, module: nn.Module, _: Any) -> None:
        self._running.append(module)
        self._counts.setdefault(module, _Count())

    def _end(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        self._running.pop()
        count, outputs = self._counts[module], flatten_tensors(output)
        count.calls += 1
        count.output_shape = tuple(outputs[0].shape) if outputs else ()
        count.output_bytes += sum(tensor.numel() * tensor.element_size() for tensor in outputs)
        if isinstance(module, _CELLS) and outputs:
            count.multiply_adds += _recurrent(module, flatten_tensors((args, kwargs))[0])

    def _operator(self, multiply_adds: int | None) -> None:
        module = self._running[-1] if self._running else None
        if isinstance(module, _CELLS):
            return  # some of their kernels are fused, and some are not
        if multiply_adds == 0 and module is None:
            return
        count = self._counts.setdefault(module, _Count())
        count.countable &= multiply_adds is not None
        count.multiply_adds += multiply_adds or 0

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Count every call of a layer, and every product, while the block runs."""
        opened = [m for m in self._names if not isinstance(m, torch.jit.ScriptModule)]
        before = [module.register_forward_pre_hook(self._begin) for module in opened]
        after = [
            module.register_forward_hook(self._end, with_kwargs=True, always_call=True)
            for module in opened
        ]
        with hooks([*before, *after]), _unfused_attention(), _Operators(self._operator):
            try:
                yield
            finally:
                self._running.clear()

    def table(self, num_samples: int) -> CostTable:
        """Return what was counted."""
        counted: set[nn.Parameter] = set()
        rows = []
        for module in [*self._counts, *(m for m in self._names if m not in self._counts)]:
            count = self._counts.get(module, _Count())
            own = list(module.parameters(recurse=False)) if module is not None else []
            if not own and not count.multiply_adds and count.countable:
                continue
            rows.append(
                LayerCost(
                    name=OUTSIDE if module is None else self._names[module],
                    kind="functions" if module is None else type(module).__name__,
                    output_shape=count.output_shape,
                    calls=count.calls,
                    num_parameters=sum(p.numel() for p in own if p not in counted),
                    multiply_adds=count.multiply_adds if count.countable else None,
                    output_bytes=count.output_bytes,
                )
            )
            counted.update(own)
        return CostTable(tuple(rows), num_samples)


def cost(model: nn.Module, inputs: Tensor | Sequence[Tensor]) -> CostTable:
    """Model cost: parameters, multiply-adds (MACs) and outputs of each layer, in one pass.

    The model runs in evaluation mode, without gradients, and is left as it was.

    Args:
        model: any module.
        inputs: what it is called with, the batch first, such as images (B, C, H, W); several
            tensors are its arguments in order.

    Raises:
        ValueError: no tensor is given, or one without a batch; or `model` is not a module.
    """
    arguments = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    if (
        not arguments
        or not isinstance(arguments[0], Tensor)
        or not arguments[0].ndim
        or not len(arguments[0])
    ):
        kinds = ", ".join(_kind(each) for each in arguments) or "nothing"
        raise value_error("inputs", kinds, "a tensor (batch, …), or several of them")
    counter = CostCounter(model)
    with preserve_state(model), torch.no_grad(), counter.watch():
        model(*arguments)
    return counter.table(len(arguments[0]))


def _kind(value: Any) -> str:
    """Return what a value is in a few words, whatever is in it."""
    is_tensor = isinstance(value, Tensor)
    return f"shape {tuple(value.shape)}" if is_tensor else f"a {type(value).__name__}"


class _Operators(DispatchMode):
    """Tells the multiply-adds of each operator that runs, None of one that cannot be counted.

    An operator that has no formula is taken apart into others as far as torch can.
    """

    def __init__(self, tell: Callable[[int | None], None]) -> None:
        from torch.utils.flop_counter import flop_registry  # 0.2 s, seldom needed

        super().__init__()  # type: ignore[no-untyped-call]
        self._tell, self._formulas = tell, flop_registry

    def _formula(self, func: Any) -> Callable[..., int] | None:
        """Return the formula of an operator; of one that works in place, of its twin."""
        name = func._schema.name.removeprefix("aten::")
        if name.startswith("_scaled_dot_product") and not name.endswith("backward"):
            return _attention
        twin = getattr(torch.ops.aten, name.removesuffix("_"), None)
        return self._formulas.get(func.overloadpacket) or self._formulas.get(twin)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operator, or its parts."""
        keywords = kwargs or {}
        formula = self._formula(func)
        if formula is None:
            with self:
                output = func.decompose(*args, **keywords)
            if output is not NotImplemented:
                return output
        output = func(*args, **keywords)
        if formula is None:
            self._tell(_products(func, args))
        else:  # which has two operations for each multiply-add
            self._tell(int(formula(*args, **keywords, out_val=output)) // 2)
        return output


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Return twice the multiply-adds of attention (…, L, E), (…, S, E), (…, S, F), all of it."""
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _products(func: Any, args: tuple[Any, ...]) -> int | None:
    """Return the multiply-adds of an operator that torch has no formula for."""
    _, _, name = func._schema.name.partition("::")
    if name in ("mv", "dot", "vdot"):
        return int(args[0].numel())
    if name == "addmv":
        return int(args[1].numel())
    is_plain = func.namespace in ("aten", "prims", "prim") and _UNCOUNTED.isdisjoint(
        name.split("_")
    )
    return 0 if is_plain else None


@contextlib.contextmanager
def _unfused_attention() -> Iterator[None]:
    """Disable the fused `nn.MultiheadAttention` in the block."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _recurrent(module: nn.Module, inputs: Tensor) -> int:
    """Return the multiply-adds of a call of a recurrent layer.

    Every weight matrix is used once per sample and time step, in each layer and direction.
    """
    matrices = sum(p.numel() for p in module.parameters() if p.ndim == 2)
    return matrices * math.prod(inputs.shape[:-1])
