"""A style-based generator against a residual discriminator, the first StyleGAN's or the second's networks.

Karras, Laine & Aila 2018, "A Style-Based Generator Architecture for Generative Adversarial Networks" (arXiv
1812.04948) with `--net StyleGAN1`; Karras et al. 2019, "Analyzing and Improving the Image Quality of StyleGAN" (arXiv
1912.04958), the default; Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (arXiv
2006.06676) with `--augment Adaptation`, for sets of a few thousand pictures. Adam with beta1 0, slowed down as lazy
penalties ask; averaged weights. Sides are powers of 2. Book: chapter 2.

    hvis train stylegan --run runs/stylegan --data world --size 32
    hvis generate --model runs/stylegan
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import OnStep
from huggingvis.core.system import System
from huggingvis.nets.adain_synthesis import AdaINSynthesis
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.objectives.augment import Augment, Strengths
from huggingvis.objectives.denoise import unconditional
from huggingvis.objectives.stylegan import Adaptive, Penalties, StyleGAN
from huggingvis.recipes.adversarial_training import alarms
from huggingvis.recipes.classes import LabelCondition, each_class
from huggingvis.recipes.denoisers import classes_of
from huggingvis.recipes.picture_training import (
    PictureTraining,
    Updates,
    begin,
    fit_pictures,
    open_pictures,
    picture_system,
    restored,
)
from huggingvis.recipes.setting import Setting
from huggingvis.recipes.sources import Facts
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run

SYSTEM = {
    "name": "StyleGAN",
    "chapter": 2,
    "paper": "1812.04948",
    "files": [
        "objectives/stylegan.py",
        "objectives/augment.py",
        "nets/stylegan.py",
        "nets/adain_synthesis.py",
        "nets/stylegan2_synthesis.py",
        "nets/stylegan3_synthesis.py",
        "nets/stylegan3_sizes.py",
        "nets/filtered_lrelu.py",
        "nets/lowpass.py",
        "nets/modulated_conv.py",
        "nets/resampling.py",
        "nets/style_discriminator.py",
        "systems/stylegan.py",
        "systems/stylegan2.py",
        "systems/stylegan3.py",
        "systems/style_pickles.py",
        "metrics/path_length.py",
    ],
    "built": [
        "tests/walks/test_stylegan.py::test_stylegan_learns_loads_and_draws",
        "tests/interop/test_stylegan_pickles.py::test_an_alias_free_file_generates_and_is_explored",
    ],
    "exact": [
        "tests/golden/test_stylegan.py::test_networks_are_the_official_ones",
        "tests/golden/test_stylegan3.py::test_generators_are_the_official_ones",
    ],
    "trained": "benchmarks/trained/stylegan.json",
    "explained": None,
    "usable": None,
}


@final
@dataclass(frozen=True)
class StyleGAN1:
    """Adaptive instance normalisation, and a discriminator without residual branches."""

    path: float = 0.0  #: weight of path-length regularisation

    def synthesis(self, sizes: StyleGANSizes) -> nn.Module:
        """The synthesis network."""
        return AdaINSynthesis(sizes)

    def critic(self, sizes: StyleGANSizes) -> StyleDiscriminator:
        """The discriminator."""
        return StyleDiscriminator(sizes, residual=False)


@final
@dataclass(frozen=True)
class StyleGAN2:
    """Modulated convolutions, and a residual discriminator."""

    path: float = 2.0  #: weight of path-length regularisation

    def synthesis(self, sizes: StyleGANSizes) -> nn.Module:
        """The synthesis network."""
        return StyleGAN2Synthesis(sizes)

    def critic(self, sizes: StyleGANSizes) -> StyleDiscriminator:
        """The discriminator."""
        return StyleDiscriminator(sizes)


@final
@dataclass(frozen=True)
class Adaptation:
    """Augmentation that adapts to how much the discriminator overfits."""

    target: float = 0.6  #: of the mean sign of its output on real pictures
    kimg: float = 500.0  #: thousands of pictures in which the probability could rise from 0 to 1
    strengths: Strengths = Strengths()  #: how far pictures are changed


@dataclass(frozen=True)
class Config(PictureTraining):
    """Numbers of the training.

    Attributes:
        conditional: learn the data's classes.
        net: StyleGAN2 or StyleGAN1.
        latent_dim: numbers in z, and in w.
        mapping_layers: of the mapping network.
        width: channels at the full size, doubled at each coarser resolution.
        most: channels at most.
        gamma: weight of R1; none: 0.0002 side^2 / batch, which suits most sets.
        mixing: share of pictures made of two styles.
        augment: Adaptation, for small sets; none: the pictures as they are.
        ema: decay of the generator's averaged weights.
    """

    size: int | None = 32
    steps: int = 40_000
    batch: int = 32
    lr: float = 2.5e-3
    sample_every: int = 1000
    conditional: bool = False
    net: StyleGAN2 | StyleGAN1 = StyleGAN2()
    latent_dim: int = 128
    mapping_layers: int = 4
    width: int = 32
    most: int = 128
    gamma: float | None = None
    mixing: float = 0.9
    augment: Adaptation | None = None
    ema: float = 0.998

    def penalties(self, side: int) -> Penalties:
        """Weights of the losses for pictures of `side` pixels."""
        gamma = 2e-4 * side**2 / self.batch if self.gamma is None else self.gamma
        return Penalties(r1=gamma, path=self.net.path, mixing=self.mixing)


def sizes(config: Config, facts: Facts) -> StyleGANSizes:
    """Sizes of both networks. Raises `UsageError` unless the pictures' side is a power of 2, 8 at least."""
    side = facts.size
    if side < 8 or side & (side - 1):
        below = 2 ** max(3, side.bit_length() - 1)
        raise UsageError(
            f"A style-based generator doubles 4 pixels again and again, so that a side must be a power of 2, 8 at "
            f"least; found {side}. Ask for --size {below} or {2 * below}."
        )
    levels = side.bit_length() - 2
    return StyleGANSizes(
        widths=tuple(min(config.width * 2**i, config.most) for i in reversed(range(levels))),
        channels=facts.channels,
        z_dim=config.latent_dim,
        w_dim=config.latent_dim,
        mapping_layers=config.mapping_layers,
        classes=len(classes_of(config.conditional, facts)),
    )


def generator(config: Config, facts: Facts) -> StyleGenerator:
    """The generator with fresh weights."""
    found = sizes(config, facts)
    return fresh_generator(found, config.net.synthesis(found))


def slowed(lr: float, every: int, lazy: bool) -> Optim:
    """Adam with beta1 0 for a player whose penalty comes every `every`-th step: k steps count as k + 1 (1912.04958,
    App. B), and both the rate and beta2 are brought to it."""
    c = every / (every + 1) if lazy else 1.0
    return Optim(lr=lr * c, betas=(0.0, 0.99**c), clip=None)


def train(config: Config, setting: Setting) -> Run:
    """Train both networks in `setting`'s run folder."""
    source = open_pictures(config, classes=bool(config.conditional))
    net, penalties = generator(config, source.facts), config.penalties(source.facts.size)
    classes = classes_of(config.conditional, source.facts)
    asked = config.augment
    objective = StyleGAN(
        net,
        config.net.critic(sizes(config, source.facts)),
        penalties,
        augment=None if asked is None else Augment(asked.strengths),
        adaptive=None if asked is None else Adaptive(config.batch, asked.target, kimg=asked.kimg),
        condition=LabelCondition(len(classes)) if classes else unconditional,
    )
    run = begin(setting, "stylegan", config, source)
    shown = {"vector": each_class(len(classes), 8, setting.device)} if classes else {}
    count = 8 * len(classes) or 64

    def draw(on_step: OnStep) -> Tensor:
        return net.sample(count, shown, noise=SeedNoise([i % 8 if classes else i for i in range(count)]))

    return fit_pictures(
        config,
        setting,
        run,
        objective,
        source,
        draw=draw,
        updates=Updates(
            {
                "generator": slowed(config.lr, penalties.path_every, penalties.path > 0),
                "critic": slowed(config.lr, penalties.r1_every, penalties.r1 > 0),
            },
            Ema(ConstantDecay(config.ema), nets=("generator",)),
        ),
        on_step=alarms(),
    )


def bind(config: Config, run: Run, device: torch.device) -> System:
    """What a run of this recipe trained; of a conditional one a prompt names a class, the empty one any."""
    facts = Facts.of(run)
    net = restored(generator(config, facts), run, "generator", device)
    classes = classes_of(config.conditional, facts)
    return picture_system(net, {"generator": net}, run, "stylegan", device, classes=classes)
