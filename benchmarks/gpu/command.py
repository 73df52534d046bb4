"""The command `gpu`: an epoch of the adder in several ways, beside what the products allow.

It runs with the torch of the machine's image (2.11 or newer), numpy and attrs. The row of `learn()`
needs what the agents import; where that is missing, it is named and left out. `--device cpu` runs
the same on a CPU, without the rows that need a GPU.
"""

import time
from argparse import Namespace

import torch

import tasks
from benchmarks.gpu.epochs import HIDDEN, WARM, WAYS, Sums, Way, run_epoch
from benchmarks.measure import Figures, processor, table, tell
from benchmarks.shapes import Product, flops, linear_products, lstm_products, multiplication
from tasks.core.settings import ConfigError

TASK = "add3x3"
SAMPLES = 1_000_000
BATCHES = (256, 4096)
LEARN_STEPS = 1000  # timed, of learn()
_REPEATS = 20  # of a product
_BASE = WAYS[0].name
_MIN_BATCHES = 2


def measure(options: Namespace) -> Figures:
    """Return for each batch size the seconds of an epoch in each way, on the chosen device.

    Raises:
        ConfigError: there is no such device, or the samples make less than two batches.
    """
    device = _device(options.device)
    sizes = options.batch or BATCHES
    num = options.limit or SAMPLES
    if num < _MIN_BATCHES * max(sizes):
        accepted = f"≥ {_MIN_BATCHES * max(sizes)}, or a smaller --batch"
        raise ConfigError("--limit", "", f"{num} samples are too few", accepted)
    begun = time.perf_counter()
    task = tasks.make(TASK)
    batch = task.samples("train", num)
    sums = Sums(batch.question, batch.answer, len(task.spec.characters))
    drawing = time.perf_counter() - begun
    return {
        "device": _name(device),
        "samples": num,
        "seconds_of_drawing": drawing,
        "batches": {str(size): _measure_batch(sums, size, device) for size in sizes},
    }


def _measure_batch(sums: Sums, size: int, device: torch.device) -> Figures:
    ways: Figures = {}
    for way in WAYS:
        ways[way.name] = _measure_way(way, sums, size, device)
        tell(f"batch {size}, {way.name}: {_seconds(ways[way.name])}")
    ways["learn()"] = _measure_learn(len(sums.question), size, device)
    tell(f"batch {size}, learn(): {_seconds(ways['learn()'])}")
    for found in ways.values():
        if "seconds" in found and "seconds" in ways[_BASE]:
            found["speed_up"] = ways[_BASE]["seconds"] / found["seconds"]
    return {"ways": ways, "limits": {
        precision: _limit(sums, size, device, dtype)
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }}  # fmt: skip


def _measure_way(way: Way, sums: Sums, size: int, device: torch.device) -> Figures:
    reason = way.reason_against(device)
    if reason:
        return {"missing": reason}
    try:
        epoch = run_epoch(way, sums, size, device)
    except Exception as error:
        return {"missing": _first_line(error)}
    return {
        "seconds": epoch.seconds,
        "us_per_step": 1e6 * epoch.seconds / epoch.steps,
        "mean_loss": epoch.loss,
    }


def _first_line(error: Exception) -> str:
    """Return kind and first line of an error."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


def _measure_learn(num: int, size: int, device: torch.device) -> Figures:
    """Return the seconds of an epoch of `learn()`, from those of at most LEARN_STEPS steps."""
    try:
        import agents
        from benchmarks.steps import NEVER, seconds_of_learning

        agent = agents.make(
            "seq2seq_adder", task=TASK, device=device.type, batch_size=size, hidden_size=HIDDEN,
            optimizer="adam", learning_rate=1e-3, precision="fp32", eval_every=NEVER,
            eval_samples=size, record_diagnostics=False,
        )  # fmt: skip
        steps = min(num // size, LEARN_STEPS)
        per_step = seconds_of_learning(agent, min(WARM, steps), steps) / steps
    except ImportError as error:
        return {"missing": f"the agents need {error.name}: pip install {error.name}"}
    except Exception as error:
        return {"missing": _first_line(error)}
    return {"seconds": per_step * (num // size), "us_per_step": 1e6 * per_step}


def _limit(sums: Sums, size: int, device: torch.device, dtype: torch.dtype) -> Figures:
    """Return the seconds of an epoch at the rate of the fastest of its products, and that rate."""
    length, answer = sums.question.shape[1], sums.answer.shape[1]
    products = [
        *lstm_products(size, length, sums.num_codes, HIDDEN),
        *lstm_products(size, answer, sums.num_codes, HIDDEN),
        *linear_products(size * answer, HIDDEN, sums.num_codes),
    ]
    rate = max(_rate(product, dtype, device) for product in products)
    return {
        "seconds": flops(products) / rate * (len(sums.question) // size),
        "gflops": 1e-9 * rate,
    }


def _rate(product: Product, dtype: torch.dtype, device: torch.device) -> float:
    """Return the operations a second of one product, repeated."""
    multiply = multiplication(product, dtype, device.type)
    multiply(1)
    _wait(device)
    begun = time.perf_counter()
    multiply(_REPEATS)
    _wait(device)
    return flops([product._replace(count=_REPEATS)]) / (time.perf_counter() - begun)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device", "", "there is no GPU that torch sees", "cpu")
    return torch.device(name)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()} (gpu)"


def _seconds(found: Figures) -> str:
    return f"{found['seconds']:.2f} s" if "seconds" in found else found["missing"]


def report(figures: Figures) -> str:
    """Return a table for each batch size, and what could not be run."""
    head = f"{figures['samples']:,} sums of {TASK}, {figures['device']}, batch"
    texts = []
    for size, found in figures["batches"].items():
        rows = [
            [name, f"{f['seconds']:.2f}", f"{f['us_per_step']:,.0f}", f"{f.get('speed_up', 1):.2f}"]
            for name, f in found["ways"].items()
            if "seconds" in f
        ]
        rows += [
            [f"at the rate of the fastest product, {precision}", f"{f['seconds']:.2f}", "",
             f"{f['gflops']:,.0f} GFLOP/s"]
            for precision, f in found["limits"].items()
        ]  # fmt: skip
        missing = [f"{name}: {f['missing']}" for name, f in found["ways"].items() if "missing" in f]
        columns = [f"{head} {size}", "s an epoch", "µs a step", "× the first row"]
        texts += [table(columns, rows), *missing]
    return "\n\n".join(texts)
