"""A bare PyTorch loop on the agent's own model, in fp32."""

import functools

import torch

from benchmarks.peers.bare import adder_model, answer_loss, bare_loop, training_tensors
from benchmarks.peers.common import add_decoder, load, parser, report


def main() -> None:
    """Measure the second of two epochs and print it."""
    parse = parser("bare PyTorch loop", batch=128)
    add_decoder(parse)
    options = parse.parse_args()
    torch.manual_seed(options.seed)
    model, data = adder_model(options.decoder), training_tensors(load(options.limit))
    epoch = -(-len(data[0]) // options.batch)  # steps
    loss_fn = functools.partial(answer_loss, model)
    stamps = bare_loop(model, loss_fn, data, options.batch, 2 * epoch)
    seconds = stamps[2 * epoch] - stamps[epoch]
    report(samples_per_s=len(data[0]) / seconds, versions={"torch": torch.__version__})


if __name__ == "__main__":
    main()
