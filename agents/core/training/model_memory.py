"""Memory of a model: one that does not fit is refused before its weights are initialised."""

import contextlib
import threading
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from agents.core.config import ConfigError
from tasks.core.memory import UNKNOWN, describe_bytes, free_memory, is_out_of_memory

_MOST_TENSORS = 10_000  # of a model; the largest language models have some 2,000
_TOO_LARGE = ("overflow", "storage size calculation")  # in torch's words: no memory is so large


@contextlib.contextmanager
def fitting(name: str) -> Iterator[None]:
    """Build a model in a block, if its weights and their gradients fit in the memory that is free.

    Parameters are counted as modules register them. By then Linux has reserved memory for them, and
    given none; so the limit is met before another process could be killed.

    Raises:
        ConfigError: names the model, and how much it needs.
    """
    free, needed, thread = free_memory(), 0, threading.get_ident()
    counted: dict[int, nn.Parameter] = {}  # kept, so that no other gets the same number
    accepted = "smaller sizes"
    if free < UNKNOWN:
        accepted += f": {describe_bytes(free)} of memory are free"

    def count(module: nn.Module, _: str, parameter: nn.Parameter | None) -> None:
        nonlocal needed
        if parameter is None or threading.get_ident() != thread or id(parameter) in counted:
            return  # of another agent's model, or tied weights
        counted[id(parameter)] = parameter
        if len(counted) > _MOST_TENSORS:
            problem = f"it has more than {_MOST_TENSORS:,} tensors of weights"
            raise ConfigError(name, "", problem, "fewer layers")
        if not nn.parameter.is_lazy(parameter):
            needed += 2 * parameter.numel() * parameter.element_size()
        if needed > free:
            problem = f"its weights and their gradients need {describe_bytes(needed)} or more"
            raise ConfigError(name, "", problem, accepted)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except ConfigError:
        raise
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        text = str(error).partition("\n")[0]
        if is_out_of_memory(error) or any(words in text.lower() for words in _TOO_LARGE):
            problem = f"its weights are too large: {text}"
            raise ConfigError(name, "", problem, accepted) from error
        raise
    finally:
        hook.remove()
