"""Set Transformer: self-attention over the objects of a set or graph, without positions.

Blocks as in Lee et al. 2019, 1810.00825, section 3.1 (SAB), with layer norm before each part; the
states are then aggregated as in the other agents, and not by attention. On a graph an object looks
at all others: what its heads add to the score of a pair is a linear map of the edge's weight and of
whether there is one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.sets import SetTransformerConfig
from agents.core.config import ConfigError
from agents.core.layers import HiddenLinear
from agents.core.sets import SetAgent, aggregate, initialized, read_out
from tasks.core.task import SetToTarget


class AttentionBlock(nn.Module):
    """Self-attention and perceptron, each added to its normalised input. N heads."""

    def __init__(self, size: int, num_heads: int, has_edges: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query = HiddenLinear(size, size)
        self.key = HiddenLinear(size, size, bias=False)  # it would add the same to all scores
        self.value, self.out = HiddenLinear(size, size), HiddenLinear(size, size)
        self.edge = nn.Linear(2, num_heads, bias=False) if has_edges else None
        self.widen, self.narrow = HiddenLinear(size, 2 * size), HiddenLinear(2 * size, size)

    def forward(self, state: Tensor, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Return states (B, n, D) of states; places where the mask is false are not looked at."""
        x = self.norm1(state)
        query, key, value = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        bias = torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -torch.inf)[:, None, None]
        if self.edge is not None and edges is not None:
            pairs = torch.stack([edges, (edges > 0).to(edges.dtype)], dim=-1)
            bias = bias + self.edge(pairs).permute(0, 3, 1, 2)
        looked = _attention(query, key, value, bias.to(x.dtype))
        state = state + self.out(looked.transpose(1, 2).flatten(2))
        hidden: Tensor = self.narrow(F.relu(self.widen(self.norm2(state))))
        return state + hidden


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot-product attention (B, N, n, D / N), with the bias added to its scores.

    On a CPU in single precision: the backward pass of torch's kernel takes many times as long in
    bf16.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    with torch.autocast("cpu", enabled=False):
        looked = F.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=bias.float()
        )
    return looked.to(query.dtype)


class SetTransformerNetwork(nn.Module):
    """States of objects, blocks of self-attention, and read-out."""

    def __init__(self, config: SetTransformerConfig, spec: SetToTarget) -> None:
        super().__init__()
        size, self.how = config.hidden_size, config.read_out
        self.embed = nn.Linear(spec.num_features, size)
        self.blocks = nn.ModuleList(
            AttentionBlock(size, config.num_heads, spec.has_edges) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.read_out = read_out(size, config, spec)

    def forward(self, objects: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return outputs (B, K) of objects (B, n, F)."""
        state = self.embed(objects)
        for block in self.blocks:
            state = block(state, mask, edges)
        outputs: Tensor = self.read_out(aggregate(self.norm(state), mask, self.how))
        return outputs


class SetTransformer(SetAgent):
    """Set Transformer: self-attention over objects without positions, of a set or a graph."""

    name = "set_transformer"
    Config = SetTransformerConfig
    config: SetTransformerConfig
    model: SetTransformerNetwork

    @staticmethod
    def build_model(config: SetTransformerConfig, spec: SetToTarget) -> nn.Module:
        """Return the network for the task's features.

        Raises:
            ConfigError: the heads cannot share out the hidden units.
        """
        size, heads = config.hidden_size, config.num_heads
        if size % heads:
            problem = f"{size} cannot be divided among {heads} heads"
            raise ConfigError("set_transformer", "hidden_size", problem, f"a multiple of {heads}")
        return initialized(SetTransformerNetwork(config, spec), config)
