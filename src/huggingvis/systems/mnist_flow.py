"""A small public flow of handwritten digits: the real weights on which couplings and likelihoods are checked.

Binds `MNISTFlow_simple.ckpt` of github.com/phlippe/saved_models, tutorial 11 (MIT): 563 thousand numbers, eight affine
couplings by chessboards on logits of 28 x 28 pictures (Dinh et al. 2016, arXiv 1605.08803), with gated convolutions.
The file records 1.0784 bits per dimension on the test digits, by 8 dequantisations of each. Book: chapter 3.
"""

from __future__ import annotations

from pathlib import Path

import torch

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.hollow import hollow
from huggingvis.core.system import System
from huggingvis.nets.flows.bijection import Chain, Flatten
from huggingvis.nets.flows.coupling import MaskedAffineCoupling, Tanh, chessboard
from huggingvis.nets.flows.model import Flow
from huggingvis.nets.flows.pointwise import Logit, ToUnit
from huggingvis.nets.flows.prior import StandardNormal
from huggingvis.nets.gated_conv import GatedConvNet
from huggingvis.systems.fixed_size import FixedSize

FAMILY = Family("mnist_flow", {"flows.1.scaling_factor": (1,), "flows.8.network.nn.8.weight": (2, 64, 3, 3)})

SHAPE = (1, 28, 28)
COUPLINGS, WIDTH, BLOCKS = 8, 32, 3
ALPHA = 0.5e-5


def keymap() -> KeyMap:
    """Names of the flow inside the public file, whose flow 0 is the dequantisation."""
    rules = []
    for i in range(COUPLINGS):
        ours, theirs = f"body.steps.{i}", f"flows.{i + 1}"
        rules += [Rule(f"{ours}.mask", f"{theirs}.mask"), Rule(f"{ours}.scale.log_bound", f"{theirs}.scaling_factor")]
        layers = {"first": "0", "last": str(2 * BLOCKS + 2)}
        for j in range(BLOCKS):
            layers |= {f"blocks.{j}.spatial": f"{2 * j + 1}.net.1", f"blocks.{j}.pointwise": f"{2 * j + 1}.net.3"}
            rules += [
                Rule(f"{ours}.net.blocks.{j}.norm.gain", f"{theirs}.network.nn.{2 * j + 2}.gamma"),
                Rule(f"{ours}.net.blocks.{j}.norm.bias", f"{theirs}.network.nn.{2 * j + 2}.beta"),
            ]
        rules += [
            Rule(f"{ours}.net.{name}.{{leaf:word}}", f"{theirs}.network.nn.{number}.{{leaf:word}}")
            for name, number in layers.items()
        ]
    return KeyMap(rules)


def network(alpha: float = ALPHA) -> Flow:
    """The flow with fresh weights. `alpha`: margin of its logits; pictures' densities hardly depend on it."""
    board = chessboard(*SHAPE[1:])
    masks = [board if i % 2 == 0 else 1 - board for i in range(COUPLINGS)]
    body = [MaskedAffineCoupling(GatedConvNet(1, 2, WIDTH, BLOCKS), mask, Tanh(1)) for mask in masks]
    return Flow(Chain([ToUnit(), Logit(alpha)]), Chain([*body, Flatten(SHAPE)]), StandardNormal(), SHAPE)


def load_flow(path: Path | str, *, alpha: float = ALPHA, dtype: torch.dtype = torch.float32) -> Flow:
    """The flow with the file's weights, frozen, running in `dtype`. Raises `FileProblem` for another file."""
    ours = keymap().to_ours(load(path, dtype=dtype, check=True))
    with hollow():
        flow = network(alpha)
    assign(flow, ours)
    return flow.eval().requires_grad_(False)


def bind(path: Path | str, device: torch.device | None = None, *, dtype: torch.dtype = torch.float32) -> System:
    """The system from its weights file. Raises `FileProblem` for another file."""
    flow = load_flow(path, dtype=dtype).to(device or torch.device("cpu"))
    return FixedSize("mnist-flow", "mnist_flow", SHAPE, licence="MIT").system(flow, {"flow": flow}, device=device)
