"""`torchrun` on this machine: ranks that are killed or stopped, two hosts, and the SLURM script."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.core.runs.checkpoint import Checkpoint, read_agent
from tests.conftest import exact, same
from tests.helpers.ranks import ROOT, rank_pids, started, torchrun
from tests.helpers.ranks import torchrun_command as command

STEPS = 120
TRAIN = (
    "main.py --agent seq2seq_adder --task add2x2 --device cpu --set hidden_size=12 "
    "--set task.num_samples=300 --set batch_size=8 --set save_every=5 --set eval_every=40 "
    "--set eval_samples=16 --set dropout=0.2 --set num_layers=2 --set precision=fp32 "
    f"--set target_score=null --set target_loss=null --set steps={STEPS} --run-dir"
).split()
LAST = f"checkpoints/step-{STEPS:09d}.safetensors"
pytestmark = pytest.mark.slow


def last_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint of the last step."""
    return read_agent(folder / LAST)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Return what two ranks have that nothing disturbed; rank 0 alone said it, and once."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = torchrun([*TRAIN, str(folder)])
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("test: ") == 1
    assert done.stderr.count("run folder: ") == 1
    assert done.stderr.count(f"{STEPS}/{STEPS}") == 1
    return last_checkpoint(folder)


def assert_same_end(folder: Path, whole: Checkpoint) -> None:
    """Check that a run ended with the bits of the undisturbed one, random states included."""
    ended = last_checkpoint(folder)
    assert same(ended.tensors, whole.tensors)
    assert exact(ended.history) == exact(whole.history)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_restarts_the_group(rank: int, tmp_path: Path, whole: Checkpoint) -> None:
    """SIGKILL to a rank: torchrun starts both again, and they end with the same bits."""
    with started([*command([*TRAIN, str(tmp_path)], max_restarts=2)]) as process:
        victim = rank_pids(process.pid, tmp_path)[rank]
        os.kill(victim, signal.SIGKILL)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-4000:]
    assert f"Signal 9 (SIGKILL) received by PID {victim}" in err or "exitcode: -9" in err
    assert "continuing from step" in err
    assert_same_end(tmp_path, whole)


@pytest.mark.parametrize("rank", [1, None])
def test_a_signal_stops_all(rank: int | None, tmp_path: Path, whole: Checkpoint) -> None:
    """SIGTERM to rank 1, or to torchrun: all save and end; the same command goes on to the bits."""
    with started(command([*TRAIN, str(tmp_path)])) as process:
        ranks = rank_pids(process.pid, tmp_path)
        os.kill(process.pid if rank is None else ranks[rank], signal.SIGTERM)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err[-4000:]
    assert rank is None or "exitcode  : 143" in err
    assert '"interrupted"' in (tmp_path / "status.json").read_text()
    assert not (tmp_path / LAST).exists()
    done = torchrun([*TRAIN, str(tmp_path)])
    assert done.returncode == 0, done.stderr[-4000:]
    assert_same_end(tmp_path, whole)


def free_port() -> int:
    """Return a port that nothing uses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_the_slurm_script_trains(tmp_path: Path, whole: Checkpoint) -> None:
    """It is right bash, and with SLURM's variables its line of torchrun trains two ranks."""
    script = ROOT / "configs" / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
    stand_in = tmp_path / "bin" / "srun"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/bash\nshift\nexec "$@"\n')
    hosts = tmp_path / "bin" / "scontrol"
    hosts.write_text("#!/bin/bash\necho localhost\n")
    for path in (stand_in, hosts):
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    of_slurm = {
        "SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NODEID": "0", "SLURM_CPUS_PER_TASK": "2", "RANKS_PER_NODE": "2",
        "PORT": str(free_port()),
        "PYTHON": sys.executable, "PATH": f"{stand_in.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    run = tmp_path / "run"
    with started(["bash", str(script), *TRAIN[1:], str(run)], of_slurm) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-4000:]
    assert_same_end(run, whole)


def has_namespaces() -> bool:
    """Return whether this user can make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"probe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    return not subprocess.run(["ip", "netns", "delete", name], check=False).returncode


def ip(*words: str) -> None:
    """Run a command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[tuple[str, str, str], ...]]:
    """Two network namespaces that a cable joins: name, interface and address of each."""
    mark = os.getpid()
    hosts = tuple((f"host{n}-{mark}", f"eth{n}x{mark}", f"10.77.0.{n + 1}") for n in range(2))
    try:
        for name, _, _ in hosts:
            ip("netns", "add", name)
        ip("link", "add", hosts[0][1], "type", "veth", "peer", "name", hosts[1][1])
        for name, interface, address in hosts:
            ip("link", "set", interface, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", interface)
            ip("-n", name, "link", "set", interface, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name, _, _ in hosts:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.skipif(not has_namespaces(), reason="network namespaces need root and iproute2")
@pytest.mark.parametrize("is_killed", [False, True])
def test_two_hosts_train_together(is_killed: bool, tmp_path: Path, whole: Checkpoint) -> None:
    """A rank in each of two network namespaces, undisturbed or killed, end with the same bits."""
    processes = []
    with two_hosts() as hosts, contextlib.ExitStack() as stack:
        for number, (name, interface, address) in enumerate(hosts):
            options = [
                "--nnodes=2", "--nproc-per-node=1", "--max-restarts=2", "--rdzv-id=7",
                "--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0][2]}:29400",
                f"--rdzv-conf=is_host={1 - number}", f"--local-addr={address}",
            ]  # fmt: skip
            line = ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"]
            environment = {"GLOO_SOCKET_IFNAME": interface}
            full = [*line, *options, *TRAIN, str(tmp_path / "run")]
            processes.append(stack.enter_context(started(full, environment)))
        if is_killed:
            victim = rank_pids(processes[1].pid, tmp_path / "run", num=1)[0]
            os.kill(victim, signal.SIGKILL)
        for process in processes:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err[-4000:]
    assert_same_end(tmp_path / "run", whole)
