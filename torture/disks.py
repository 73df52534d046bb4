"""Disks that are full, slow, read-only or gone; in memory (tmpfs), so that no file suffers."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from torture.commands import (
    DONE,
    NOT_WRITTEN,
    TERMINATED,
    Tally,
    end,
    hosted,
    left_alone,
    meanwhile,
    wrong_continuation,
    wrong_end,
)
from torture.kills import command, newest
from torture.registry import Effort, Outcome, SkippedError, case

_KB = 1024
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of what a whole run takes
_ROOT_FOLLOWS_PERMISSIONS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@contextlib.contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[None]:
    """Mount an empty disk in memory for a block.

    Raises:
        SkippedError: this is not root, or not Linux.
    """
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        raise SkippedError("it needs root on Linux, to mount a small tmpfs") from None
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)


def remount(folder: Path, options: str) -> None:
    """Change the options of a disk."""
    _mount("-o", f"remount,{options}", str(folder))


def taken_by(folder: Path) -> int:
    """Return what the files of a folder take on a disk, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def with_small_disk(
    effort: Effort, disks: Sequence[str], larger: str, straight: Path
) -> tuple[Tally, int]:
    """Train on disks that are too small, then, when they are larger, on to the end.

    Returns:
        what held, and how many disks were large enough.
    """
    tally, enough = Tally(), 0
    for number, options in enumerate(disks):
        disk = effort.folder / f"disk-{number}"
        with tmpfs(disk, options):
            words = command("adder", disk / "run")
            done = end(words)
            if done.returncode == DONE:
                enough += 1
                continue
            wrong = wrong_end(done, NOT_WRITTEN, str(disk), "No space left on device")
            remount(disk, larger)
            tally.add(options, wrong or wrong_continuation(words, disk / "run", straight))
    return tally, enough


@case
def disk_full(effort: Effort) -> Outcome:
    """The disk is full: exit code 74 names the file; with more space the bits of no fault."""
    straight = left_alone("adder", effort)
    sizes = [f"size={max(1, round(taken_by(straight) * share / _KB))}k" for share in _SHARES]
    tally, enough = with_small_disk(effort, sizes, "size=64m", straight)
    return tally.outcome(
        f"tmpfs of {_SHARES[0]:.0%} to {_SHARES[-1]:.0%} of what the run takes; {enough} more had "
        "enough space"
    )


@case
def no_inodes(effort: Effort) -> Outcome:
    """No inode is left: exit code 74 names the file; with more the bits of no fault."""
    straight = left_alone("adder", effort)
    disks = [f"size=64m,nr_inodes={num}" for num in range(3, 20, 2)]
    tally, enough = with_small_disk(effort, disks, "nr_inodes=1000", straight)
    return tally.outcome(f"tmpfs with 3 to 19 inodes; {enough} more had enough")


@case
def file_size_limit(effort: Effort) -> Outcome:
    """Files may not be so large (RLIMIT_FSIZE): exit code 74; then the bits of no fault."""
    straight, tally = left_alone("adder", effort), Tally()
    largest = max(path.stat().st_size for path in straight.rglob("*.safetensors"))
    for number in range(10):
        limit, folder = effort.chance.randrange(largest), effort.folder / f"limited-{number}"
        words = command("adder", folder)
        done = end(["prlimit", f"--fsize={limit}", *words])
        wrong = wrong_end(done, NOT_WRITTEN, str(folder), "File too large")
        tally.add(f"{limit} bytes", wrong or wrong_continuation(words, folder, straight))
    return tally.outcome(f"drawn below the {largest:,} bytes of a checkpoint")


@case
def read_only(effort: Effort) -> Outcome:
    """The folder becomes read-only, then its disk: exit code 74; later the bits of no fault."""
    straight, tally = left_alone("adder", effort), Tally()
    prefix = _ROOT_FOLLOWS_PERMISSIONS if os.geteuid() == 0 else []
    for number in range(max(1, effort.kills // 5)):
        disk = effort.folder / f"disk-{number}"
        folder = disk / "run"
        with tmpfs(disk, "size=64m"):
            words = command("adder", folder)

            def permit(mode: int, folder: Path = folder) -> None:
                for path in [folder, *folder.iterdir()]:
                    if path.is_dir():
                        path.chmod(mode)

            done, in_time = meanwhile(
                [*prefix, *words], folder, lambda _: permit(0o555), effort.chance.uniform(0, 0.5)
            )
            if not in_time:
                tally.missed += 1
                continue
            tally.add(f"folder {number}", wrong_end(done, NOT_WRITTEN, "Permission denied"))
            permit(0o755)
            remount(disk, "ro")
            done = end(words)
            remount(disk, "rw")
            wrong = wrong_end(done, NOT_WRITTEN, "Read-only file system")
            tally.add(f"disk {number}", wrong or wrong_continuation(words, folder, straight))
    return tally.outcome("chmod without CAP_DAC_OVERRIDE; then a tmpfs mounted read-only")


@case
def vanishing_folder(effort: Effort) -> Outcome:
    """The run folder is renamed or removed: exit code 74; later the bits of no fault."""
    straight, tally = left_alone("adder", effort), Tally()
    for number in range(max(2, effort.kills // 3)):
        folder = effort.folder / f"gone-{number}"
        words, away = command("adder", folder), folder.with_name(f"{folder.name} away")
        after = effort.chance.uniform(0, 0.5)
        done, in_time = meanwhile(words, folder, lambda _: folder.rename(away), after)  # noqa: B023 - at once
        if not in_time:
            tally.missed += 1
            continue
        wrong = wrong_end(
            done, NOT_WRITTEN, f"{folder}: cannot be written: it was renamed or removed"
        )
        wrong += ["the folder was made anew"] * folder.exists()
        if number % 2:
            shutil.rmtree(away)
        else:
            away.rename(folder)
        tally.add(folder.name, wrong or wrong_continuation(words, folder, straight))
    return tally.outcome("every second one is removed; the others come back")


@case
def slow_disk(effort: Effort) -> Outcome:
    """A flush (`os.fsync`) takes up to 0.5 s more: SIGTERM saves the step; later the same bits."""
    straight, tally = left_alone("adder", effort), Tally()
    for number in range(max(1, effort.kills // 8)):
        folder = effort.folder / f"slow-{number}"
        words = hosted("slow=0.5", command("adder", folder))
        after = effort.chance.uniform(0, 3)
        done, in_time = meanwhile(words, folder, lambda process: process.terminate(), after)
        if not in_time:
            tally.missed += 1
            continue
        wrong = wrong_end(done, TERMINATED) or wrong_save(folder)
        tally.add(folder.name, wrong or wrong_continuation(words, folder, straight))
    return tally.outcome("a delay drawn for each flush")


def wrong_save(folder: Path) -> list[str]:
    """Return whether the newest checkpoint is of another step than that at which a run ended."""
    status = json.loads((folder / "status.json").read_text())
    ended = status["state"], status["step"]
    right = "interrupted", newest(folder)
    return [] if ended == right else [f"{ended} in status.json, not {right}"]
