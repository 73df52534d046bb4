"""The claims of the five notes, each with the command that answers it: rows of docs/notes.md.

`docs/notes.py` runs the commands and makes the table.
"""

from docs.notes_looks import NOTE_002
from docs.notes_row import Row

_SEEDS = "--mode sweep --grid seed=0,1,2"
_ONE_SEED = "--mode sweep --grid seed=0"
_NOTES = "--config configs/notes.yaml"
_OURS = "--config configs/add3x2.yaml"
_ADD3X3 = "--agent seq2seq_adder --task add3x3"
_INSPECT_ADDER = f"{_ADD3X3} --mode inspect --views"
_BOTH = ("token_accuracy", "exact_match")
_EXPERIMENTS = "[the adder](adder.md#the-notes-experiments)"

_NOTE_000 = (
    Row(
        note="000",
        claim="Two numbers of up to 3 digits, reversed, 128 units, 200 epochs: 97 % on the test",
        command=f"{_NOTES} --set epochs=200 {_ONE_SEED}",
        scores=_BOTH,
        is_long=True,
        why="The note's recipe: batches of 128, Adam at 1e-3, 50,000 sums, a tenth of them for "
        "validation.",
    ),
    Row(
        note="000",
        claim="The same, with 30 epochs",
        command=f"{_NOTES} {_SEEDS}",
        scores=_BOTH,
        why=f"With this recipe the seed matters much ({_EXPERIMENTS}).",
    ),
    Row(
        note="000",
        claim="The same, with our recipe",
        command=f"{_OURS} {_SEEDS}",
        scores=_BOTH,
        why="Muon and one cycle of the learning rate: 700 steps, four passes over the sums.",
    ),
    Row(
        note="000",
        claim="Three numbers of up to 3 digits, reversed, 50,000 sums, 128 units, batches of 128, "
        "200 epochs: 78.3 % on the test",
        command=f"{_NOTES} --task add3x3 --set epochs=200 {_ONE_SEED}",
        scores=_BOTH,
        is_long=True,
        why="The note's recipe.",
    ),
    Row(
        note="000",
        claim="The same, with our recipe",
        command=f"{_ADD3X3} --set task.num_samples=50000 {_ONE_SEED}",
        scores=_BOTH,
        why="At most 40 passes over the sums, with Muon. So few sums are overfitted: with an "
        "earlier recipe of 18,000 steps the token accuracy was 93.4 %, with fresh sums in every "
        f"step 100.0 % (seed 0, {_EXPERIMENTS}).",
    ),
    Row(
        note="000",
        claim="The same, not reversed: worse (no figure)",
        command=f"{_ADD3X3} --set task.num_samples=50000 --set task.reverse=none {_ONE_SEED}",
        scores=_BOTH,
        why="As the note says, with one seed. With fresh sums and an earlier recipe the order "
        f"makes no difference: a token accuracy of 100.0 % either way (seed 0, {_EXPERIMENTS}).",
    ),
    Row(
        note="000",
        claim="At least 32 units are needed for decent results, 95 % and more",
        command=f"{_OURS} --mode sweep --grid hidden_size=8,16,32,64 --seeds 0,1,2",
        scores=_BOTH,
        why="The same 700 steps for each size; more steps help small networks.",
    ),
    Row(
        note="000",
        claim="Smaller sums, such as two numbers of 2 digits, may need fewer units (not tried)",
        command="--agent seq2seq_adder --task add2x2 --mode sweep --grid hidden_size=8,16,32 "
        "--seeds 0,1,2",
        scores=_BOTH,
        why="They do: with an earlier recipe, after 3,000 steps, a token accuracy of 82.9, 96.9 "
        f"and 99.5 % with 8, 16 and 32 units (seed 0, {_EXPERIMENTS}).",
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
    Row(
        note="000",
        claim="Open goal: train the tasks of Xu et al. 2020, and see why a network can reason",
        command="--agent gnn --task furthest_pair",
        page="[sets and graphs](sets.md), [how many samples a network needs](sample_complexity.md)",
    ),
)

_ADDING = "--agent adding_lstm --task adding_problem"
_STAGES = (
    f"{_ADDING} --set target_score=0.01 --mode sweep "
    "--grid task.length=150,200,250,300,500,700,1000 --seeds 0,1,2"
)
_KERAS = (  # Keras' defaults: the note does not say what it trained with
    f"{_ADDING} --set task.num_samples=100000 --set curriculum_loss_threshold=null "
    "--set forget_bias=1.0 --set optimizer=adam --set learning_rate=1e-3 --set schedule=constant "
    "--set clip_norm=null --set batch_size=32 --set target_score=0.01 --set eval_every=500"
)
_WAYS = "[the laboratory](sequence_lab.md#the-adding-problem)"

_NOTE_001 = (
    Row(
        note="001",
        claim="An LSTM of 100 units, 100,000 series: at T = 150 to 700 the validation loss falls "
        "with the training loss (curves, no figures)",
        command=_STAGES,
        scores=("mse",),
        only={"task.length": (150, 200, 250, 300, 500, 700)},
        why="A curriculum of at most 20,000 series, first of 10 steps and less, then of 20, "
        "40, … T. Training ends below a validation error of 0.01.",
    ),
    Row(
        note="001",
        claim="At T = 1000 the validation loss does not fall; early stopping in epoch 17",
        command=_STAGES,
        scores=("mse",),
        only={"task.length": (1000,)},
        why="The curriculum. Without it none of five ways learns this in 1,000 steps: 0.150 at "
        f"best ({_WAYS}).",
    ),
    Row(
        note="001",
        claim="T = 150 as the note has it: full length from the start",
        command=f"{_KERAS} --set epochs=10 {_ONE_SEED}",
        scores=("mse",),
        why="Batch size, rate and initial weights are those of Keras, as the note names none. It "
        f"needs epochs: after 1,000 steps the error is 0.165 ({_WAYS}).",
    ),
    Row(
        note="001",
        claim="T = 1000 likewise, for 17 epochs",
        command=f"{_KERAS} --set task.length=1000 --set epochs=17 {_ONE_SEED}",
        scores=("mse",),
        is_long=True,
        why="As above.",
    ),
    Row(
        note="001",
        claim="A file with the names of its tool: `dt_length`, `t`, `epochs`, `batch`, "
        "`es_patience`, `artifacts`",
        command=f"--config configs/adding.yaml {_ONE_SEED}",
        scores=("mse",),
        why="T = 150, three epochs, with our curriculum.",
    ),
)

_FEW = f"{_NOTES} --set task.num_samples=5000 --set epochs=200"
_ONE_UNIT = (
    f"{_NOTES} --set task.num_samples=10000 --set task.validation=0.3 --set hidden_size=1 "
    "--set task.reverse=none"
)
_CHARACTERS = (
    "--agent char_lm --task text --set hidden_size=1 --set epochs=5 --set batch_size=64 "
    "--set task.validation=0.4 --set optimizer=adam --set learning_rate=1e-3 "
    "--set schedule=constant"
)

_NOTE_003 = (
    Row(
        note="003",
        claim="1 unit, 30 epochs, 10,000 sums of two numbers, 30 % of them for validation: 43.26 % "
        "in validation",
        command=f"{_ONE_UNIT} {_SEEDS}",
        scores=_BOTH,
        why="One unit learns nothing that a constant answer does not have: most of it is padding "
        "and the frequent first digit.",
    ),
    Row(
        note="003",
        claim="128 units, 200 epochs, 5,000 sums, not reversed: 65.07 % in validation",
        command=f"{_FEW} --set task.reverse=none {_SEEDS}",
        scores=_BOTH,
        why="Nothing to explain: the recipe is the note's.",
    ),
    Row(
        note="003",
        claim="“Exactly the same setup”, reversed: 97.37 % on the test",
        command=f"{_FEW} {_SEEDS}",
        scores=_BOTH,
        why="If 5,000 sums are meant here too; the script has 50,000 (next row).",
    ),
    Row(
        note="003",
        claim="The same with the 50,000 sums and 30 epochs of the Keras script that the note had "
        "matched by then, which claims 99 %",
        command=f"{_NOTES} {_SEEDS}",
        scores=_BOTH,
        why=f"Two seeds of it are in {_EXPERIMENTS}.",
    ),
    Row(
        note="003",
        claim="The same, not reversed",
        command=f"{_NOTES} --set task.reverse=none {_SEEDS}",
        scores=_BOTH,
        why=f"Two seeds of it are in {_EXPERIMENTS}. "
        "[Why reversing helps](reversed.md#why-it-helps).",
    ),
    Row(
        note="003",
        claim="The same, not reversed, with our recipe",
        command=f"{_OURS} --set task.reverse=none {_SEEDS}",
        scores=_BOTH,
        why="A better optimiser removes most of the difference.",
    ),
    Row(
        note="003",
        claim="Text, 1 unit, 5 epochs, batches of 64, 40 % for validation: 44.89 % one-hot, "
        "47.03 % with an embedding",
        command=f"{_CHARACTERS} --mode sweep --grid encoding=one_hot,embedding --seeds 0,1,2",
        scores=("accuracy",),
        why="Another text: ours is the library of the Python that runs it, 3 million characters. "
        "The note does not say which text, nor whether padding counts.",
    ),
    Row(
        note="003",
        claim="An embedding in the adder (not tried); one-hot is our recipe in 000",
        command=f"{_OURS} --set encoding=embedding {_SEEDS}",
        scores=_BOTH,
        why="An LSTM's first product with one-hot characters is an embedding already. One more in "
        "front of it learns more slowly: exact match 37, 84 and 98 % by seed after the same steps.",
    ),
)

_PARITY = "--agent parity_lstm --task parity"
_AT_ONCE = "--set curriculum_loss_threshold=null"
_TEN = "--set hidden_size=128 --set task.train_length=10 --set task.length=10"
_DEEP = (  # as docs/sequence_lab.py has it
    "--set num_layers={} --set hidden_size=512 --set task.train_length=10 --set task.length=10 "
    "--set steps=240 --set eval_every=40 --set log_every=10"
)
_DOCTOR = "[diagnosis](sequence_lab.md#diagnosis)"

_NOTE_004 = (
    Row(
        note="004",
        claim="Odd or even, long sequences: the loss ends at 0.7, the accuracy is 0.5, in training "
        "and validation",
        command=f"{_PARITY} {_AT_ONCE} {_SEEDS}",
        scores=("accuracy", "train_loss", "eval_loss"),
        why="The same: a guess has a loss of ln 2 = 0.693. Here sequences have 65 to 128 bits in "
        "training, and 1,000 in the test.",
    ),
    Row(
        note="004",
        claim="Sequences of 10 with 128 units are learned better",
        command=f"{_PARITY} {_AT_ONCE} {_TEN} {_SEEDS}",
        scores=("accuracy",),
        why="2,000 steps of 128 sequences of 9 and 10 bits are not enough without shorter ones "
        "first. The note does not say how long it trained.",
    ),
    Row(
        note="004",
        claim="The same, with the rate of 0.001 that it names",
        command=f"{_PARITY} {_AT_ONCE} {_TEN} --set learning_rate=0.001 {_SEEDS}",
        scores=("accuracy",),
        why="As above: the rate is not the cause.",
    ),
    Row(
        note="004",
        claim="How to learn longer sequences? (open)",
        command=f"{_PARITY} {_SEEDS}",
        scores=("accuracy",),
        why="A curriculum: 1 bit, then 2, 4, … 128; tested on 1,000. "
        "16 units are enough ([parity](sequence_lab.md#parity)).",
    ),
    Row(
        note="004",
        claim="5 layers of 512 units: accuracy is bad at any length",
        command=f"{_PARITY} {_DEEP.format(5)} {_ONE_SEED}",
        scores=("accuracy",),
        why=f"The same at length 10: 50.5 % ({_DOCTOR}, which names the learning rate, then "
        "vanishing gradients).",
    ),
    Row(
        note="004",
        claim="What is wrong with it? (open)",
        command=f"{_PARITY} {_DEEP.format(1)} --set learning_rate=0.002 {_ONE_SEED}",
        scores=("accuracy",),
        why=f"What {_DOCTOR} advises: a lower rate, one layer. It had 96.8 % there.",
    ),
    Row(
        note="004",
        claim="A systematic approach to a model that does not learn",
        command=f"{_PARITY} {_AT_ONCE} --mode diagnose",
        page=_DOCTOR,
    ),
)

ROWS = (*_NOTE_000, *_NOTE_001, *NOTE_002, *_NOTE_003, *_NOTE_004)
