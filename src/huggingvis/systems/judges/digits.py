"""A judge of digits: a trained LeNet-5 that tells which digit a picture shows, and how surely.

Binds the weights of the public `gan-vae-pretrained-pytorch` MNIST classifier (test accuracy 0.991): how convincing
generated digits are (its confidence), whether all ten are made (its votes), and features for Fréchet distances.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.hollow import hollow
from huggingvis.nets.lenet import LeNet5

FAMILY = Family(
    "digits judge",
    {"convnet.c1.weight": (6, 1, 5, 5), "fc.f7.weight": (10, 84)},
    use="`hvis evaluate RUN --accuracy 1000 --judge FILE` asks it",
    alone=False,
)

CLASSES = tuple("0123456789")

Fit = Callable[[Tensor], Tensor]


def resize_to_32(x: Tensor) -> Tensor:
    """Any size to 32 x 32, bilinear with antialiasing: what the judge was trained on (test accuracy 0.9908)."""
    return F.interpolate(x, (32, 32), mode="bilinear", antialias=True)


def pad_to_32(x: Tensor) -> Tensor:
    """A black frame of 2 around 28 x 28 (test accuracy 0.9861)."""
    return F.pad(x, (2, 2, 2, 2))


def keymap() -> KeyMap:
    """Names in the public file."""
    convs = [Rule(f"conv{i}.{{leaf:word}}", f"convnet.c{j}.{{leaf:word}}") for i, j in ((1, 1), (2, 3), (3, 5))]
    return KeyMap([*convs, *(Rule(f"fc{i}.{{leaf:word}}", f"fc.f{i + 5}.{{leaf:word}}") for i in (1, 2))])


@final
@dataclass(frozen=True)
class DigitJudge:
    """Pictures [B, C, H, W] in [-1, 1] go in, of colours their mean. `fit` brings them to 32 x 32."""

    net: LeNet5
    fit: Fit = resize_to_32

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return CLASSES

    @torch.no_grad()
    def log_probs(self, x: Tensor) -> Tensor:
        """log p(digit | picture), [B, 10]."""
        return F.log_softmax(self.net(self._seen(x)), dim=1)

    def features(self, x: Tensor) -> Tensor:
        """The 84 numbers before the last layer, [B, 84]."""
        return self.net.features(self._seen(x))

    def _seen(self, x: Tensor) -> Tensor:
        """As the network was trained to see pictures, [B, 1, 32, 32] in [0, 1]."""
        return self.fit((x.mean(1, keepdim=True).to(next(self.net.parameters()).device) + 1) / 2)

    def confidence(self, x: Tensor) -> Tensor:
        """Probability of the likeliest digit, [B]."""
        return self.log_probs(x).amax(1).exp()


def bind(path: Path | str, device: torch.device | None = None, *, fit: Fit = resize_to_32) -> DigitJudge:
    """The judge from its weights file. Raises `FileProblem` for another file."""
    with hollow():
        net = LeNet5()
    assign(net, keymap().to_ours(load(path, check=True)))
    return DigitJudge(net.to(device or torch.device("cpu")).eval().requires_grad_(False), fit)
