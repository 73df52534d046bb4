"""Functions of torch by what becomes of relevance in them.

Names are without underscores at their ends: `add` means `torch.add`, `x + y` and `x.add_(y)`.
"""

LAYERS = {
    **{f"conv{n}d": "convolution" for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": "convolution" for n in (1, 2, 3)},
    "linear": "linear",
}
"""Linear layers, by kind: the composite says which rule they have."""

ROUTES = frozenset([
    "get", "getitem", "setitem", "view", "view_as", "reshape", "reshape_as", "flatten",
    "unflatten", "ravel", "permute", "transpose", "t", "swapaxes", "swapdims", "movedim",
    "moveaxis", "squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "repeat", "tile",
    "repeat_interleave", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack",
    "split", "split_with_sizes", "chunk", "unbind", "tensor_split", "narrow", "select",
    "index_select", "gather", "take_along_dim", "diagonal", "flip", "rot90", "roll", "unfold",
    "pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "where", "masked_fill",
    "masked_select", "clone", "contiguous", "to", "float", "double", "half", "bfloat16", "type",
    "type_as", "cpu", "cuda", "copy", "fill", "zero", "max", "min", "amax", "amin", "maximum",
    "minimum", "topk", "sort", "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "max_pool1d_with_indices",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "detach", "requires_grad",
    "retain_grad", "register_hook",
])  # fmt: skip
"""Each output is one of the inputs, or a constant: relevance follows the number, as gradients do.

Max pooling is among them: its winner takes all.
"""

ELEMENTWISE = frozenset([
    "relu", "relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "threshold",
    "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish",
    "hardsigmoid", "sigmoid", "expit", "logsigmoid", "tanh", "softplus", "softsign",
    "hardshrink", "softshrink", "tanhshrink", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "alpha_dropout", "feature_alpha_dropout", "neg", "negative", "abs", "sqrt", "square", "pow",
    "exp", "log", "erf", "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm",
    "local_response_norm",
])  # fmt: skip
"""Relevance passes unchanged: activations, dropout, and normalisations, which only rescale."""

SUMS = frozenset(["add", "sub", "subtract", "radd", "rsub", "iadd", "isub"])
"""In proportion to the two summands; a constant gets none."""

PRODUCTS = frozenset(["mul", "multiply", "rmul", "imul"])
"""Half to each factor (the uniform rule of Achtibat et al. 2024); a constant gets none."""

QUOTIENTS = frozenset(
    ["div", "divide", "true_divide", "truediv", "itruediv", "rdiv", "rtruediv", "reciprocal"]
)
"""All to the numerator; of a constant numerator, to the denominator."""

MIXTURES = frozenset([
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "mean", "sum", "cumsum", "interpolate", "upsample", "fold", "matmul",
    "rmatmul", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "tensordot",
    "scaled_dot_product_attention", "multi_head_attention_forward",
])  # fmt: skip
"""Linear in what depends on the image: in proportion to contributions, as LRP-ε."""

ATTENTION = frozenset(["scaled_dot_product_attention", "multi_head_attention_forward"])
"""Mixtures of values by weights that come from query and key, their first two arguments."""

ONE_SIDED = frozenset(
    ["matmul", "rmatmul", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "tensordot"]
)
"""Mixtures of which one operand alone may depend on the image, unless the other is a softmax."""

SHARES = frozenset(["softmax", "log_softmax"])
"""The relevance of a share becomes that of its logit: the logit is what is explained."""
