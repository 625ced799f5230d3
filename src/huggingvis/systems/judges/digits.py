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
from huggingvis.metrics.features import Features
from huggingvis.nets.lenet import LeNet5

FAMILY = Family("digits judge", {"convnet.c1.weight": (6, 1, 5, 5), "fc.f7.weight": (10, 84)})

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
    """Pictures [B, 1, H, W] in [-1, 1] go in. `fit` brings them to 32 x 32."""

    net: LeNet5
    fit: Fit = resize_to_32

    @torch.no_grad()
    def log_probs(self, x: Tensor) -> Tensor:
        """log p(digit | picture), [B, 10]."""
        return F.log_softmax(self.net(self.fit((x + 1) / 2)), dim=1)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """The 84 numbers before the last layer, [B, 84]."""
        return self.net.features(self.fit((x + 1) / 2))

    def confidence(self, x: Tensor) -> Tensor:
        """Probability of the likeliest digit, [B]."""
        return self.log_probs(x).amax(1).exp()


def bind(path: Path | str, *, fit: Fit = resize_to_32) -> DigitJudge:
    """The judge from its weights file. Raises `FileProblem` for another file."""
    with torch.device("meta"):
        net = LeNet5()
    assign(net, keymap().to_ours(load(path, check=True)))
    return DigitJudge(net.eval().requires_grad_(False), fit)


def features_of(path: Path, device: torch.device) -> Features:
    """The judge's features of pictures [B, 1 or 3, H, W], colours seen as their mean."""
    judge = bind(path)
    judge.net.to(device)
    return lambda x: judge.features(x.to(device).mean(1, keepdim=True))
