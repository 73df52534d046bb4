"""Character encoding: characters as small integers."""

import attrs
import numpy as np


@attrs.frozen
class Charset:
    r"""Character set in a fixed order; the code of a character is its position.

    >>> charset = Charset("\n+0123456789")
    >>> charset.decode([3, 4, 1, 9, 0])
    '12+7\n'
    """

    characters: str

    def __len__(self) -> int:
        """Return the number of codes."""
        return len(self.characters)

    def decode(self, codes: object) -> str:
        """Decode codes of shape (length,) to text."""
        return "".join(self.characters[code] for code in np.asarray(codes, np.int64))
