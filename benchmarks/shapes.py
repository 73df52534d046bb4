"""The matrix products of a training step, by their shapes; it needs torch alone."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch


class Product(NamedTuple):
    """`count` products of (rows, inner) by (inner, columns)."""

    count: int
    rows: int
    inner: int
    columns: int


def lstm_products(batch: int, time: int, inputs: int, hidden: int) -> list[Product]:
    """Return the products of an LSTM layer, forward and backward, whose input has no gradient.

    Forward: inputs to all gates at once, and the hidden state at each time step. Backward: the
    gradient of the hidden state at each time step, and those of the two weights at once.
    """
    gates = 4 * hidden
    return [
        Product(1, batch * time, inputs, gates),
        Product(time, batch, hidden, gates),
        Product(time, batch, gates, hidden),
        Product(1, gates, batch * time, inputs),
        Product(1, gates, batch * time, hidden),
    ]


def linear_products(rows: int, inputs: int, outputs: int) -> list[Product]:
    """Return the products of a linear layer: output, gradient of the input and of the weight."""
    return [
        Product(1, rows, inputs, outputs),
        Product(1, rows, outputs, inputs),
        Product(1, outputs, rows, inputs),
    ]


def flops(products: Iterable[Product]) -> int:
    """Return the multiplications and additions of all products."""
    return sum(2 * p.count * p.rows * p.inner * p.columns for p in products)


def multiplication(
    product: Product, dtype: torch.dtype, device: str = "cpu"
) -> Callable[[int], None]:
    """Return what computes a product a number of times, on random matrices made beforehand."""
    left = torch.randn(product.rows, product.inner, device=device).to(dtype)
    right = torch.randn(product.inner, product.columns, device=device).to(dtype)
    out = left.new_empty(product.rows, product.columns)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    return multiply
