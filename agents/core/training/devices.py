"""Devices, and what each of them computes natively; precision, threads and randomness.

Whatever chooses a dtype, a number of threads or a recipe by the machine asks here.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

import torch

from agents.core.config import ConfigError


def choose(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `mps` stands for on this machine."""
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    available = [kind for kind, here in present.items() if here]
    if name == "auto":
        return torch.device(available[-1])
    if name not in available:
        problem = f"{name!r} is not available on this machine"
        raise ConfigError("device", "", problem, ", ".join(["auto", *available]))
    return torch.device(name)


def computes_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 natively: elsewhere it is emulated, 10 × slower.

    Of CPUs those with AVX512-BF16 or AMX do, unless the environment forbids torch or oneDNN to use
    them (`ATEN_CPU_CAPABILITY=avx2`, `ONEDNN_MAX_CPU_ISA=AVX2`).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if not (allowed in ("ALL", "DEFAULT") or "BF16" in allowed or "AMX" in allowed):
        return False
    # torch has no public question for this in all versions that we support
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def resolve_precision(name: str, device: torch.device) -> str:
    """Return `fp32` or `bf16`; `auto` is bf16 where the device multiplies bf16 natively."""
    if name != "auto":
        return name
    return "bf16" if computes_bf16(device) else "fp32"


def autocast(precision: str, device: torch.device, cache: bool = True) -> torch.autocast:
    """Return the context in which a forward pass computes in the given precision.

    `cache`: keep weights once they are converted; threads that compute side by side share it.
    """
    enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads: the last bits of a sum depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def generators(device: torch.device) -> dict[str, torch.Generator]:
    """Return the generators that torch draws from when it computes on `device`, by kind."""
    found = {"cpu": torch.default_generator}
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        found["cuda"] = torch.cuda.default_generators[index]
    if device.type == "mps":
        found["mps"] = torch.mps._get_default_mps_generator()
    return found


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the generators that torch draws from on `device`, by kind of device."""
    return {kind: generator.get_state() for kind, generator in generators(device).items()}


@contextlib.contextmanager
def own_randomness(
    device: torch.device, seed: int, states: Mapping[str, torch.Tensor] | None = None
) -> Iterator[None]:
    """Draw from `states`, or anew from `seed`, within a block; then put the caller's states back.

    Dropout and the initialisation of torch's modules draw from the global generators: they take no
    generator argument. Those of other devices stay as they are.
    """
    own, before = generators(device), random_state(device)
    try:
        for kind, generator in own.items():
            generator.manual_seed(seed)
            if states is not None and kind in states:
                generator.set_state(states[kind].cpu())
        yield
    finally:
        for kind, generator in own.items():
            generator.set_state(before[kind])


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Make new tensors of floats float32 within a block, whatever torch's default dtype is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
