"""Starts of two ranks: forked ones in one process group, and those of `torchrun`; none can hang.

In a test: `forked("tests.distributed.scenarios:learn", folder, "adder")` calls that function with a
folder and words, in two ranks at once; `torchrun([...])` runs the command line under `torchrun`.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PDEATHSIG = 1  # of Linux' prctl
LIMIT = 240.0  # seconds after which a group is killed
# gloo's sockets are those of this machine, and a restarted group gets a new store
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "docs" / "template")]),
    "TERM": "dumb",
}


class TimeLimitError(AssertionError):
    """A group of ranks did not end in time; it was killed."""


def forked(function: str, folder: Path, *words: str, size: int = 2, limit: float = LIMIT) -> None:
    """Call a function of a module with a folder and words, in each rank of a process group.

    Args:
        function: as `package.module:name`.
        folder: its first argument; the ranks meet at a file in it.
        words: further arguments.
        size: number of ranks.
        limit: seconds after which all are killed.
    """
    command = [sys.executable, "-m", "tests.helpers.ranks", function, str(folder), str(size)]
    done = finished([*command, *words], limit=limit)
    assert done.returncode == 0, done.stderr[-6000:]


def torchrun(
    arguments: Sequence[str], *, size: int = 2, max_restarts: int = 0, limit: float = LIMIT,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run `torchrun` to its end with ranks on this machine; the port is a free one."""
    return finished(torchrun_command(arguments, size, max_restarts), limit, environment)


def torchrun_command(arguments: Sequence[str], size: int = 2, max_restarts: int = 0) -> list[str]:
    """Return the command that starts ranks on this machine at a free port."""
    options = ["--standalone", f"--nproc-per-node={size}", f"--max-restarts={max_restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, *arguments]


def finished(
    command: Sequence[str], limit: float = LIMIT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises:
        TimeLimitError: it took too long; all its descendants were killed.
    """
    with started(command, environment) as process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            out, err = process.communicate()
            problem = f"{' '.join(command)}: not done after {limit:.0f} s"
            raise TimeLimitError(f"{problem}\n{out[-3000:]}\n{err[-6000:]}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Start a command for a block, after which none of its descendants is left."""
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT, **(environment or {})},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            kill_tree(process.pid)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and theirs, the nearest first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return children + [each for child in children for each in descendants(child)]


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    for each in [pid, *descendants(pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def rank_pids(pid: int, folder: Path, num: int = 2, limit: float = LIMIT) -> list[int]:
    """Return the processes of the ranks below `torchrun`, in order, once a run has a checkpoint."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ranks = ranks_below(pid)
        if len(ranks) == num and list((folder / "checkpoints").glob("step-*")):
            return ranks
        time.sleep(0.05)
    raise TimeLimitError(f"no checkpoint of {num} ranks after {limit:.0f} s")


def ranks_below(pid: int) -> list[int]:
    """Return the processes of the ranks that there are now below `torchrun`, in order."""
    found = [(_rank_of(each), each) for each in descendants(pid)]
    return list(dict(sorted(pair for pair in found if pair[0] is not None)).values())


def _rank_of(pid: int) -> int | None:
    """Return which rank a process is; None: it is not one."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    ranks = [int(entry[5:]) for entry in entries if entry.startswith(b"RANK=")]
    return ranks[0] if ranks and b"prefetch" not in command else None


def main() -> None:
    """Fork the ranks, each of which calls the function; exit with 1 if one failed."""
    import torch  # before the fork, which then saves its import

    torch.set_num_threads(1)
    module, _, name = sys.argv[1].partition(":")
    call = getattr(importlib.import_module(module), name)
    folder, size, words = Path(sys.argv[2]).resolve(), int(sys.argv[3]), sys.argv[4:]
    pids = []
    for rank in range(size):
        pid = os.fork()
        if not pid:
            code = 1
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)  # end with the parent
            try:
                _join(folder / "meeting", rank, size)
                call(folder, *words)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        pids.append(pid)
    sys.exit(any(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids))


def _join(meeting: Path, rank: int, size: int) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)


if __name__ == "__main__":
    main()
