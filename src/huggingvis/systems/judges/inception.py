"""The network of published Fréchet and kernel distances: Inception v3 with the weights that FID is told with.

Binds `pt_inception-2015-12-05-6726825d.pth` of the project pytorch-fid (Apache-2.0), which is TensorFlow's network of
that day, or the same tensors as safetensors. Features are pytorch-fid's, to float32 rounding.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from pathlib import Path

import torch

from huggingvis.checkpoints.inspect import Family
from huggingvis.checkpoints.io import Tensors, assign, load
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.core.errors import FileProblem
from huggingvis.core.hollow import hollow
from huggingvis.nets.inception import InceptionV3, Unit

FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WHERE_FROM = f"{FILE}, 95,628,359 bytes, which the project pytorch-fid publishes, or the same tensors as .safetensors"
"""What to give, for messages."""

FAMILY = Family(
    "FID inception",
    {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
        "fc.weight": (1008, 2048),
    },
    use="`hvis evaluate FOLDER --against FOLDER --inception FILE` looks by it",
    alone=False,
)

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")


def _chain(name: str, length: int) -> tuple[str, ...]:
    return tuple(f"{name}_{i}" for i in range(1, length + 1))


_A = ("branch1x1", *_chain("branch5x5", 2), *_chain("branch3x3dbl", 3), "branch_pool")
_B = ("branch3x3", *_chain("branch3x3dbl", 3))
_C = ("branch1x1", *_chain("branch7x7", 3), *_chain("branch7x7dbl", 5), "branch_pool")
_D = (*_chain("branch3x3", 2), *_chain("branch7x7x3", 4))
_E = (
    *("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
    *("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"),
)
_BLOCKS = {"5b": _A, "5c": _A, "5d": _A, "6a": _B, "6b": _C, "6c": _C, "6d": _C, "6e": _C, "7a": _D, "7b": _E, "7c": _E}


def keymap() -> KeyMap:
    """Names inside the file, whose units come in the order of ours. Its classifier is not needed."""
    with hollow():
        ours = [name for name, module in InceptionV3().named_modules() if isinstance(module, Unit)]
    theirs = [*_STEM, *(f"Mixed_{block}.{name}" for block, names in _BLOCKS.items() for name in names)]
    rules = []
    for mine, other in zip(ours, theirs, strict=True):
        rules.append(Rule(f"{mine}.conv.weight", f"{other}.conv.weight"))
        rules.append(Rule(f"{mine}.norm.{{leaf:word}}", f"{other}.bn.{{leaf:word}}"))
    return KeyMap(rules, ignored=("fc.{leaf:word}", "{unit:path}.num_batches_tracked"))


def bind(path: Path | str, device: torch.device | None = None) -> InceptionV3:
    """The network, a `metrics.features.Features`. Raises `FileProblem` for another file, torchvision's network too."""
    tensors = load(path, dtype=torch.float32, check=True)
    _check(Path(path), tensors)
    with hollow():
        net = InceptionV3()
    assign(net, keymap().to_ours(tensors))
    return net.to(device or torch.device("cpu")).eval().requires_grad_(False)


def _check(path: Path, tensors: Tensors) -> None:
    """Torchvision's network has the same names where both have a layer; what it adds or has smaller tells it apart."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if any(name.startswith("AuxLogits.") for name in shapes) or shapes.get("fc.weight") == (1000, 2048):
        raise FileProblem(
            f"{path} holds torchvision's Inception v3, which was trained anew: its distances are not those that are "
            f"published as FID. Give {WHERE_FROM}."
        )
    lacking = [name for name, shape in FAMILY.signature.items() if shapes.get(name) != shape]
    if lacking:
        raise FileProblem(
            f"{path} is not the Inception v3 that FID is told with: {lacking[0]} should be there as "
            f"{list(FAMILY.signature[lacking[0]])}, found {list(shapes.get(lacking[0], ())) or 'none'}. "
            f"Give {WHERE_FROM}."
        )
