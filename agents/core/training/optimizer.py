"""Optimisers: Adam, Muon for hidden-to-hidden matrices, and any of torch; learning rate schedules.

Adam and Muon use torch's fused kernels or plain matrix products on state by parameter name, so that
a checkpoint can be read without an optimiser. torch's `Optimizer` classes would import the compiler
at their first step (1.2 s) and cost 20 µs more in each.
"""

import abc
import math
from collections.abc import Mapping
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from agents.core.config import AgentConfig, ConfigError
from agents.core.layers import HiddenConv2d, HiddenLinear, HiddenLSTM
from agents.core.runs.checkpoint import CheckpointError, check_state_dict
from agents.core.training import parallel

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic that moves singular values towards 1
_NEWTON_SCHULZ_STEPS = 5


def hidden_matrices(model: nn.Module) -> set[str]:
    """Return the names of hidden-to-hidden matrices: both input and output are hidden units.

    Kernels of convolutions are matrices of outputs by inputs (Jordan et al. 2024).
    """
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.ndim in (2, 4) and _is_between_hidden(module, name)
    }


def _is_between_hidden(module: nn.Module, name: str) -> bool:
    if isinstance(module, (HiddenLinear, HiddenConv2d, HiddenLSTM)):
        return True
    if isinstance(module, nn.RNNBase):
        return name.startswith("weight_hh") or "_l0" not in name
    return False


def lr_factor_at(config: AgentConfig, step: int, total: int) -> float:
    """Learning rate schedule: return the factor of step `step` (from 1) of `total`.

    A pure function, so that a resumed run has the same rates.
    `one_cycle` (Smith 2018, 1803.09820): linear increase over `warmup`, then half a cosine to zero.
    `cosine` (Loshchilov and Hutter 2016, 1608.03983, eq. 5, without restarts): half a cosine
    alone. `step`: powers of `lr_decay`. `cyclical` (Smith 2015, 1506.01186, the triangular
    policy): linear from `lr_decay` to 1 and back, `lr_cycles` times. `warm_restarts`
    (1608.03983, section 3): `lr_cycles` cycles of `one_cycle`, each `lr_cycle_growth` times
    (T_mult) as long as the one before, so that a run on a small task can stop after an early one.
    """
    return _SCHEDULES[config.schedule](config, step, total)


def _one_cycle(config: AgentConfig, step: float, total: float) -> float:
    warmup = config.warmup * total
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup + 1)))


def _warm_restarts(config: AgentConfig, step: int, total: int) -> float:
    growth, num = config.lr_cycle_growth, config.lr_cycles
    begin, length = 0.0, total / sum(growth**part for part in range(num))  # of the first cycle
    while step - 0.5 > begin + length:
        begin, length = begin + length, length * growth
    return _one_cycle(config, step - begin, length)


def _cosine(config: AgentConfig, step: int, total: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * (step - 1) / total))


def _step(config: AgentConfig, step: int, total: int) -> float:
    return config.lr_decay ** ((step - 1) * config.lr_cycles // total)


def _cyclical(config: AgentConfig, step: int, total: int) -> float:
    phase = (step - 0.5) * config.lr_cycles / total % 1.0  # of the cycle
    return config.lr_decay + (1 - config.lr_decay) * (1 - abs(2 * phase - 1))


_SCHEDULES = {
    "one_cycle": _one_cycle,
    "warm_restarts": _warm_restarts,
    "constant": lambda config, step, total: 1.0,
    "cosine": _cosine,
    "step": _step,
    "cyclical": _cyclical,
}


class AnyOptimizer(abc.ABC):
    """Base class of optimisers, whose state is tensors by name.

    Attributes:
        config: of the agent.
        parameters: those that it updates, in a fixed order.
        num_matrices: number of them that Muon updates.
        can_skip: whether `step` takes `found_inf`.
    """

    config: AgentConfig
    parameters: list[nn.Parameter]
    num_matrices: int = 0
    can_skip = False

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name, for a checkpoint."""

    @abc.abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a saved state."""

    @abc.abstractmethod
    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Check names and shapes of a saved state.

        Raises:
            CheckpointError: a name or shape does not fit.
        """

    @abc.abstractmethod
    def step(self, lr_factor: float, num_threads: int = 1, found_inf: Tensor | None = None) -> None:
        """Update parameters that have a gradient, at `lr_factor` times the learning rate.

        Nothing changes where `found_inf`, a tensor (), is 1.0; it is given only if `can_skip`.
        """


@final
class TorchOptimizer(AnyOptimizer):
    """Optimiser of `torch.optim`, for `configure_optimizer`; its state is saved and restored.

    Args:
        model: the model whose parameters are optimised.
        optimizer: an optimiser of them, with the highest learning rate of each group: the schedule
            multiplies it in every step. One that needs a closure (LBFGS) is a ConfigError.
        config: of the agent.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, config: AgentConfig
    ) -> None:
        self.config, self._optimizer = config, optimizer
        names = {parameter: name for name, parameter in model.named_parameters()}
        groups = optimizer.param_groups
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ConfigError(
                "configure_optimizer()", "", "LBFGS needs a closure",
                "an optimiser whose step() needs none",
            )  # fmt: skip
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self._names = [names[parameter] for parameter in self.parameters]
        self._rates = [group["lr"] for group in groups]

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by `<parameter>/<kind>`; numbers are tensors without axes."""
        state = self._optimizer.state
        return {
            f"{name}/{kind}": torch.as_tensor(value)
            for name, parameter in zip(self._names, self.parameters, strict=True)
            for kind, value in state.get(parameter, {}).items()
            if value is not None
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a saved state; before the first step it is empty."""
        for name, parameter in zip(self._names, self.parameters, strict=True):
            kinds = {
                k.removeprefix(f"{name}/"): t
                for k, t in tensors.items()
                if _parameter_of(k) == name
            }
            if kinds:
                device = parameter.device
                self._optimizer.state[parameter] = {
                    kind: tensor.clone().to(device if tensor.ndim else tensor.device)
                    for kind, tensor in kinds.items()
                }

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that a saved state is of these parameters and of their shapes."""
        shapes = dict(zip(self._names, (p.shape for p in self.parameters), strict=True))
        for key, tensor in tensors.items():
            name = _parameter_of(key)
            if name not in shapes or (tensor.ndim and tensor.shape != shapes[name]):
                raise CheckpointError(f"the optimiser has no state {key!r} {tuple(tensor.shape)}")

    def step(self, lr_factor: float, num_threads: int = 1, found_inf: Tensor | None = None) -> None:
        """Take a step of each group at `lr_factor` times its learning rate."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * lr_factor
        self._optimizer.step()


def _parameter_of(key: str) -> str:
    """Return the parameter of a tensor of the state."""
    return key.rpartition("/")[0]


@final
class Optimizer(AnyOptimizer):
    """Adam (1412.6980) with decoupled decay (1711.05101), and Muon for hidden matrices.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the step is the Nesterov momentum
    with all singular values near 1, times the square root of rows over columns.

    Attributes:
        state: parameter name → kind of value → tensor.
    """

    can_skip = True

    def __init__(self, model: nn.Module, config: AgentConfig) -> None:
        self.config = config
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        matrices = hidden_matrices(model) if config.optimizer == "muon" else set()
        self._matrices = {name: p for name, p in named.items() if name in matrices}
        self._others = {name: p for name, p in named.items() if name not in matrices}
        self.state: dict[str, dict[str, Tensor]] = {
            name: {"momentum": torch.zeros_like(p)} for name, p in self._matrices.items()
        }
        for name, p in self._others.items():
            moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            step = torch.zeros((), dtype=torch.float32, device=p.device)
            self.state[name] = moments | {"step": step}
        self.parameters = [*self._matrices.values(), *self._others.values()]
        self.num_matrices = len(self._matrices)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by `<parameter>/<kind>`."""
        return {f"{n}/{kind}": t for n, kinds in self.state.items() for kind, t in kinds.items()}

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Check names and shapes of a saved state."""
        check_state_dict("optimizer", tensors, self.tensors())

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a saved state of the same names and shapes."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def step(self, lr_factor: float, num_threads: int = 1, found_inf: Tensor | None = None) -> None:
        """Move every parameter that has a gradient, at `lr_factor` times the highest learning rate.

        Matrices of Muon are orthogonalised in parallel by up to `num_threads` threads.
        """
        others = {name: p for name, p in self._others.items() if p.grad is not None}
        if others:
            self._adam(others, self.config.learning_rate * lr_factor, found_inf)
        matrices = {name: p for name, p in self._matrices.items() if p.grad is not None}
        if matrices:
            self._muon(matrices, self.config.muon_learning_rate * lr_factor, num_threads, found_inf)

    def _adam(
        self, named: Mapping[str, nn.Parameter], learning_rate: float, found_inf: Tensor | None
    ) -> None:
        state = [self.state[name] for name in named]
        adam(
            list(named.values()),
            [p.grad for p in named.values() if p.grad is not None],
            [s["exp_avg"] for s in state],
            [s["exp_avg_sq"] for s in state],
            [],
            [s["step"] for s in state],
            foreach=False,
            fused=True,
            found_inf=found_inf,
            amsgrad=False,
            beta1=0.9,
            beta2=self.config.adam_beta2,
            lr=learning_rate,
            weight_decay=self.config.weight_decay,
            decoupled_weight_decay=True,
            eps=1e-8,
            maximize=False,
        )

    def _muon(
        self, named: Mapping[str, nn.Parameter], learning_rate: float, num_threads: int,
        found_inf: Tensor | None,
    ) -> None:  # fmt: skip
        parameters = list(named.values())
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self.state[name]["momentum"] for name in named]
        momentum = self.config.muon_momentum
        taken = 1.0 if found_inf is None else 1 - found_inf
        if found_inf is not None:  # the momentum, moved towards itself, stays
            gradients = [
                torch.where(found_inf > 0, own, gradient)
                for own, gradient in zip(momenta, gradients, strict=True)
            ]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        nesterov = torch._foreach_lerp(gradients, momenta, momentum)
        updates = [update.flatten(1) for update in nesterov]
        mapping = parallel.map_threads if num_threads > 1 else map
        for parameter, direction in zip(
            parameters,
            mapping(orthogonalize, updates),
            strict=True,
        ):
            rows, columns = direction.shape
            scale = max(1.0, rows / columns) ** 0.5
            if self.config.weight_decay:
                parameter.mul_(1 - taken * learning_rate * self.config.weight_decay)
            update = direction if found_inf is None else direction * taken
            parameter.add_(update.view_as(parameter), alpha=-learning_rate * scale)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Orthogonalise a matrix U S Vᵀ: U Vᵀ, roughly, by five Newton–Schulz steps (Jordan 2024).

    Singular values that are not tiny relative to the largest become 0.7 to 1.2, about; the tiniest
    ones are smaller. Deviation: a step X ← p(X Xᵀ) X is computed on X Xᵀ, as small as the matrix is
    narrow, and X itself is multiplied once, by the product of all p. In float32 that is the same to
    six digits, in half the time for the 4H × H matrices of an LSTM.
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().mT
    x = x / x.norm().clamp(min=1e-7)
    gram, product = x @ x.mT, None
    for left in reversed(range(_NEWTON_SCHULZ_STEPS)):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ gram @ factor
    x = cast("Tensor", product) @ x
    return cast("Tensor", x if matrix.shape[0] <= matrix.shape[1] else x.mT).to(matrix.dtype)
