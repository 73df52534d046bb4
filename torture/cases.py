"""All cases, which register themselves when they are imported, in the order of the table."""

from torture import checkpoints, kills  # noqa: F401, I001  (in the order of the table)
from torture import processes  # noqa: F401
from torture import disks  # noqa: F401
from torture import files, sizes  # noqa: F401
from torture import fuzzing  # noqa: F401
from torture import long_run  # noqa: F401
