"""What a device computes natively, and what is done where it does not."""

from pathlib import Path

import pytest
import torch

import agents
from agents.core.training import devices, parallel
from tasks.core.settings import ConfigError
from tests.conftest import small_agent

CPU = torch.device("cpu")


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take the CPU for one without AVX512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take the CPU for one with AVX512-BF16."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)


@pytest.mark.usefixtures("no_bf16")
def test_without_avx512_there_is_no_bf16() -> None:
    """A CPU that torch uses as AVX2 multiplies no bf16 natively: `auto` is fp32."""
    assert not devices.computes_bf16(CPU)
    assert devices.resolve_precision("auto", CPU) == "fp32"


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize(
    ("allowed", "native"),
    [("AVX2", False), ("AVX512_CORE_VNNI", False), ("AVX512_CORE_BF16", True), ("DEFAULT", True),
     ("AVX512_CORE_AMX", True)],
)  # fmt: skip
def test_onednn_may_be_forbidden_bf16(
    monkeypatch: pytest.MonkeyPatch, allowed: str, native: bool
) -> None:
    """What `ONEDNN_MAX_CPU_ISA` forbids does not count as native."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
    assert devices.computes_bf16(CPU) is native


@pytest.mark.usefixtures("no_bf16")
def test_bf16_is_refused_where_it_is_emulated() -> None:
    """`precision=bf16` on such a CPU is an error that names the field and what is accepted."""
    agent = small_agent(precision="bf16")
    with pytest.raises(ConfigError, match=r"precision: 'bf16' is not .*accepted: fp32 or auto"):
        agent.learn()


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_a_run_begun_in_bf16_goes_on_in_fp32(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A run from a CPU with bf16 is gone on with on one without, and says so."""
    agent = small_agent(precision=precision, save_every=4)
    agent.state.precision = "bf16"
    monkeypatch.setattr(devices, "computes_bf16", lambda device: True)
    monkeypatch.setattr(
        devices, "autocast", lambda *args, **kwargs: torch.autocast("cpu", enabled=False)
    )  # the bits do not matter here, and emulation fails in oneDNN's LSTM
    agent.learn(4, run_dir=tmp_path / "run", progress=False)
    monkeypatch.setattr(devices, "computes_bf16", lambda device: False)
    capsys.readouterr()
    again = agents.load(tmp_path / "run" / "checkpoints" / "step-000000004.safetensors", "cpu")
    again.learn(8, run_dir=tmp_path / "run", progress=True)
    assert again.state.cursor.step == 8
    assert again.state.precision == "fp32"
    assert "continues in fp32" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "flushes"), [(1, True), (2, False)])
def test_one_thread_takes_denormal_numbers_for_0(count: int, flushes: bool) -> None:
    """So do those that compute parts of a batch; where OpenMP has threads none does, nor after."""
    before = devices.flushes_denormals()
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot")
    try:
        with devices.threads(count):
            found = parallel.map_threads(lambda _: devices.flushes_denormals(), range(4))
        assert found == [flushes, True, True, True]
        assert not devices.flushes_denormals()
    finally:
        torch.set_flush_denormal(before)


def test_whether_denormal_numbers_are_0_does_not_depend_on_the_default_type() -> None:
    """With double precision as the default a thread that flushes is known as one, too."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with devices.threads(1):
            flushed = devices.flushes_denormals()
    finally:
        torch.set_default_dtype(default)
    assert flushed or not torch.set_flush_denormal(False)
