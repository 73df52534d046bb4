"""Running one model on several devices: the only file that names the wrappers of torch.

The wrapper is held by the agent, beside the model. Held inside the model it would contain itself:
DataParallel registers the model as its child, and the model would register DataParallel as its own,
so that every walk over the modules (`train()`, `apply()`, `state_dict()`) would recurse for ever.
"""

import torch
from torch import nn


def wrap(model: nn.Module, kind: str, device: torch.device) -> nn.Module:
    """Return the callable that a training step runs: `model` itself, or a wrapper around it.

    Args:
        model: the bare module, on `device`; its parameters stay those that are trained and saved.
        kind: `none`, or `data` for DataParallel over all visible GPUs. On a machine without a GPU
            torch's DataParallel calls the module itself.
        device: where the model is. DataParallel would move it from the CPU to a GPU that it sees.
    """
    if kind == "none" or (device.type == "cpu" and torch.cuda.is_available()):
        return model
    return nn.DataParallel(model)
