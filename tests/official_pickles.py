"""Files as the official code of StyleGAN2 and StyleGAN3 writes them, made without it: its objects by their names."""

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
from huggingvis.nets.stylegan3_sizes import Schedule, StyleGAN3Sizes
from huggingvis.nets.stylegan3_synthesis import fresh_alias_free
from huggingvis.systems import stylegan2, stylegan3

SIZES = StyleGANSizes((10, 8, 6), 3, 5, 7, 2, 0.01, 0, 256.0)
ALIAS_FREE = StyleGAN3Sizes(
    Schedule(16, 3, 32, 6, layers=4, critical=2, margin=2), z_dim=5, w_dim=7, classes=3, scale=0.5
)
BUFFERS = (
    *("resample_filter", "noise_const", "w_avg"),
    *("transform", "freqs", "phases", "magnitude_ema", "up_filter", "down_filter"),
)
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
    state = {
        "training": False,
        "_parameters": collections.OrderedDict((k, nn.Parameter(v)) for k, v in own.items() if k not in BUFFERS),
        "_buffers": collections.OrderedDict((k, v) for k, v in own.items() if k in BUFFERS),
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
    told = {"img_resolution": 16, "img_channels": sizes.channels, "c_dim": sizes.classes}
    judge = stored("D", judged, {"": told, "b16": {"architecture": "resnet"}, "b16.conv1": {"conv_clamp": 256}})
    judge.meta["state"]["_modules"]["b4"].meta["state"]["_modules"]["mbstd"] = Persistent("Std", std)
    g = stored("Generator", tensors, facts)
    settings = EasyDict(resolution=16, mean=np.arange(6, dtype=np.float32).reshape(2, 3).T)
    content = {"G": g, "D": judge, "G_ema": g, "augment_pipe": None, "training_set_kwargs": settings}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path, net, critic


def alias_free_file(
    path: Path, sizes: StyleGAN3Sizes = ALIAS_FREE, changed: Mapping[str, dict[str, Any]] | None = None
) -> tuple[Path, StyleGenerator]:
    """A file as the official training of StyleGAN3 writes it, and the generator whose weights are in it.

    `changed`: state of the generator's parts other than usual; under `settings`, what its synthesis was made with.
    """
    torch.manual_seed(1)
    changed = dict(changed or {})
    net = fresh_alias_free(sizes).requires_grad_(False)
    for name, value in net.state_dict().items():
        if name.endswith(("w_avg", "bias", "affine.weight", "magnitude_ema")):
            value.add_(0.3 * torch.randn_like(value).abs())
    schedule = sizes.schedule
    facts: dict[str, dict[str, Any]] = {
        "mapping": {"z_dim": sizes.z_dim, "w_dim": sizes.w_dim, "c_dim": sizes.classes},
        "mapping.fc0": {"bias_gain": sizes.mapping_lr},
        "synthesis": {
            "img_resolution": schedule.size,
            "img_channels": schedule.channels,
            "num_layers": schedule.layers,
            "num_critical": schedule.critical,
            "margin_size": schedule.margin,
            "_init_kwargs": EasyDict(settings_of(sizes) | changed.pop("settings", {})),
        },
        **layer_facts(sizes),
    }
    for part, state in changed.items():
        facts[part] = facts.get(part, {}) | state
    g = stored("Generator", stylegan3.generator_keymap(sizes).to_theirs(net.state_dict()), facts)
    path.write_bytes(pickle.dumps({"G": g, "D": None, "G_ema": g, "augment_pipe": None}))
    return path, net


def settings_of(sizes: StyleGAN3Sizes) -> dict[str, Any]:
    """What the official synthesis was called with; `conv_clamp` and others were left at their usual values."""
    schedule, filtering = sizes.schedule, sizes.filtering
    return {
        "w_dim": sizes.w_dim,
        "img_resolution": schedule.size,
        "channel_base": schedule.width,
        "channel_max": schedule.most,
        "margin_size": schedule.margin,
        "output_scale": sizes.scale,
        "magnitude_ema_beta": 0.999,
        **({"conv_kernel": 1, "use_radial_filters": True} if filtering.radial else {}),
    }


def layer_facts(sizes: StyleGAN3Sizes) -> dict[str, dict[str, Any]]:
    """What the official layers say of themselves, with their numbers as numpy's."""
    first = sizes.schedule.signals()[0]
    facts: dict[str, dict[str, Any]] = {
        "synthesis.input": {
            "bandwidth": np.float64(first.cutoff),
            "sampling_rate": np.float64(first.rate),
            "size": np.broadcast_to(np.asarray(first.size), [2]),
        }
    }
    for i, (given, made) in enumerate(sizes.schedule.steps()):
        facts[f"synthesis.L{i}_{made.size}_{made.channels}"] = {
            "conv_clamp": sizes.filtering.clamp,
            **{
                f"{side}_{name}": number
                for side, signal in (("in", given), ("out", made))
                for name, number in (
                    ("channels", signal.channels),
                    ("sampling_rate", signal.rate),
                    ("cutoff", np.float64(signal.cutoff)),
                    ("half_width", np.float64(signal.half_width)),
                )
            },
        }
    return facts
