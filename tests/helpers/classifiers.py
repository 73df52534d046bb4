"""Tasks and agents that tests of image classifiers share."""

import torch
from torch import Tensor

import agents
import tasks
from agents.core.agent import Agent
from tasks.core.task import Task

TINY = "shufflenet_v2_x0_5"  # the model of torchvision's with the fewest parameters that has norms


def pictures(num_channels: int, height: int, width: int, num_labels: int = 10) -> Task:
    """Return a task of images of these sizes; it has no files."""
    classes = "/".join(map(str, range(num_labels)))
    sizes = {"num_channels": num_channels, "height": height, "width": width}
    return tasks.make("image_folder", classes=classes, **sizes)


def made(task: Task, **settings: object) -> Agent:
    """Return an untrained agent on the CPU."""
    return agents.make("cnn_classifier", task=task, device="cpu", precision="fp32", **settings)


def random_images(task: Task, num: int = 2) -> Tensor:
    """Return images (B, C, H, W) of a task's sizes, from 0 to 1."""
    spec = task.spec
    shape = (num, spec.num_channels, spec.height, spec.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))
