"""One training step of a pixel U-Net beside denoising-diffusion-pytorch's and diffusers', equal in parameters and work.

    python benchmarks/training_step.py

A step is loss, backward, clipping of the gradient to norm 1 and the optimiser's step on 64 pictures in memory, without
loading and averaging of weights on any side. The nets, and what "as it comes" and "tuned like ours" mean, are in
`unet_peers.py`; how well each learns is measured by `training_loss.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from common import Report, clock, interleaved, parser, row
from unet_peers import LARGE, OURS, PACKAGES, SIDE, contenders

BATCH = 64
RATE = 1e-4


def main() -> None:
    options = parser(__doc__, repeats=8, threads=0).parse_args()
    torch.set_num_threads(options.threads)
    report = Report(__file__, options, PACKAGES)
    rng = torch.Generator().manual_seed(options.seed)
    pictures = torch.rand(BATCH, 3, SIDE, SIDE, generator=rng) * 2 - 1  # [B, 3, S, S]
    nets = {name: make() for name, make in contenders(LARGE, RATE, options.seed).items()}
    steps = {name: partial(clock, partial(net.step, pictures)) for name, net in nets.items()}
    seconds = interleaved(steps, options.repeats, warm=2)
    peers = {name: values for name, values in seconds.items() if name not in OURS}
    for name, values in seconds.items():
        beside = peers if name in OURS else None
        report.add(row(f"step of {BATCH} pictures", name, "s", values, beside=beside, facts=nets[name].facts(BATCH)))
    report.write()


if __name__ == "__main__":
    main()
