"""Looking into what was learned: functions on bare modules and arrays; records, figures, a page.

Letters of shapes, the same in all docstrings unless a module says otherwise:

B        images or samples of a batch; N in all
C, H, W  channels, rows and columns of an image; h and w: rows and columns of a feature map
K        classes, or concepts; k: neighbours or patches of each
U        units: hidden units of a recurrent layer, or channels of a feature map
T        time steps; I: inputs of a recurrent layer
L        layers; of a recurrent trace layers × directions
V        symbols: characters or codes; Q and A: characters of a question and of an answer
D        features of a layer
S        strengths, snapshots, or steps of a method
P        positions or points
M        models or maps that are compared
R        rows of a batch that are variants of its images
"""

import visualization.core.earlier_names  # noqa: F401 - earlier names work from here on
from visualization.core.errors import NothingToShow
from visualization.core.tracing import trace
from visualization.notebook import show

__all__ = [
    "NothingToShow",
    "show",
    "trace",
]
