"""How well the U-Nets of `training_step.py` learn in equally many steps, ours beside the two peers'.

    python benchmarks/training_loss.py              half an hour of one core
    python benchmarks/training_loss.py --steps 20   whether it runs

Pictures are 32x32 of the synthetic world, in the same order for all; the nets are the smaller ones of `unet_peers.py`,
all with one learning rate, each from three seeds. Told: the mean square of the predicted noise on held-out pictures,
all levels alike often, without averaged weights. The spread is that of the seeds.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator

import numpy as np
import torch
from common import Report, parser, row
from torch import Tensor
from unet_peers import DIFFUSERS, OURS, PACKAGES, SIDE, SMALL, WANG, Contender, contenders

from huggingvis.data.artwork import emoji_font_path
from huggingvis.data.world import World

HELD_OUT = 512
DRAWS = 4
"""How often the loss of each held-out picture is drawn."""


def main() -> None:
    adds = parser(__doc__, repeats=3, threads=0)
    adds.add_argument("--steps", type=int, default=400, help="of each training (default: %(default)s)")
    adds.add_argument("--batch", type=int, default=32, help="pictures of a step (default: %(default)s)")
    adds.add_argument("--rate", type=float, default=5e-4, help="learning rate (default: %(default)s)")
    options = adds.parse_args()
    if emoji_font_path() is None:
        print("Not measured: the world's sprites need a colour-emoji font (Debian: fonts-noto-color-emoji).")
        return
    torch.set_num_threads(options.threads)
    report = Report(__file__, options, PACKAGES)
    shown, unseen = _pictures("train", options.steps * options.batch), _pictures("test", HELD_OUT)
    losses: dict[str, list[float]] = {}
    for name in (OURS[0], WANG, DIFFUSERS):
        for seed in range(options.seed, options.seed + options.repeats):
            net = contenders(SMALL, options.rate, seed)[name]()
            losses.setdefault(name, []).append(_learnt(net, shown, unseen, options))
        facts = net.facts(options.batch) | spread(losses[name])
        report.add(row(f"loss after {options.steps} steps", name, "mean square", losses[name], facts=facts))
    report.write()


def spread(losses: list[float]) -> dict[str, float]:
    """The standard deviation over seeds, where there are several."""
    return {"spread": round(statistics.stdev(losses), 5)} if len(losses) > 1 else {}


def _learnt(net: Contender, shown: Tensor, unseen: Tensor, options: Namespace) -> float:
    """The loss on held-out pictures after training. Times and noise are the same for all nets of a peer; ours goes on
    with the generator of its training."""
    for pictures in shown.split(options.batch):
        net.step(pictures)
    net.net.eval()
    torch.manual_seed(options.seed)
    with torch.no_grad():
        return statistics.fmean(float(net.loss(part)) for part in _again(unseen, options.batch))


def _again(pictures: Tensor, batch: int) -> Iterator[Tensor]:
    for _ in range(DRAWS):
        yield from pictures.split(batch)


def _pictures(split: str, count: int) -> Tensor:
    """Pictures [N, 3, S, S] in [-1, 1]."""
    world = World(size=SIDE, split=split)
    pixels = np.stack([world.image(world.layout(i)) for i in range(count)])  # [N, S, S, 3]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()


if __name__ == "__main__":
    main()
