"""Small networks of every make, on which the functions that look into networks are tried."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

SIZE, CLASSES = 8, 3


class Net(nn.Module):
    """A small network with a layer `look` whose maps are (B, 4, H, W), called once."""

    channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(self.channels, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.look = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        return self.relu(self.look(self.relu(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.head(F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1))


class Colours(Net):
    """Takes images of three channels, and has a normalisation and dropout."""

    channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(4), nn.Dropout(0.5)

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        return self.drop(self.norm(super().maps(x)))


class Residual(Net):
    """Adds in place, around a layer."""

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        x = self.relu(self.first(x))
        y = self.look(x)
        y += x
        return self.relu(y)


class Branches(Net):
    """Has two branches, functions in place of modules, and a module that is used twice."""

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        x = F.relu(self.first(x))
        a = F.relu_(self.look(x))
        b = self.relu(self.relu(F.max_pool2d(x, 3, 1, 1)) - 0.1)
        return torch.where(a > b, a, b)


class Double(Net):
    """Computes in float64, and lets some of its parameters not learn."""

    def __init__(self) -> None:
        super().__init__()
        self.double()
        self.first.requires_grad_(False)


class Bfloat16(Net):
    """Computes in bfloat16, which numpy does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()


class Half(Net):
    """Computes in float16."""

    def __init__(self) -> None:
        super().__init__()
        self.half()


class Normalised(Net):
    """Normalises the images, before anything else."""

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        return super().maps((x - 0.5) / 0.25)


class InPlace(Net):
    """Normalises the images in place: it changes what it is given."""

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        return super().maps(x.sub_(0.5).div_(0.25))


class Checkpointed(Net):
    """Computes its maps again in the backward pass."""

    def maps(self, x: Tensor) -> Tensor:
        """Return feature maps (B, 4, H, W)."""
        maps: Tensor = checkpoint(super().maps, x, use_reentrant=False)
        return maps


class Compiled(Net):
    """Runs code that was made of it before anything looked at it."""

    def __init__(self) -> None:
        super().__init__()
        torch._dynamo.reset()  # of so many of one class the rest would not be compiled
        self.compile(backend="eager")


PLAIN = (Net, Colours, Residual, Branches, Double, Bfloat16, Half, InPlace)
NETS: dict[str, type[Net]] = {
    cls.__name__: cls for cls in (*PLAIN, Normalised, Checkpointed, Compiled)
}
