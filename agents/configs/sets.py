"""Settings of the agents over sets and graphs."""

from typing import Literal

import attrs

from agents.core.config import AgentConfig, setting, with_default

Aggregation = Literal["sum", "mean", "max", "min"]
_READ_OUT = "how the states of all objects are aggregated to the vector from which is read"


@attrs.frozen(kw_only=True)
class SetConfig(AgentConfig):
    """Read-out and recipe that the agents over sets share.

    The code of Xu et al. 2020 (1905.13211) has 256 hidden units, 3 layers, a read-out of 4 layers
    with a dropout of 0.5, sums as aggregation, Adam at 5e-4 with a weight decay of 1e-5, 64 samples
    a step, and 150 epochs. The defaults here learn in fewer steps.
    """

    hidden_size: int = setting(128, "hidden units of each layer", ge=1)
    num_read_out_layers: int = setting(
        3, "layers of the perceptron from one vector of the set to the answer", ge=1, le=32
    )
    dropout: float = setting(
        0.0, "share of the inputs of the last two layers of the read-out left out, in training",
        ge=0.0, lt=1.0,
    )  # fmt: skip
    initialization: Literal["uniform", "he"] = setting(
        "uniform",
        "weights at first. uniform: as torch draws them, which shrinks what a layer passes on; he: "
        "wider, so that deep networks pass on what they read, and the last layer 0",
    )
    learning_rate: float = with_default("learning_rate", 3e-3)
    batch_size: int = with_default("batch_size", 64)
    steps: int = with_default("steps", 20_000)
    eval_every: int | None = with_default("eval_every", 1_000)
    save_every: int = with_default("save_every", 1_000)


@attrs.frozen(kw_only=True)
class MLPConfig(SetConfig):
    """Sizes of the perceptron, which is all read-out."""

    sort_objects: bool = setting(
        False, "put the objects in the order of the feature that the task names, the least first"
    )


@attrs.frozen(kw_only=True)
class DeepSetsConfig(SetConfig):
    """Sizes of Deep Sets."""

    num_layers: int = setting(
        3, "layers of the perceptron that is applied to each object", ge=1, le=32
    )
    read_out: Aggregation = setting("max", _READ_OUT)


@attrs.frozen(kw_only=True)
class GNNConfig(SetConfig):
    """Sizes of the graph network."""

    num_rounds: int = setting(1, "rounds of messages (the paper's iterations or layers)", ge=1)
    num_layers: int = setting(
        3, "layers of the perceptron that makes a message of two objects", ge=1, le=32
    )
    aggregation: Aggregation = setting(
        "max", "how the messages to an object are aggregated to its next state"
    )
    read_out: Aggregation = setting("max", _READ_OUT)
    share_rounds: bool = setting(
        False, "use the same weights in every round (the paper has some for each)"
    )
    residual: bool = setting(
        False, "residual connections: a round adds the messages to an object's state, and the sum "
        "is normalised (layer norm), so that several rounds can be trained (the paper has none)",
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class ExhaustiveSearchConfig(SetConfig):
    """Sizes of neural exhaustive search."""

    num_layers: int = setting(
        1, "layers of the perceptron that is applied to the LSTM's last state of each subset; 0: "
        "none", ge=0, le=32,
    )  # fmt: skip
    read_out: Aggregation = setting(
        "max", "how the vectors of all subsets are aggregated to one, from which is read"
    )


@attrs.frozen(kw_only=True)
class SetTransformerConfig(SetConfig):
    """Sizes of the Transformer over sets."""

    num_layers: int = setting(2, "number of self-attention blocks", ge=1, le=32)
    num_heads: int = setting(
        4, "number of attention heads; each has hidden_size / num_heads features", ge=1
    )
    read_out: Aggregation = setting("max", _READ_OUT)
