"""Characters as small integers."""

import attrs
import numpy as np


@attrs.frozen
class Charset:
    r"""A fixed order of characters; a character's code is its position.

    >>> charset = Charset("\n+0123456789")
    >>> charset.decode([3, 4, 1, 9, 0])
    '12+7\n'
    """

    characters: str

    def __len__(self) -> int:
        """Return the number of codes."""
        return len(self.characters)

    def decode(self, codes: object) -> str:
        """Return the text of codes of shape (length,)."""
        return "".join(self.characters[code] for code in np.asarray(codes, np.int64))
