"""Agents over sets and graphs: what those share that read objects with a mask.

B samples, n places for objects, F features of an object, D hidden units, K labels.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.sets import SetConfig
from agents.core.classification import Classifier
from agents.core.config import ConfigError
from agents.core.layers import HiddenLinear
from agents.core.training.loop import to_device
from tasks.core.task import SetTargets, SetToTarget

if TYPE_CHECKING:
    from agents.core.export import Graph
    from agents.core.inspection.observation import Observation


class SetAgent(Classifier):
    """Base class of agents whose model is called with objects (B, n, F), mask (B, n), and edges.

    Edges are (B, n, n), or None for sets. It returns logits (B, K), trained by the cross entropy,
    or, for a task without labels, numbers (B, 1), trained by the squared error.
    """

    spec_type = SetToTarget
    config: Any

    @property
    def samples_are_independent(self) -> bool:
        """True without dropout: the loss is not random, and no sample affects another."""
        return not self.config.dropout

    def outputs(self, network: Callable[..., Tensor], batch: SetTargets) -> Tensor:
        """Return logits (B, K) or numbers (B, 1) of a batch of tensors.

        Raises:
            ConfigError: outside of training, where only the task's samples are: a set is empty, or
                has NaN or inf.
        """
        if torch.is_inference_mode_enabled():
            check_sets(batch)
        return network(batch.objects, batch.mask, batch.edges).float()

    def loss(self, batch: SetTargets) -> Tensor:
        """Return the mean cross entropy of labels, in nats, or squared error of scaled numbers."""
        outputs = self.outputs(self.network, batch)
        if self.task.spec.labels is None:
            return F.mse_loss(outputs, batch.target)
        return F.cross_entropy(outputs, batch.target[:, 0])

    def predict_batch(self, batch: SetTargets) -> Tensor:
        """Return the likeliest labels, or the numbers (batch, 1)."""
        outputs = self.outputs(self.model, batch)
        return outputs if self.task.spec.labels is None else outputs.argmax(-1, True)

    def observe(self, batch: SetTargets) -> "Observation":
        """Return the observation of a batch."""
        from agents.core.inspection.observation import observe

        if self.task.spec.labels is None:
            return observe(self, batch, recurrent=())
        tensors = to_device(batch, self.device)
        return self._observe(batch, lambda: self.outputs(self.model, tensors), recurrent=())

    def export_graph(self) -> "Graph":
        """Return the graph from objects, mask and edges to logits or numbers.

        The number of places is that of the largest set: smaller ones are padded. ONNX has no stable
        sort, so that agents which sort objects are refused by `export_onnx`.
        """
        from agents.core.export import Graph  # not needed for training

        spec = self.task.spec

        def inputs(batch: SetTargets) -> dict[str, Tensor]:
            objects, _, mask, edges = (None if a is None else torch.as_tensor(a) for a in batch)
            assert objects is not None
            assert mask is not None
            more = spec.size - mask.shape[1]
            named = {"objects": F.pad(objects, (0, 0, 0, more)), "mask": F.pad(mask, (0, more))}
            return named if edges is None else {**named, "edges": F.pad(edges, (0, more, 0, more))}

        names = ["objects", "mask", *(["edges"] if spec.has_edges else []), "output"]
        said = "numbers, divided by the task's scale" if spec.labels is None else "logits of labels"
        return Graph(
            module=self.model, inputs=inputs, output="output",
            axes={name: {0: "batch"} for name in names},
            metadata={"labels": list(spec.labels or ()), "output": said},
        )  # fmt: skip


def check_sets(batch: SetTargets) -> None:
    """Raise a ConfigError if a set of a batch of tensors is empty, or not of finite numbers."""
    if not torch.as_tensor(batch.mask).any(1).all():
        raise ConfigError("batch", "mask", "a set is empty", "sets of one object and more")
    for field in ("objects", "edges"):
        numbers = getattr(batch, field)
        if numbers is not None and not torch.as_tensor(numbers).isfinite().all():
            raise ConfigError("batch", field, "a set has NaN or inf", "finite numbers")


def num_outputs(spec: SetToTarget) -> int:
    """Return the number of labels, or 1 for a number."""
    return 1 if spec.labels is None else len(spec.labels)


def refuse_edges(name: str, spec: SetToTarget) -> None:
    """Raise a ConfigError if a task has edges, for an agent that does not read them."""
    if spec.has_edges:
        accepted = "a task over sets; gnn, set_transformer and mlp read edges"
        raise ConfigError(name, "task", "has edges, which it does not read", accepted)


def perceptron(num_in: int, size: int, num_out: int, num_layers: int) -> nn.Sequential:
    """Return a multilayer perceptron with a ReLU after each of its layers, the last included."""
    sizes = [num_in, *[size] * (num_layers - 1), num_out]
    layers: list[nn.Module] = []
    for number in range(num_layers):
        kind = HiddenLinear if number else nn.Linear
        layers += [kind(sizes[number], sizes[number + 1]), nn.ReLU()]
    return nn.Sequential(*layers)


def read_out(num_in: int, config: SetConfig, spec: SetToTarget) -> nn.Sequential:
    """Return the perceptron from one vector of a set (B, num_in) to its outputs (B, K)."""
    *hidden, last = range(config.num_read_out_layers)
    layers: list[nn.Module] = []
    for number in hidden:
        kind = HiddenLinear if number else nn.Linear
        is_before_last = number == last - 1 and config.dropout
        layers += [nn.Dropout(config.dropout)] if is_before_last else []
        layers += [kind(config.hidden_size if number else num_in, config.hidden_size), nn.ReLU()]
    layers += [nn.Dropout(config.dropout)] if config.dropout else []
    return nn.Sequential(
        *layers, nn.Linear(config.hidden_size if hidden else num_in, num_outputs(spec))
    )


def initialized(model: nn.Module, config: SetConfig) -> nn.Module:
    """Return a model with the weights of its linear layers as `initialization` says.

    he: normal with a variance of 2 / inputs, biases 0 (He et al. 2015, 1502.01852, equation 10),
    so that ReLUs keep the variance of what they are given; torch's own have a sixth of it, and
    after three rounds of three layers the states of a graph network are all but equal. The last
    layer is 0: at first all labels are equally likely.
    """
    if config.initialization == "he":
        layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(layers[-1].weight)
    return model


def aggregate(values: Tensor, mask: Tensor, how: str) -> Tensor:
    """Aggregate vectors (…, n, D) where the mask (…, n) is true: their sum, mean, max or min.

    There is at least one such vector.
    """
    if how in ("max", "min"):
        sign = 1 if how == "max" else -1
        most = values.masked_fill(~mask[..., None], -sign * torch.inf)
        return most.amax(-2) if sign > 0 else most.amin(-2)
    weights = mask.to(values.dtype)[..., None, :]
    if how == "mean":
        weights = weights / weights.sum(-1, keepdim=True)
    return (weights @ values).squeeze(-2)


def in_order(objects: Tensor, mask: Tensor, first: int) -> Tensor:
    """Return indices (B, n) that put objects in the order of a feature, absent ones at the end.

    Equal ones are in the order of the other features. Only those that are equal in all of them,
    such as nodes of a graph, stay in the order in which they came.
    """
    order = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    others = [column for column in range(objects.shape[-1]) if column != first]
    keys = [objects[..., column] for column in [*others, first]]
    for key in [*keys, (~mask).to(objects.dtype)]:  # the last one counts most
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order


def reorder(objects: Tensor, order: Tensor) -> Tensor:
    """Return objects (B, n, F) in an order (B, n)."""
    return objects.gather(1, order[..., None].expand_as(objects))
