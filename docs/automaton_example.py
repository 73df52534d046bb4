"""From a trained network to its automaton: a GRU learns which strings have no 000 (Tomita 4).

Writes docs/pictures/automaton.png.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from visualization import render
from visualization.recurrent.automaton import extract_automaton

PICTURE = Path(__file__).parent / "pictures" / "automaton.png"


def strings(count: int, length: int, generator: torch.Generator) -> Tensor:
    """Return strings of 0 and 1 (count, length) with 30 to 80 per cent of ones."""
    share = torch.linspace(0.3, 0.8, count)[:, None]
    return (torch.rand(count, length, generator=generator) < share).long()


def is_accepted(bits: Tensor) -> Tensor:
    """Tell after each symbol whether no 000 was read so far."""
    padded = nn.functional.pad(bits, (2, 0), value=1)
    has_000 = padded.unfold(1, 3, 1).sum(dim=-1) == 0
    return has_000.cumsum(dim=1) == 0


def main() -> None:
    """Train, extract, draw."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    rnn, read_out = nn.GRU(1, 12, batch_first=True), nn.Linear(12, 1)
    optimiser = torch.optim.Adam([*rnn.parameters(), *read_out.parameters()], lr=0.02)
    for _ in range(400):
        bits = strings(128, 14, generator)
        logits = read_out(rnn(bits[..., None].float())[0])[..., 0]
        target = is_accepted(bits).float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    fresh = strings(1000, 20, generator)
    automaton = extract_automaton(
        rnn, fresh[..., None].float(), fresh, lambda h: read_out(h)[..., 0] > 0
    )
    print(render.text(automaton))
    print(f"states: {automaton.num_states}, agreement: {automaton.agreement:.4f}")
    PICTURE.write_bytes(render.png(render.draw(automaton), dpi=100))


if __name__ == "__main__":
    main()
