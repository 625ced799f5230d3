"""Files as the official code of StyleGAN2 writes them, made without it: its objects by the names they have there."""

from __future__ import annotations

import collections
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huggingvis.nets.resampling import taps
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.systems import stylegan2

SIZES = StyleGANSizes((10, 8, 6), 3, 5, 7, 2, 0.01, 0, 256.0)
SOURCE = "import sys; sys.modules['the_source_was_run'] = sys"  # what travels with each class, and must never be run


def _reconstruct_persistent_obj(meta: object) -> object:
    """As `torch_utils.persistence._reconstruct_persistent_obj`, which would build the class from its source."""
    raise AssertionError("the official code was called")


class EasyDict(dict):
    """As `dnnlib.util.EasyDict`."""


class Persistent:
    """Pickles as an instance of an official persistent class does."""

    meta: dict[str, Any]

    def __init__(self, kind: str, state: dict[str, Any], version: int = 6):
        self.meta = {"type": "class", "version": version, "module_src": SOURCE, "class_name": kind, "state": state}

    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,), None)


@pytest.fixture(autouse=True)
def official(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The names that a pickle of the official code refers to, for as long as it is written."""
    for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for thing, module in ((_reconstruct_persistent_obj, "torch_utils.persistence"), (EasyDict, "dnnlib.util")):
        monkeypatch.setattr(thing, "__module__", module)
        setattr(sys.modules[module], thing.__name__, thing)
    yield
    assert "the_source_was_run" not in sys.modules


def stored(kind: str, tensors: dict[str, Tensor], facts: dict[str, dict[str, Any]], prefix: str = "") -> Persistent:
    """Tensors by dotted names as nested persistent objects; `facts`: further state by the object's name."""
    own = {name: value for name, value in tensors.items() if "." not in name}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        first, dot, rest = name.partition(".")
        if dot:
            parts.setdefault(first, {})[rest] = value
    modules = {name: stored(name, part, facts, f"{prefix}{name}.") for name, part in parts.items()}
    buffers = ("resample_filter", "noise_const", "w_avg")
    state = {
        "training": False,
        "_parameters": collections.OrderedDict((k, nn.Parameter(v)) for k, v in own.items() if k not in buffers),
        "_buffers": collections.OrderedDict((k, v) for k, v in own.items() if k in buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": collections.OrderedDict(modules),
        "_init_kwargs": EasyDict(num_fp16_res=4),
        **facts.get(prefix.removesuffix("."), {}),
    }
    return Persistent(kind, state)


def official_file(
    path: Path, protocol: int = 4, changed: Mapping[str, dict[str, Any]] | None = None, sizes: StyleGANSizes = SIZES
) -> tuple[Path, StyleGenerator, StyleDiscriminator]:
    """A file as the official training writes it, and the networks whose weights are in it.

    `changed`: state of the generator's parts, and of the discriminator's part `mbstd`, other than usual.
    """
    torch.manual_seed(1)
    changed = changed or {}
    std = {"group_size": 2, "num_channels": 1, **changed.get("mbstd", {})}
    net = fresh_generator(sizes, StyleGAN2Synthesis(sizes)).requires_grad_(False)
    critic = StyleDiscriminator(sizes, group=std["group_size"]).requires_grad_(False)
    net.w_avg.normal_()
    tensors = stylegan2.generator_keymap().to_theirs(net.state_dict())
    tensors["synthesis.b8.resample_filter"] = torch.outer(taps(), taps())
    facts: dict[str, dict[str, Any]] = {
        "mapping": {"z_dim": 5, "w_dim": 7, "c_dim": 0},
        "mapping.fc0": {"bias_gain": 0.01},
        "synthesis.b16": {"architecture": "skip"},
        "synthesis.b16.conv1": {"conv_clamp": 256, "weight_gain": np.float64(0.5)},
    }
    for part, state in changed.items():
        facts[part] = facts.get(part, {}) | state
    judged = stylegan2.discriminator_keymap(sizes).to_theirs(critic.state_dict())
    judge = stored("D", judged, {"b16": {"architecture": "resnet"}, "b16.conv1": {"conv_clamp": 256}})
    judge.meta["state"]["_modules"]["b4"].meta["state"]["_modules"]["mbstd"] = Persistent("Std", std)
    g = stored("Generator", tensors, facts)
    settings = EasyDict(resolution=16, mean=np.arange(6, dtype=np.float32).reshape(2, 3).T)
    content = {"G": g, "D": judge, "G_ema": g, "augment_pipe": None, "training_set_kwargs": settings}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path, net, critic
