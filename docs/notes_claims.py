"""The claims of the five notes, each with the command that answers it: rows of docs/notes.md.

`docs/notes.py` runs the commands and makes the table. A row with `scores` is a figure: its command
is a sweep, each of whose runs has an ordinary folder. A row without is a wish or a link: its `page`
says what answers it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        note: number of the note, as in its file's name.
        claim: what was claimed or wished, in our words, with the figure.
        command: options of main.py.
        scores: names of the scores in test.json that answer it; none: nothing is measured.
        only: values of swept settings that the row is about; a setting that is not named: all.
        page: where it is on these pages, as Markdown.
        why: what explains the difference.
        is_long: the command takes more than a quarter of an hour.
    """

    note: str
    claim: str
    command: str
    scores: Sequence[str] = ()
    only: Mapping[str, Sequence[Any]] = attrs.field(factory=dict)
    page: str = ""
    why: str = ""
    is_long: bool = False


_SEEDS = "--mode sweep --grid seed=0,1,2"
_ONE_SEED = "--mode sweep --grid seed=0"
_NOTES = "--config configs/notes.yaml"
_OURS = "--config configs/add3x2.yaml"
_ADD3X3 = "--agent seq2seq_adder --task add3x3"
_ADDING = "--agent adding_lstm --task adding_problem"
_KERAS_ADDING = (  # what the note's tool most likely trained with: the defaults of Keras
    f"{_ADDING} --set task.num_samples=100000 --set curriculum_loss_threshold=null "
    "--set forget_bias=1.0 --set optimizer=adam --set learning_rate=1e-3 --set schedule=constant "
    "--set clip_norm=null --set batch_size=32 --set target_score=0.01 --set eval_every=500"
)
_PARITY = "--agent parity_lstm --task parity"
_AT_ONCE = "--set curriculum_loss_threshold=null"
_DEEP = (  # as docs/sequence_lab.py has it
    "--set num_layers=5 --set hidden_size=512 --set task.train_length=10 --set task.length=10 "
    "--set steps=240 --set eval_every=40 --set log_every=10"
)
_CHARACTERS = (
    "--agent char_lm --task text --set hidden_size=1 --set epochs=5 --set batch_size=64 "
    "--set task.validation=0.4 --set optimizer=adam --set learning_rate=1e-3 "
    "--set schedule=constant"
)
_INSPECT_ADDER = f"{_ADD3X3} --mode inspect --views"
_INSPECT = "--agent cnn_classifier --task digits --mode inspect --views"
_LIVE = "--agent cnn_classifier --task digits --mode live"

_BOTH = ("token_accuracy", "exact_match")

_NOTE_000 = (
    Row(
        note="000",
        claim="Two numbers of up to 3 digits, reversed, 128 units, 200 epochs: 97 % on the test",
        command=f"{_NOTES} --set epochs=200 {_ONE_SEED}",
        scores=_BOTH,
    ),
    Row(note="000", claim="The same", command=f"{_NOTES} {_SEEDS}", scores=_BOTH),
    Row(note="000", claim="The same", command=f"{_OURS} {_SEEDS}", scores=_BOTH),
    Row(
        note="000",
        claim="Three numbers of up to 3 digits, reversed, 50,000 sums, 128 units, batches of 128, "
        "200 epochs: 78.3 % on the test",
        command=f"{_NOTES} --task add3x3 --set epochs=200 {_ONE_SEED}",
        is_long=True,
        scores=_BOTH,
    ),
    Row(
        note="000",
        claim="The same",
        command=f"{_ADD3X3} --set task.num_samples=50000 {_ONE_SEED}",
        scores=_BOTH,
    ),
    Row(
        note="000",
        claim="The same, not reversed: worse (no figure)",
        command=f"{_ADD3X3} --set task.num_samples=50000 --set task.reverse=none {_ONE_SEED}",
        scores=_BOTH,
    ),
    Row(
        note="000",
        claim="At least 32 units are needed for decent results, 95 % and more",
        command=f"{_OURS} --mode sweep --grid hidden_size=8,16,32,64 --seeds 0,1,2",
        scores=_BOTH,
    ),
    Row(
        note="000",
        claim="Smaller sums, such as two numbers of 2 digits, may need fewer units (not tried)",
        command="--agent seq2seq_adder --task add2x2 --mode sweep --grid hidden_size=8,16,32 "
        "--seeds 0,1,2",
        scores=_BOTH,
    ),
    Row(
        note="000",
        claim="Cell states over the characters (Karpathy et al.), over many samples, without the "
        "cells that hardly vary; Seq2Seq-Vis",
        command=f"{_INSPECT_ADDER} cells,roles",
        page="[cells](recurrent.md#every-cell-on-every-character), "
        "[global or local](recurrent.md#global-or-local)",
    ),
    Row(
        note="000",
        claim="Deactivate single units and see what each is worth",
        command=f"{_INSPECT_ADDER} ablation",
        page="[which units matter](recurrent.md#which-units-matter)",
    ),
    Row(
        note="000",
        claim="Compare the reversed and the other model: what does each get right and wrong?",
        command="--mode compare RUN_A RUN_B",
        page="[reversed against plain](reversed.md)",
    ),
)

_LENGTHS = (150, 200, 250, 300, 500, 700)
_STAGES = (
    f"{_ADDING} --set target_score=0.01 --mode sweep "
    "--grid task.length=150,200,250,300,500,700,1000 --seeds 0,1,2"
)

_NOTE_001 = (
    Row(
        note="001",
        claim="An LSTM of 100 units, 100,000 series: at T = 150 to 700 the validation loss falls "
        "with the training loss (curves, no figures)",
        command=_STAGES,
        scores=("mse",),
        only={"task.length": _LENGTHS},
    ),
    Row(
        note="001",
        claim="At T = 1000 the validation loss does not fall; early stopping in epoch 17",
        command=_STAGES,
        scores=("mse",),
        only={"task.length": (1000,)},
    ),
    Row(
        note="001",
        claim="T = 150 as the note trained it: every series of full length from the start",
        command=f"{_KERAS_ADDING} --set epochs=10 {_ONE_SEED}",
        scores=("mse",),
    ),
    Row(
        note="001",
        claim="T = 1000 likewise, 17 epochs",
        command=f"{_KERAS_ADDING} --set task.length=1000 --set epochs=17 {_ONE_SEED}",
        is_long=True,
        scores=("mse",),
    ),
    Row(
        note="001",
        claim="A file of settings with the tool's names: `dt_length`, `t`, `epochs`, `batch`, "
        "`es_patience`, `artifacts`",
        command=f"--config configs/adding.yaml {_ONE_SEED}",
        scores=("mse",),
    ),
)

_CONV = "convolutional.md"

_NOTE_002 = (
    Row(
        note="002",
        claim="A reader of handwriting: CNN, bidirectional LSTM, CTC",
        command=f"--agent ctc_reader --task digit_strings --set steps=500 {_ONE_SEED}",
        scores=("cer", "exact"),
        page="[readers](handwriting.md#readers-and-a-detector)",
    ),
    Row(
        note="002",
        claim="An improved one with attention and a language model",
        command="--agent attention_reader --task digit_strings",
        page="[how well they read](handwriting.md#how-well-they-read), "
        "[language models](handwriting.md#beam-search)",
    ),
    Row(
        note="002",
        claim="YOLO, to find objects",
        command="--agent yolo_detector --task digit_pages",
        page="[readers and a detector](handwriting.md#readers-and-a-detector), "
        "[pages](handwriting.md#reading-pages)",
    ),
    Row(
        note="002",
        claim="Models to compare later ones with, and a base to try things on",
        command="--config configs/reader_of_pages.yaml --set task.path=FOLDER",
        page="[the benchmark](handwriting.md#the-benchmark), "
        "[what to change](handwriting.md#what-to-change)",
    ),
    Row(
        note="002",
        claim="DataParallel inside of a module recurses without end; training belongs to the agent",
        command="--agent seq2seq_adder --task add3x3 --set parallel=data",
        page="[the wrapper is beside the model](design.md#what-each-part-promises)",
    ),
    Row(
        note="002",
        claim="Images, and parts of them, that excite a feature map; the patch behind a large "
        "activation, its indices",
        command=f"{_INSPECT} patches,fields",
        page=f"[top patches]({_CONV}#top-patches-what-excites-a-unit), "
        f"[receptive fields]({_CONV}#receptive-fields-what-a-unit-sees)",
    ),
    Row(
        note="002",
        claim="The pattern in the patch that matters, and what changing it does",
        command=f"{_INSPECT} patterns,perturbations",
        page=f"[occlusion]({_CONV}#occlusion-and-minimal-patches-which-pattern-matters)",
    ),
    Row(
        note="002",
        claim="Learning progression of a feature map, recorded on a group of images",
        command=f"{_INSPECT} progression",
        page=f"[progression]({_CONV}#progression-how-a-feature-map-developed)",
    ),
    Row(
        note="002",
        claim="Cut a piece of an image, paste it into another, see the activation",
        command=f"{_INSPECT} paste",
        page=f"[cut and paste]({_CONV}#cut-and-paste)",
    ),
    Row(
        note="002",
        claim="Draw into an image, add noise or blur, and see the feature maps in real time "
        "([deepvis](http://yosinski.com/deepvis)); change a layer",
        command=_LIVE,
        page="[the live page](live.md#images)",
    ),
    Row(
        note="002",
        claim="Activations, weights and biases",
        command=f"{_INSPECT} layers,weights,dead_units",
        page=f"[activations]({_CONV}#activations-weights-and-dead-units)",
    ),
    Row(
        note="002",
        claim="An image optimised for a feature map or a result "
        "([feature visualization](https://distill.pub/2017/feature-visualization/), "
        "[filters](https://jacobgil.github.io/deeplearning/filter-visualizations))",
        command=f"{_INSPECT} maximised,penalties,atlas",
        page=f"[activation maximisation]({_CONV}#activation-maximisation-from-noise-to-an-image), "
        "[class images](synthesis.md#class-images-what-a-penalty-does)",
    ),
    Row(
        note="002",
        claim="DeepDream",
        command=f"{_INSPECT} dream,inversion",
        page=f"[dreams]({_CONV}#activation-maximisation-from-noise-to-an-image)",
    ),
    Row(
        note="002",
        claim="[cs231n, understanding CNNs](http://cs231n.github.io/understanding-cnn/): "
        "occlusion, embeddings of the last layer",
        command=f"{_INSPECT} patterns,embedding,neighbours",
        page=f"[concepts]({_CONV}#concepts)",
    ),
    Row(
        note="002",
        claim="[CNN visualizations](https://github.com/utkuozbulak/pytorch-cnn-visualizations): "
        "gradients, Grad-CAM, guided backpropagation",
        command=f"{_INSPECT} attribution,faithfulness,sanity",
        page="[attribution](attribution.md)",
    ),
    Row(
        note="002",
        claim="[CNN attacks](https://github.com/utkuozbulak/pytorch-cnn-adversarial-attacks): "
        "FGSM, targeted, images that fool",
        command=f"{_INSPECT} attack,robustness,fooling",
        page=f"[attacks]({_CONV}#adversarial-attacks-what-fools-the-network), "
        "[fooling images](synthesis.md#fooling-images-sure-of-nothing)",
    ),
)

_FEW = f"{_NOTES} --set task.num_samples=5000 --set epochs=200"
_ONE_UNIT = (
    f"{_NOTES} --set task.num_samples=10000 --set task.validation=0.3 --set hidden_size=1 "
    "--set task.reverse=none"
)

_NOTE_003 = (
    Row(
        note="003",
        claim="1 unit, 30 epochs, 10,000 sums of two numbers, 30 % of them for validation: 43.26 % "
        "in validation",
        command=f"{_ONE_UNIT} {_SEEDS}",
        scores=_BOTH,
    ),
    Row(
        note="003",
        claim="128 units, 200 epochs, 5,000 sums, not reversed: 65.07 % in validation",
        command=f"{_FEW} --set task.reverse=none {_SEEDS}",
        scores=_BOTH,
    ),
    Row(
        note="003",
        claim="“Exactly the same setup”, reversed: 97.37 % on the test",
        command=f"{_FEW} {_SEEDS}",
        scores=_BOTH,
    ),
    Row(
        note="003",
        claim="The same with the 50,000 sums of the Keras script that the note had matched by "
        "then, which claims 99 %",
        command=f"{_NOTES} {_SEEDS}",
        scores=_BOTH,
    ),
    Row(
        note="003",
        claim="The same, not reversed",
        command=f"{_NOTES} --set task.reverse=none {_SEEDS}",
        scores=_BOTH,
    ),
    Row(
        note="003",
        claim="The same, not reversed",
        command=f"{_OURS} --set task.reverse=none {_SEEDS}",
        scores=_BOTH,
    ),
    Row(
        note="003",
        claim="Text, 1 unit, 5 epochs, batches of 64, 40 % for validation: 44.89 % one-hot, "
        "47.03 % with an embedding",
        command=f"{_CHARACTERS} --mode sweep --grid encoding=one_hot,embedding --seeds 0,1,2",
        scores=("accuracy",),
    ),
    Row(
        note="003",
        claim="One-hot against embedding, in the adder (not tried)",
        command=f"{_OURS} --mode sweep --grid encoding=one_hot,embedding --seeds 0,1,2",
        scores=_BOTH,
    ),
)

_NOTE_004 = (
    Row(
        note="004",
        claim="Odd or even, long sequences: the loss ends at 0.7, accuracy 0.5, in training and "
        "validation",
        command=f"{_PARITY} {_AT_ONCE} {_SEEDS}",
        scores=("accuracy",),
    ),
    Row(
        note="004",
        claim="Sequences of 10 with 128 units are learned better",
        command=f"{_PARITY} {_AT_ONCE} --set hidden_size=128 --set task.train_length=10 "
        f"--set task.length=10 {_SEEDS}",
        scores=("accuracy",),
    ),
    Row(
        note="004",
        claim="How to learn longer sequences? (open)",
        command=f"{_PARITY} {_SEEDS}",
        scores=("accuracy",),
    ),
    Row(
        note="004",
        claim="5 layers of 512 units: accuracy is bad at any length",
        command=f"{_PARITY} {_DEEP} {_ONE_SEED}",
        scores=("accuracy",),
    ),
    Row(
        note="004",
        claim="What is wrong with it? (open)",
        command=f"{_PARITY} {_DEEP.replace('num_layers=5', 'num_layers=1')} "
        f"--set learning_rate=0.002 {_ONE_SEED}",
        scores=("accuracy",),
    ),
    Row(
        note="004",
        claim="A systematic approach to a model that does not learn",
        command=f"{_PARITY} {_AT_ONCE} --mode diagnose",
        page="[diagnosis](sequence_lab.md#diagnosis)",
    ),
)

ROWS = (*_NOTE_000, *_NOTE_001, *_NOTE_002, *_NOTE_003, *_NOTE_004)
