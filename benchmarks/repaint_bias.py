"""How far inpainting without training is off, where the truth is a formula: a correlated Gaussian, one number known.

    python benchmarks/repaint_bias.py

x = (x1, x2) is normal with variances 1 and correlation 0.9, and x1 = 1.2 is known: x2 then has mean 1.08 and variance
0.19. The denoiser is exact and all is float64, so what is left is the method's own error: putting the known number in
at each step (replacement) stays biased however many steps it takes, and resampling (RePaint, Lugmayr et al. 2022, arXiv
2201.09865) wears the bias down. Means and variances are over draws; their standard errors are told beside them.
"""

from __future__ import annotations

import torch
from common import Report, parser, row
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.grid import Grid
from huggingvis.core.noise import BatchNoise
from huggingvis.core.protocols import Cond
from huggingvis.core.sample import sample
from huggingvis.edits.repaint import Replaced, jumping
from huggingvis.processes.vp import LinearVP
from huggingvis.samplers.ancestral import Ancestral

RHO, KNOWN = 0.9, 1.2
MEAN, VARIANCE = RHO * KNOWN, 1 - RHO**2
CASES = (
    *((steps, 1, 1) for steps in (20, 100, 250)),
    *((250, resamples, jump) for jump in (10, 1) for resamples in (2, 5, 10, 20)),
)
"""(steps, resamples, length of a jump)."""


class Exact:
    """E[x_0 | x_t] of the Gaussian: linear, and the same for all draws at one time."""

    def __init__(self, process: LinearVP):
        self.process = process
        self.cov = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)
        self.gains: dict[float, Tensor] = {}

    def __call__(self, x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        return Gaussian(x @ self.gain(t))

    def gain(self, t: Tensor) -> Tensor:
        if float(t) not in self.gains:
            a, s = self.process.alpha(t), self.process.sigma(t)
            total = a**2 * self.cov + s**2 * torch.eye(2, dtype=torch.float64)
            self.gains[float(t)] = torch.linalg.solve(total, a * self.cov)  # both are symmetric
        return self.gains[float(t)]


def draws(steps: int, resamples: int, jump: int, n: int, seed: int) -> Tensor:
    """`n` draws of x2, [n]."""
    process, noise = LinearVP(), BatchNoise(seed)
    grid = jumping(Grid(torch.linspace(1, 0, steps + 1, dtype=torch.float64)), jump, resamples)
    hole = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(n, 2)
    known = torch.tensor([[KNOWN, 0.0]], dtype=torch.float64).expand(n, 2)
    start = noise.draw(torch.empty(n, 2, dtype=torch.float64))
    walker = Replaced(Ancestral(), hole, known)
    return sample(Exact(process), process, walker, start, grid, {}, noise=noise)[:, 1]


def main() -> None:
    adds = parser(__doc__, repeats=10, threads=1)
    adds.add_argument("--draws", type=int, default=1000, help="of x2 in a round (default: %(default)s)")
    options = adds.parse_args()
    torch.set_num_threads(options.threads)
    report = Report(__file__, options)
    for steps, resamples, jump in CASES:
        x2 = draws(steps, resamples, jump, options.repeats * options.draws, options.seed)
        report.add(told(steps, resamples, jump, x2, options.repeats))
    report.write()


def told(steps: int, resamples: int, jump: int, x2: Tensor, rounds: int) -> dict[str, object]:
    """A row: the means of the rounds, and in its facts mean and variance of all draws with standard errors."""
    n = len(x2)
    mean, variance = float(x2.mean()), float(x2.var())
    who = "replacement" if resamples == 1 else f"RePaint r={resamples} j={jump}"
    facts = {
        "steps": steps,
        "draws": n,
        "mean": round(mean, 4),
        "mean_error": round((variance / n) ** 0.5, 4),
        "variance": round(variance, 4),
        "variance_error": round(variance * (2 / (n - 1)) ** 0.5, 4),
        "true_mean": round(MEAN, 4),
        "true_variance": round(VARIANCE, 4),
    }
    return row(
        f"x2 given x1 = {KNOWN}, {steps} steps", who, "mean", x2.reshape(rounds, -1).mean(1).tolist(), facts=facts
    )


if __name__ == "__main__":
    main()
