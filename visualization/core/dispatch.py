"""Dispatch modes that see every operator of a block, without torch's compiler."""

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A `TorchDispatchMode` whose first use does not import torch's compiler, which takes seconds.

    A subclass defines `__torch_dispatch__`.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
