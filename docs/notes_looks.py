"""Rows of docs/notes.md on note 002: its wishes and links, and what of ours answers each."""

from docs.notes_row import Row

_ONE_SEED = "--mode sweep --grid seed=0"
_INSPECT = "--agent cnn_classifier --task digits --mode inspect --views"
_CONV = "convolutional.md"

NOTE_002 = (
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
        command="--agent cnn_classifier --task digits --mode live",
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
