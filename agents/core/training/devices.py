"""Devices: their choice, native precision, threads, freed memory and random number generators."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping

import torch

from agents.core.config import ConfigError
from agents.core.training.launch import launched_rank

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # options of mallopt, as malloc.h has them
_KEPT = 2**30  # bytes


def choose(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `mps` means on this machine.

    Of several ranks on one machine each has the GPU of its local number.
    """
    is_present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    available = [kind for kind, present in is_present.items() if present]
    if name == "auto":
        name = available[-1]
    if name not in available:
        problem = f"{name!r} is not available on this machine"
        raise ConfigError("device", "", problem, ", ".join(["auto", *available]))
    rank = launched_rank()
    return torch.device(name) if rank is None or name != "cuda" else _gpu_of(rank.local_rank)


def is_asynchronous(device: torch.device) -> bool:
    """Tell whether a device computes while Python goes on, so that reading a number waits.

    That of Apple does, too, but its fused Adam takes no `found_inf`.
    """
    return device.type == "cuda"


def _gpu_of(local_rank: int) -> torch.device:
    """Return the GPU of a rank: the one of its number, of those that the process sees."""
    if local_rank < torch.cuda.device_count():
        return torch.device("cuda", local_rank)
    problem = f"this machine has no GPU for the rank with the local number {local_rank}"
    accepted = f"--nproc-per-node={torch.cuda.device_count()}, one rank for each GPU"
    raise ConfigError("device", "", problem, accepted)


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

    `cache`: keep converted weights; threads that compute parts of a batch would share the cache.
    """
    enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, on which the last bits of a sum depend; one flushes denormals.

    Gradients that vanish over thousands of time steps become numbers below 1.2e-38, with which many
    CPUs take a hundred times as long. One thread takes them for 0. Several are OpenMP's, each of
    which has the mode in which it began: there nothing is flushed, or bits would depend on that.
    """
    previous, flushed = torch.get_num_threads(), flushes_denormals()
    torch.set_num_threads(count)
    torch.set_flush_denormal(count == 1)
    try:
        yield
    finally:
        torch.set_num_threads(previous)
        torch.set_flush_denormal(flushed)


def flushes_denormals() -> bool:
    """Tell whether this thread of the CPU takes numbers next to 0 for 0."""
    smallest = torch.full((1,), torch.finfo(torch.float32).tiny, dtype=torch.float32, device="cpu")
    return not (smallest * 0.5).any()


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next arrays (mallopt), where the C library can.

    glibc gives large blocks back to the system, which clears each page again when it is used next:
    that takes up to half of the time in which a network runs over a batch of images.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # Before 2.35 glibc accepts no more than 32 MiB. It must take one, or the other does harm.
    if mallopt is not None and any(mallopt(_M_MMAP_THRESHOLD, size) for size in (_KEPT, 2**25)):
        mallopt(_M_TRIM_THRESHOLD, _KEPT)


def generators(device: torch.device) -> dict[str, torch.Generator]:
    """Return the generators that torch draws from when it computes on `device`, by kind."""
    by_kind = {"cpu": torch.default_generator}
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        by_kind["cuda"] = torch.cuda.default_generators[index]
    if device.type == "mps":
        by_kind["mps"] = torch.mps._get_default_mps_generator()
    return by_kind


def get_rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the generators that torch draws from on `device`, by kind of device."""
    return {kind: generator.get_state() for kind, generator in generators(device).items()}


@contextlib.contextmanager
def seeded_rng(
    device: torch.device, seed: int, states: Mapping[str, torch.Tensor] | None = None
) -> Iterator[None]:
    """Seed the generators of a device, or set their `states`, for a block; then restore them.

    Dropout and the initialisation of torch's modules draw from the global generators: they take no
    generator argument. Those of other devices stay as they are.
    """
    by_kind, previous = generators(device), get_rng_state(device)
    try:
        for kind, generator in by_kind.items():
            generator.manual_seed(seed)
            if states is not None and kind in states:
                generator.set_state(states[kind].cpu())
        yield
    finally:
        for kind, generator in by_kind.items():
            generator.set_state(previous[kind])


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Set torch's default dtype to float32 for a block."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(previous)
