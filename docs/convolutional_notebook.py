"""Write docs/convolutional.ipynb: run its cells from top to bottom, with what they show.

`python docs/convolutional_notebook.py`. The cells stand here, as text that can be read and
compared; the notebook learns from the bundled scans of 8×8 pixels and needs no file.
"""

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).with_suffix("").with_name("convolutional.ipynb")

TEXT = """
# Looking into a convolutional network

A classifier learns to read scans of digits, 8×8 pixels, in some seconds; then we look into it.
Every function takes a bare `nn.Module`: put your own in place of `model`. How each of them works,
and what it finds on larger scans, is in [convolutional.md](convolutional.md).

```
import agents
from visualization import conv, show, trace

agent = agents.make("cnn_classifier", task="digits", steps=300, num_weight_snapshots=8, threads=1)
agent.learn()
print(agent.evaluate())

model = agent.model
scans = agent.task.samples("test", 300)
images, labels = scans.image, scans.label[:, 0]
layers = conv.feature_layers(model, images[0], 4)
layers
```

## What a layer puts out

`trace` records any layer by its name, every call of it, whatever follows in place.

```
import torch

with trace(model, layers) as seen:
    model(torch.as_tensor(images[:4]))
{name: [tuple(output.shape) for output in outputs] for name, outputs in seen.items()}
```

```
show(conv.layer_activations(model, images[:4], layers))
```

## What a channel detects

The patches, of all images, that excite each channel most:

```
layer = layers[1]
patches = conv.top_patches(model, layer, images, channels=range(6))
show(patches)
```

Which pixels can a unit see at all, and which pattern in them does it answer to?

```
channel = 2
number = patches.image[channel, 0]
unit = (channel, int(patches.row[channel, 0]), int(patches.column[channel, 0]))
field = conv.receptive_field(model, layer, unit, images[0].shape)
print(unit, field.bounding_box, int(field.mask.sum()), "pixels")
show(conv.unit_pattern(model, layer, unit, images[number]))
```

```
changes = ["noise", "blur", "rotate", "erase"]
show(conv.sweep_perturbation(model, layer, unit, images[number], changes))
```

## Cut and paste

What the unit sees, pasted into another image: the channel answers there as it did.

```
pasted = conv.transplant_field(model, layer, unit, images[number], images[number - 1])
print(
    pasted.source_activation, pasted.target_activation, pasted.composite_activation, pasted.is_equal
)
show(pasted)
```

## Draw, and see the maps change

An edit may be a name with a strength, a function, or an image that you drew yourself.

```
drawn = images[0].copy()
drawn[0, 3:5, 1:7] = 1.0
show(conv.compare_response(model, layer, images[0], drawn))
```

Change a map itself, and run on from there:

```
maps = conv.activation(model, conv.as_images(images[:1], model), layers[2])
silenced = maps.clone()
silenced[:, :8] = 0
before = conv.forward_from(model, layers[2], maps, images[:1]).softmax(-1)
after = conv.forward_from(model, layers[2], silenced, images[:1]).softmax(-1)
print(labels[0], before.max().item(), after[0, before.argmax()].item())
```

## From noise to an image

```
found = conv.maximise(model, conv.logit(range(10)), reference=images, steps=128)
show(found)
```

Optimise an image to satisfy any result: half a three, half an eight.

```
wanted = [0, 0, 0, 0.5, 0, 0, 0, 0, 0.5, 0]
both = conv.maximise(model, conv.class_distribution(wanted), reference=images, steps=128)
model(both.images).softmax(-1).detach().numpy().round(2)
```

## Which pixels spoke for the answer

```
methods = ["saliency", "integrated_gradients", "grad_cam", "rise"]
show(conv.attributions(model, images[:4], methods=methods))
```

## Who can be fooled

```
attack = conv.pgd(model, images[:8], labels[:8], epsilon=0.2, steps=20)
show(attack)
```

## How it came about

```
states = agent.snapshots.states(print)
show(conv.progression(model, states, layer, images[:64]))
```

## All of it as a page

`agent.inspect()` looks at everything; a page for each channel lies beside the report.

```
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
page = agent.inspect(["patches", "maximised", "progression", "units"]).save(folder / "report.html")
len(list(folder.rglob("*.html")))
```
"""


def notebook() -> nbformat.NotebookNode:
    """Return the notebook without outputs: what stands between fences is code."""
    cells = []
    for number, part in enumerate(re.split(r"^```\n", TEXT, flags=re.MULTILINE)):
        if part.strip():
            make = nbformat.v4.new_code_cell if number % 2 else nbformat.v4.new_markdown_cell
            cells.append(make(part.strip(), id=f"cell-{number}"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def run(made: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run all cells in order; an error in one is raised."""
    client = NotebookClient(made, timeout=600, resources={"metadata": {"path": PATH.parent.parent}})
    return client.execute()


if __name__ == "__main__":
    nbformat.write(run(notebook()), PATH)
    print(f"docs/{PATH.name}: {PATH.stat().st_size / 1e6:.1f} MB")
