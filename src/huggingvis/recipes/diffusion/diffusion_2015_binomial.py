"""The first diffusion model on bits: a binomial chain that learns the heartbeat.

Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli 2015, "Deep Unsupervised Learning using Nonequilibrium Thermodynamics"
(arXiv 1503.03585): the binomial kernel of Table App.1 with beta_t = 1/(T - t + 1), trained on the bound (Eq. 13-14) to
make words of 20 bits with a beat at every fifth (Sec. 3.1.2). Noise ends in bits of the data's rate, 0.2. The network
believes in the bits of x_0, from which the rates of every step follow, and is one for all times; theirs, of three
layers of 50 units, gives the rates themselves and has an output layer for each of the 2000 steps.

After 69 s of one core K is -2.376 ± 0.001 bits per word, like for like with the paper's -2.414; with the last step
learned as well the bound is 2.332, the best chain of 2000 steps has 2.324 and the truth is log2 5 = 2.322.
Book: chapter 4.

    hvis train diffusion_2015_binomial --run runs/heartbeat
    hvis evaluate runs/heartbeat
    hvis generate --model runs/heartbeat
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import torch

from huggingvis.core.categorical import CategoricalDiffusion, CategoricalNet
from huggingvis.core.grid import Grid
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import System
from huggingvis.data.enumerable import Enumerable, heartbeat
from huggingvis.nets.timed_mlp import WordMLP
from huggingvis.objectives.bound_training import BoundTraining
from huggingvis.objectives.categorical_bound import CategoricalBound
from huggingvis.processes.multinomial import Multinomial
from huggingvis.recipes.chain_training import ChainTraining, bound_to, fit_chain, mean_bits, table, total
from huggingvis.recipes.courses import Course, raster
from huggingvis.recipes.evaluation import Evaluation
from huggingvis.recipes.picture_training import restored
from huggingvis.recipes.setting import Setting
from huggingvis.samplers.categorical import CategoricalAncestral
from huggingvis.systems.fixed_size import FixedSize
from huggingvis.train.run import Run

SYSTEM = {
    "name": "Diffusion 2015, binomial chain",
    "chapter": 4,
    "paper": "1503.03585",
    "files": [
        "core/categorical.py",
        "processes/multinomial.py",
        "samplers/categorical.py",
        "objectives/categorical_bound.py",
        "objectives/bound_training.py",
        "data/enumerable.py",
        "nets/timed_mlp.py",
    ],
    "built": "tests/walks/test_first_diffusion.py::test_the_heartbeat_learns_loads_and_draws",
    "exact": "tests/oracle/test_categorical.py::test_the_bound_of_the_heartbeat_falls_to_its_entropy",
    "trained": "benchmarks/trained/heartbeat.json",
    "explained": None,
    "usable": None,
}
PAPER = -2.414
"""Bits per word of the paper's bound K, its Table 1."""
SHOWN = 40


@dataclass(frozen=True)
class Config(ChainTraining):
    """Numbers of the training.

    Attributes:
        length: bits of a word.
        period: a beat at every so many of them.
    """

    T: int = 2000
    length: int = 20
    period: int = 5


def process_of(config: Config) -> Multinomial:
    """Bits fade into bits of the data's own rate."""
    return Multinomial((1 - 1 / config.period, 1 / config.period))


def bound_of(process: Multinomial, T: int) -> CategoricalBound:
    """The bound of the chain of `T` steps."""
    return CategoricalBound(process, torch.arange(T + 1, dtype=torch.float64) / T)


def net_of(config: Config) -> WordMLP:
    """The network with fresh weights."""
    return WordMLP(config.length, 2, config.width, config.depth)


def train(config: Config, setting: Setting) -> Run:
    """Train the network in `setting`'s run folder."""
    law = heartbeat(config.length, config.period)
    torch.manual_seed(config.seed)
    net, process = net_of(config), process_of(config)
    chain = bound_of(process, config.T), bound_to(CategoricalNet(net, process))
    objective = BoundTraining({"net": net}, lambda: chain, draws=1, held_out=16)
    return fit_chain(config, setting, "diffusion_2015_binomial", objective, law)


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained: its pictures show words on their way to noise and back, in any number of
    steps."""
    net, process = net_of(config), process_of(config)
    restored(net, run, "net", device)
    data = heartbeat(config.length, config.period).sample(SHOWN, torch.Generator().manual_seed(0)).to(device)

    def course(steps: int) -> Course:
        times = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
        denoise, shape = CategoricalNet(net, process), tuple(data.shape)
        model = CategoricalDiffusion(denoise, process, shape, CategoricalAncestral(), Grid(times), device=device)
        return Course(model, process, data, raster)

    size = FixedSize(run.path.name, "diffusion_2015_binomial", course(1).shape, card={"data": "heartbeat"})
    system = size.system(course(config.T), {"net": net}, device=device)

    def generator(request: Request) -> Course:
        system.generator(request)  # refuses another size
        return course(request.sampling.steps)

    return replace(
        system,
        generator=generator,
        defaults=Sampling(sampler="ddpm", steps=config.T, guidance_scale=1.0),
        limits=replace(Limits(multiple=1, prompt_required=False), samplers=("ddpm",), schedules=("uniform",)),
    )


def perfect(law: Enumerable, process: Multinomial, T: int) -> float:
    """The bound of the best chain of `T` steps, in nats per word: exact, by every noisy word there is.

    What matters of a noisy word is how many ones stand at the places of each phase, and phases that are not the word's
    own are alike.
    """
    period, length = law.words.shape
    beats, bound = length // period, bound_of(process, T)
    counts = torch.tensor([(own, *others) for own in range(beats + 1)
                           for others in combinations_with_replacement(range(beats + 1), period - 1)])  # fmt: skip
    rank = torch.arange(length) // period  # of a place among those of its phase
    noisy = (rank < counts[:, torch.arange(length) % period]).long()  # [S, L]
    x = law.words[:1].expand(len(noisy), -1)
    arranged = torch.tensor([math.factorial(period - 1) / math.prod(math.factorial(row.count(c)) for c in set(row))
                             for row in counts[:, 1:].tolist()], dtype=torch.float64)  # fmt: skip
    ways = arranged * torch.tensor([[math.comb(beats, c) for c in row] for row in counts.tolist()]).prod(1)
    ask, nats = bound_to(law.denoiser(process)), 0.0
    for t, s in zip(bound.times[1:], bound.times[:-1], strict=True):
        chance = ways * process.marginal(x, t).gather(-1, noisy[..., None]).squeeze(-1).prod(-1)  # [S], sums to 1
        nats += float((chance * bound.cost(ask, x, noisy, t, s)).nan_to_num(0.0).sum())
    return nats


@torch.no_grad()
def evaluate(config: Config, run: Run, device: torch.device) -> Evaluation:
    """The bound of a run in bits per word, beside that of the best chain, the data's entropy and the paper's."""
    law, process, net = heartbeat(config.length, config.period), process_of(config), net_of(config)
    restored(net, run, "net", torch.device("cpu"))
    bound, best = bound_of(process, config.T), perfect(law, process, config.T)
    x, draws = law.sample(1000, torch.Generator().manual_seed(config.seed)), min(config.T, 100)
    asked = (bound_to(CategoricalNet(net, process)), bound_to(law.denoiser(process)))
    ours, exact = (total(bound(ask, x, torch.Generator().manual_seed(1), draws)) for ask in asked)
    more = mean_bits(ours - exact)  # of the same noise, so that it is far less noisy than either
    best_bits, end = best / math.log(2), float(bound.fixed_end(x).mean()) / math.log(2)
    found = {"mean": best_bits + more["mean"], "standard_error": more["standard_error"]}
    rows = {
        "truth": {"mean": law.entropy / math.log(2), "standard_error": 0.0},
        "best chain": {"mean": best_bits, "standard_error": 0.0},
        "bound": found,
        "bound, last step fixed": {**found, "mean": found["mean"] + end},
    }
    record: dict[str, Any] = {"bits_per_word": rows, "T": config.T, "draws": draws, "n": len(x), "paper_K": PAPER}
    text = (
        f"Bits per word of {config.length} bits, {config.T} steps; less is better\n{table(rows)}\n"
        f"The paper's K is {PAPER} at 2000 steps, whose last is not learned: minus the last row is like for like."
    )
    return Evaluation(record, text)
