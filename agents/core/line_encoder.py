"""Encoder of line images: convolutions, the maximum over the height, a BiLSTM over the columns.

B lines, H × W pixels, T columns, C feature maps, U units in each direction.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from agents.configs.readers import SIZES
from agents.core.layers import HiddenConv2d, HiddenLSTM

COLUMN = 4  # pixels that a column covers
_SCALES = ((2, 2), (2, 2), (2, 1), (2, 1))  # rows and columns of which a stage makes one


class Block(nn.Module):
    """Convolution 3×3, maximum over a pool, batch normalisation, ReLU.

    The pool comes before the normalisation, which is a maximum of the same numbers wherever the
    norm's weight is positive, and takes a quarter of the time.
    """

    def __init__(
        self, num_in: int, num_out: int, pool: tuple[int, int], is_residual: bool = False
    ) -> None:
        super().__init__()
        self.conv = HiddenConv2d(num_in, num_out, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(pool) if pool != (1, 1) else nn.Identity()
        self.norm = nn.BatchNorm2d(num_out)
        self.relu = nn.ReLU()
        self.is_residual = is_residual

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, D, H / p, W / q) of maps (B, C, H, W)."""
        changed: Tensor = self.relu(self.norm(self.pool(self.conv(maps))))
        return maps + changed if self.is_residual else changed


class LineEncoder(nn.Module):
    """Convolutional stages, the maximum over the height, and a BiLSTM over the columns.

    As in Puigcerver (2017) and Retsinas et al. (2022, 2404.11339), small. The first convolution has
    a stride of 2, as in ResNet: at the full size of a line, all that is not a convolution takes
    more time than all later layers. What is beyond a line's own width is set to 0 after each stage,
    and the LSTM ends with the line: so a line reads the same alone and beside longer ones. In
    training the statistics of the batch normalisation are of the padding too, which is little where
    lines of similar width are batched.
    """

    def __init__(self, size: str, dropout: float) -> None:
        super().__init__()
        channels, is_deep, units, num_layers = SIZES[size]
        self.stem = nn.Conv2d(1, channels[0], 3, stride=_SCALES[0], padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        self.stages = nn.ModuleList()
        for num_in, num_out, scale in zip(channels, channels[1:], _SCALES[1:], strict=False):
            blocks = [Block(num_in, num_out, scale)]
            if is_deep and scale[1] == 1:
                blocks.append(Block(num_out, num_out, (1, 1), is_residual=True))
            self.stages.append(nn.Sequential(*blocks))
        self.dropout = nn.Dropout(dropout)
        self.recurrent = HiddenLSTM(
            channels[-1], units, num_layers, batch_first=True, bidirectional=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )  # fmt: skip
        self.num_maps, self.num_outputs = channels[-1], 2 * units

    def features(self, image: Tensor, width: Tensor) -> Tensor:
        """Return the columns' feature maps (B, T, C), T = W / 4, of images (B, 1, H, W)."""
        maps = F.pad(image, (0, max(0, COLUMN - image.shape[-1])))
        maps = maps.contiguous(memory_format=torch.channels_last)
        own = width.clamp(min=COLUMN) // _SCALES[0][1]
        maps = _without_padding(self.relu(self.norm(self.stem(maps))), own)
        for stage, (_, across) in zip(self.stages, _SCALES[1:], strict=True):
            own = own // across
            for block in stage.children():
                maps = _without_padding(block(maps), own)
        return maps.amax(2).transpose(1, 2)

    def contexts(self, features: Tensor, num_columns: Tensor) -> Tensor:
        """Return what the BiLSTM makes of the columns (B, T, 2 U); 0 beyond a line's own."""
        if self.training:
            trained: Tensor = self.dropout(self._in_training(self.dropout(features), num_columns))
            return trained
        packed = pack_padded_sequence(
            features, num_columns.cpu(), batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(
            self.recurrent(packed)[0], batch_first=True, total_length=features.shape[1]
        )
        return output

    def _in_training(self, columns: Tensor, num_columns: Tensor) -> Tensor:
        """Return what the packed call does; what is beyond a line's own columns means nothing.

        The gradient of torch's packed LSTM takes time by the square of the length. Here each
        direction reads all lines at once, the second one turned round within their own columns.
        """
        steps = torch.arange(columns.shape[1], device=columns.device)
        own = num_columns[:, None]
        turned = torch.where(steps < own, own - 1 - steps, steps)[..., None]
        rnn = self.recurrent
        zeros = columns.new_zeros(1, len(columns), rnn.hidden_size)
        for layer in range(rnn.num_layers):
            directions = []
            for end in ("", "_reverse"):
                kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                weights = [getattr(rnn, f"{kind}_l{layer}{end}") for kind in kinds]
                read = columns.gather(1, turned.expand_as(columns)) if end else columns
                output = torch.lstm(read, (zeros, zeros), weights, True, 1, 0.0, True, False, True)[
                    0
                ]
                directions.append(output.gather(1, turned.expand_as(output)) if end else output)
            columns = torch.cat(directions, -1)
            if layer + 1 < rnn.num_layers:
                columns = F.dropout(columns, rnn.dropout)
        return columns


def _without_padding(maps: Tensor, own: Tensor) -> Tensor:
    """Return maps (B, C, H, W) with 0 beyond each line's own width (B,)."""
    is_own = torch.arange(maps.shape[-1], device=maps.device) < own[:, None]
    return maps * is_own[:, None, None].to(maps.dtype)


def columns_of(width: Tensor) -> Tensor:
    """Return how many columns lines of a width in pixels have (B,); at least 1."""
    return (width // COLUMN).clamp(min=1)


def own_width(image: Tensor, width: Tensor | None) -> Tensor:
    """Return the width of each line (B,): that of the images where none is given."""
    if width is not None:
        return width
    return torch.full((len(image),), image.shape[-1], device=image.device)
