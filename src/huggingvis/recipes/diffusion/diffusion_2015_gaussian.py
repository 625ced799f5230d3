"""The first diffusion model: a Gaussian chain with learned mean, covariance and schedule, on the swiss roll.

Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli 2015, "Deep Unsupervised Learning using Nonequilibrium Thermodynamics"
(arXiv 1503.03585): 40 steps of the Gaussian kernel of Table App.1, whose rates beta_2 ... beta_T are learned with the
reverse steps on the bound itself (Eq. 13-14, Sec. 2.4.1), on points of two numbers (Sec. 3.1.1, Fig. 1). A network
believes in x_0 and tells how sure it is, from which mean and covariance of every step follow; theirs has 16 radial
units and an output layer for each step. The noise on their roll is not told, so their 2.35 bits are no figure to
reach: here the density of the data is known and the bound is told beside it, 1.62 ± 0.04 bits per point to 1.42,
0.04 ± 0.01 above the best chain of the schedule it learned, after 67 s of one core. Book: chapter 4.

    hvis train diffusion_2015_gaussian --run runs/swiss-roll
    hvis evaluate runs/swiss-roll
    hvis generate --model runs/swiss-roll
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.learned_variance import ToldVariance
from huggingvis.core.process import V
from huggingvis.core.protocols import Bound
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import System
from huggingvis.data.swiss_roll import swiss_roll
from huggingvis.nets.timed_mlp import PointMLP
from huggingvis.objectives.bound_training import BoundTraining
from huggingvis.objectives.discrete_bound import DiscreteBound
from huggingvis.objectives.observed import density
from huggingvis.processes.learned_betas import LearnedBetas
from huggingvis.processes.table import TableProcess
from huggingvis.recipes.chain_training import ChainTraining, bound_to, fit_chain, mean_bits, table, total
from huggingvis.recipes.courses import Course, scatter
from huggingvis.recipes.evaluation import Evaluation
from huggingvis.recipes.picture_training import restored
from huggingvis.recipes.setting import Setting
from huggingvis.samplers.names import sampler_names, sampler_of, schedule_asked, schedule_names
from huggingvis.systems.fixed_size import FixedSize
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Diffusion 2015, Gaussian chain",
    "chapter": 4,
    "paper": "1503.03585",
    "files": [
        "processes/learned_betas.py",
        "core/learned_variance.py",
        "objectives/discrete_bound.py",
        "objectives/bound_training.py",
        "data/swiss_roll.py",
        "nets/timed_mlp.py",
    ],
    "built": "tests/walks/test_first_diffusion.py::test_the_swiss_roll_learns_loads_and_draws",
    "exact": "tests/oracle/test_first_diffusion.py::test_the_bound_of_a_mixture_is_its_entropy_gap",
    "trained": "benchmarks/trained/swiss-roll.json",
    "explained": None,
    "usable": None,
}
SHOWN = 1000
TRUTH_ON = 500
"""Points on which the best chain is reckoned: the perfect denoiser looks at every centre of the roll."""


@dataclass(frozen=True)
class Config(ChainTraining):
    """Numbers of the training.

    Attributes:
        noise: deviation of the points from their spiral; that of the whole is 1.
        first_beta: of the first step, which is not learned; a small part of noise squared.
    """

    steps: int = 4000
    noise: float = 0.05
    first_beta: float = 1e-4


def nets_of(config: Config) -> tuple[PointMLP, LearnedBetas]:
    """The network and the schedule with fresh weights."""
    net = PointMLP(2, ToldVariance(V()).outputs(2), config.width, config.depth, clock_scale=1000 / config.T)
    return net, LearnedBetas(config.T, config.first_beta)


def chain_of(net: PointMLP, process: TableProcess) -> tuple[DiscreteBound, Bound]:
    """The chain of a table's steps: its bound, and the denoiser of its reverse steps."""
    times = torch.arange(process.steps + 1, dtype=torch.float64) / process.steps
    return DiscreteBound(process, times, density), bound_to(NetDenoiser(net, process, ToldVariance(V())))


def trained(config: Config, run: Run, device: torch.device) -> tuple[PointMLP, LearnedBetas]:
    """What a run of this recipe trained."""
    net, schedule = nets_of(config)
    restored(net, run, "net", device)
    restored(schedule, run, "schedule", device)
    return net, schedule


def train(config: Config, setting: Setting) -> Run:
    """Train network and schedule in `setting`'s run folder."""
    torch.manual_seed(config.seed)
    net, schedule = nets_of(config)
    nets = {"net": net, "schedule": schedule}
    objective = BoundTraining(nets, lambda: chain_of(net, schedule.process()), draws=1, held_out=config.T)
    return fit_chain(config, setting, "diffusion_2015_gaussian", objective, swiss_roll(config.noise))


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: its pictures show points on their way to noise and back, by any sampler."""
    net, schedule = trained(config, run, device)
    process = schedule.process()
    data = swiss_roll(config.noise).sample(SHOWN, torch.Generator().manual_seed(0)).float().T.to(device)  # [2, N]

    def course(asked: Sampling) -> Course:
        sampler, grid = sampler_of(asked.sampler, asked.eta), schedule_asked(asked)
        denoise = NetDenoiser(net, process, ToldVariance(V()))
        model = Diffusion(denoise, process, tuple(data.shape), sampler, grid, device=device)
        return Course(model, process, data, scatter)

    usual = Sampling(sampler="ddpm", schedule="trailing", steps=config.T, guidance_scale=1.0)
    size = FixedSize(run.path.name, "diffusion_2015_gaussian", course(usual).shape, card={"data": "swiss roll"})
    system = size.system(course(usual), {"net": net, "schedule": schedule}, device=device)

    def generator(request: Request) -> Course:
        system.generator(request)  # refuses another size
        return course(request.sampling)

    limits = Limits(multiple=1, prompt_required=False, samplers=sampler_names(), schedules=schedule_names())
    return replace(system, generator=generator, defaults=usual, limits=limits)


@torch.no_grad()
def evaluate(config: Config, run: Run, device: torch.device) -> Evaluation:
    """The bound of a run of this recipe in bits per point, beside that of the best chain and the data's density."""
    net, schedule = trained(config, run, torch.device("cpu"))
    process, law = schedule.process(), swiss_roll(config.noise)
    bounds, ask = chain_of(net, process)
    x = law.sample(4000, torch.Generator().manual_seed(config.seed))
    true = -law.log_prob(x, process, torch.tensor(0.0, dtype=torch.float64))
    ledger = bounds(ask, x.float(), torch.Generator().manual_seed(1), config.T)
    perfect = bound_to(law.denoiser(process, sure=True))
    pair = [total(bounds(f, x[:TRUTH_ON], torch.Generator().manual_seed(2), config.T)) for f in (ask, perfect)]
    gap, over = mean_bits(total(ledger) - true), mean_bits(pair[0] - pair[1])  # the pair has the same noise
    entropy = mean_bits(true)
    end = math.log(2 * math.pi * math.e * config.first_beta) / math.log(2)  # of both numbers, half of it each
    fixed = mean_bits(ledger["prior"] + ledger["steps"])
    rows = {
        "truth": entropy,
        "best chain": {**gap, "mean": entropy["mean"] + gap["mean"] - over["mean"]},
        "bound": {**gap, "mean": entropy["mean"] + gap["mean"]},
        "bound, last step fixed": {**fixed, "mean": fixed["mean"] + end},
    }
    text = (
        f"Bits per point, {config.T} steps; less is better, and densities may have less than none\n{table(rows)}\n"
        f"Above the truth: {gap['mean']:.4f} ± {gap['standard_error']:.1g} bits; above the best chain of the same "
        f"schedule: {over['mean']:.4f} ± {over['standard_error']:.1g}."
    )
    betas = [round(float(beta), 6) for beta in schedule.betas()]
    return Evaluation(
        {"bits_per_point": rows, "above_best_chain": over, "T": config.T, "n": len(x), "betas": betas}, text
    )
