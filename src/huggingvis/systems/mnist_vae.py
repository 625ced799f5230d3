"""A small public variational autoencoder of handwritten digits: 20 numbers for 784.

Binds `vae_epoch_25.pth` of github.com/csinva/gan-vae-pretrained-pytorch (MIT), 653 thousand numbers: one layer of 400
ReLU units each way, trained on grey values in [0, 1] by the evidence lower bound (Kingma & Welling 2013,
arXiv 1312.6114). Book: chapter 1, "Real weights".
"""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.transforms import Reverse, Split
from huggingvis.core.hollow import hollow
from huggingvis.core.system import System
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder
from huggingvis.objectives.vae import VAE, Bernoulli
from huggingvis.systems.fixed_size import FixedSize

SHAPE, HIDDEN, LATENT = (1, 28, 28), (400,), 20

FAMILY = Family("mnist_vae", {"fc1.weight": (400, 784), "fc21.weight": (20, 400), "fc4.weight": (784, 400)})


@final
class FromUnit(nn.Module):
    """An encoder of pictures in [0, 1] that is shown ours, in [-1, 1]."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder((x + 1) / 2)


def encoder_map() -> KeyMap:
    """Names of the encoder inside the file, where mean and log-variance are layers of their own."""
    return KeyMap(
        [
            Rule("layers.1.{leaf:word}", "fc1.{leaf:word}"),
            Rule("layers.3.{leaf:word}", ("fc21.{leaf:word}", "fc22.{leaf:word}"), Reverse(Split(2))),
        ]
    )


def decoder_map() -> KeyMap:
    """Names of the decoder inside the file."""
    return KeyMap([Rule("layers.0.{leaf:word}", "fc3.{leaf:word}"), Rule("layers.2.{leaf:word}", "fc4.{leaf:word}")])


def autoencoder(path: Path | str, *, dtype: torch.dtype = torch.float32) -> VAE:
    """The model itself, running in `dtype`. Raises `FileProblem` for another file."""
    with hollow():
        encoder = MLPEncoder(SHAPE, LATENT, HIDDEN, act=nn.ReLU)
        decoder = MLPDecoder(SHAPE, LATENT, HIDDEN, act=nn.ReLU)
    ours, left = encoder_map().take(load(path, dtype=dtype, check=True))
    assign(encoder, ours)
    assign(decoder, decoder_map().to_ours(left))
    return VAE(FromUnit(encoder), decoder, Bernoulli(), LATENT).eval().requires_grad_(False)


def bind(path: Path | str, device: torch.device | None = None, *, dtype: torch.dtype = torch.float32) -> System:
    """The system from its weights file, which makes pictures of 28 x 28 pixels. Raises `FileProblem`."""
    vae = autoencoder(path, dtype=dtype).to(device or torch.device("cpu"))
    return FixedSize("mnist-vae", "mnist_vae", SHAPE, licence="MIT").system(vae, {"vae": vae}, device=device)
