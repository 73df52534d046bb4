"""Tasks by name: `tasks.make("add3x3", reverse="none")`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.core.registry import Entry, Registry, find, look_up
from tasks.core.settings import ConfigError, SourcedValue, build, to_values

if TYPE_CHECKING:
    from tasks.core.task import Task

OWN_TASKS = {
    "add<digits>x<terms>": Entry(
        "tasks.addition",
        "Addition",
        "addition of <terms> positive integers of at most <digits> digits, as text",
        example="add3x3",
    ),
    "parity": Entry("tasks.parity", "Parity", "parity of a bit string: is the number of ones odd?"),
    "xor2": Entry(
        "tasks.parity",
        "Parity",
        "parity of two bits, the smallest problem that no linear model solves",
        fields={"length": 2, "train_length": 2},
    ),
    "mod<modulus>": Entry(
        "tasks.parity", "Parity", "number of ones of a bit string modulo <modulus>", example="mod3"
    ),
    "modadd<modulus>": Entry(
        "tasks.modular_addition",
        "ModularAddition",
        "modular addition: (a + b) mod <modulus>, of which a share of all pairs is shown",
        example="modadd53",
    ),
    "text": Entry(
        "tasks.text", "Text", "character-level language modelling: the next character of a text"
    ),
    "adding_problem": Entry(
        "tasks.adding_problem",
        "AddingProblem",
        "adding problem: the sum of the two marked numbers of a series",
    ),
    "subset_sum": Entry(
        "tasks.reasoning.subset_sum",
        "SubsetSum",
        "subset sum: do some of a set of numbers sum to 0?",
    ),
    "max_difference": Entry(
        "tasks.reasoning.max_difference",
        "MaxDifference",
        "maximum value difference of a set of objects, a summary statistic",
    ),
    "furthest_pair": Entry(
        "tasks.reasoning.furthest_pair",
        "FurthestPair",
        "furthest pair of a set of objects: the kinds of the two, a relational argmax",
    ),
    "monster_trainer": Entry(
        "tasks.reasoning.monster_trainer",
        "MonsterTrainer",
        "least cost of reaching a level by fighting monsters, a dynamic programme",
    ),
    "shortest_path": Entry(
        "tasks.reasoning.shortest_path",
        "ShortestPath",
        "shortest path in a weighted graph: the least sum of weights",
    ),
    "digits": Entry(
        "tasks.digits",
        "MnistLike",
        "small scans of handwritten digits that come with scikit-learn",
        fields={"source": "digits"},
    ),
    "mnist": Entry(
        "tasks.digits",
        "MnistLike",
        "scans of handwritten digits, from idx files",
        fields={"source": "mnist"},
    ),
    "fashion_mnist": Entry(
        "tasks.digits",
        "MnistLike",
        "small pictures of clothes, from idx files",
        fields={"source": "fashion_mnist"},
    ),
    "emnist": Entry(
        "tasks.digits",
        "MnistLike",
        "scans of handwritten letters and digits, from idx files",
        fields={"source": "emnist"},
    ),
    "image_folder": Entry(
        "tasks.image_folder",
        "ImageFolder",
        "pictures of any kind, in one folder for each label",
    ),
    "digit_pages": Entry(
        "tasks.handwriting.digit_pages",
        "DigitPages",
        "pages strewn with handwritten digits, which are found as boxes",
    ),
    "pages": Entry(
        "tasks.handwriting.pages",
        "Pages",
        "images of pages with boxes in files: YOLO, COCO, or the lines of PAGE XML",
    ),
    "digit_strings": Entry(
        "tasks.handwriting.digit_strings",
        "DigitStrings",
        "lines of 1 to 7 scanned handwritten digits, which come with scikit-learn",
    ),
    "handwriting": Entry(
        "tasks.handwriting.drawn",
        "DrawnHandwriting",
        "words or lines drawn with stroke fonts by many writers",
    ),
    "iam": Entry(
        "tasks.handwriting.iam",
        "Iam",
        "words or lines of the IAM handwriting database, from its files",
    ),
    "line_images": Entry(
        "tasks.handwriting.line_images",
        "LineFolder",
        "images of lines with their texts, in a folder",
    ),
    "page_xml": Entry(
        "tasks.handwriting.page_xml",
        "PageLines",
        "lines cut out of images of pages with PAGE XML or ALTO",
    ),
}

# By name; those of installed packages are after the project's own.
TASKS = Registry("task", "tasks.core.task:Task", OWN_TASKS)


def task_class(name: object, place: str = "tasks.make()") -> type:
    """Return the class of a task by name."""
    cls: type = find("task", name, TASKS, place).load()
    return cls


def from_settings(name: object, settings: Mapping[str, SourcedValue], place: str) -> "Task":
    """Make a task from settings with their places."""
    resolved = find("task", name, TASKS, place)
    for field in resolved.fields.keys() & settings.keys():
        problem = f"{field!r} is already determined by the task's name {resolved.name!r}"
        others = ", ".join(TASKS)
        raise ConfigError(settings[field].place, "", problem, f"another name of the form {others}")
    from_name = {
        key: SourcedValue(value, f"task {name!r}") for key, value in resolved.fields.items()
    }
    task: Task = build(resolved.load(), from_name | dict(settings))
    resolved.check_name(task.name)
    return task


def make(name: str, **settings: Any) -> "Task":
    """Make a task by name; settings are the fields of its class."""
    place = "tasks.make()"
    return from_settings(name, {k: SourcedValue(v, place) for k, v in settings.items()}, place)


def settings_of(task: "Task") -> dict[str, Any]:
    """Return a task's settings as plain values, without those that its name determines.

    The name of a task that is not registered determines none.
    """
    resolved = look_up(task.name, TASKS)
    from_name = resolved.fields if resolved else {}
    return {name: value for name, value in to_values(task).items() if name not in from_name}
