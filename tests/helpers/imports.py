"""Code in a process of its own, which must do without modules that take long to import."""

import subprocess
import sys


def printed_without(modules: set[str], code: str) -> str:
    """Return what Python code prints in a new process, which may import none of some modules."""
    check = f"import sys\n{code}\nsys.exit(' '.join({modules!r} & sys.modules.keys()) or 0)"
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
