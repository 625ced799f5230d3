"""A small public GAN of handwritten digits: real weights of the oldest kind.

Binds `G--300.ckpt` and `D--300.ckpt` of github.com/csinva/gan-vae-pretrained-pytorch (MIT): multilayer perceptrons with
two hidden layers of 256 (Goodfellow et al. 2014, arXiv 1406.2661, in its usual dress of leaky rectifiers and Adam),
z ~ N(0, I) of 64. It draws ones too often, a mild mode collapse. Book: chapter 2, "Real weights".
"""

from __future__ import annotations

from pathlib import Path

import torch

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.hollow import hollow
from huggingvis.core.system import System
from huggingvis.nets.mlp_gan import MLPCritic, MLPGenerator
from huggingvis.objectives.gan import GAN
from huggingvis.systems.fixed_size import FixedSize

SHAPE, LATENT, HIDDEN = (1, 28, 28), 64, (256, 256)

FAMILY = Family("gan_mnist", {"0.weight": (256, LATENT), "2.weight": (256, 256), "4.weight": (784, 256)})


def generator_map() -> KeyMap:
    """The public files number their layers in one list; so do we."""
    return KeyMap([Rule("layers.{i}.{leaf:word}", "{i}.{leaf:word}")])


def critic_map() -> KeyMap:
    """Ours begins by flattening the picture, which counts as a layer."""
    return KeyMap([Rule(f"layers.{i + 1}.{{leaf:word}}", f"{i}.{{leaf:word}}") for i in (0, 2, 4)])


def bind(path: Path | str, device: torch.device | None = None, *, dtype: torch.dtype = torch.float32) -> System:
    """The system from the generator's file, running in `dtype`. Raises `FileProblem` for another file."""
    with hollow():
        net = MLPGenerator(SHAPE, LATENT, HIDDEN)
    assign(net, generator_map().to_ours(load(path, dtype=dtype, check=True)))
    gan = GAN(net.to(device or torch.device("cpu")).eval().requires_grad_(False), LATENT)
    return FixedSize("gan-mnist", "gan_mnist", SHAPE, licence="MIT").system(gan, {"generator": net}, device=device)


def bind_critic(path: Path | str, *, dtype: torch.dtype = torch.float32) -> MLPCritic:
    """Its discriminator, as logits: its own code ends in a sigmoid. Raises `FileProblem` for another file."""
    with hollow():
        net = MLPCritic(SHAPE, HIDDEN)
    assign(net, critic_map().to_ours(load(path, dtype=dtype, check=True)))
    return net.eval().requires_grad_(False)
