"""How a tower of ours lies in a folder of transformers: `config.json` and weights, in and out.

A folder is read without executing anything and written so that transformers itself loads it. A setting that our nets
do not compute is refused by name, never ignored. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypedDict, TypeVar, final

import torch
from torch import nn

from huggingvis.checkpoints.assign import filled
from huggingvis.checkpoints.diffusers_common import Json, read_config, settings, unsupported, write_folder
from huggingvis.checkpoints.io import load
from huggingvis.checkpoints.keymap import KeyMap, Rule, patterns
from huggingvis.checkpoints.transforms import Identity, Transform
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.nets.encoder_layer import Activation, gelu, gelu_tanh, quick_gelu

WEIGHTS = (
    "model.safetensors.index.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin.index.json",
    "pytorch_model.bin", "pytorch_model.fp16.bin",
)  # fmt: skip
"""The names under which transformers keeps weights, the preferred first."""

MOST_LAYERS = 1000
"""No tower is deeper; a file that says so is not worth building."""

_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": quick_gelu, "gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh,
}  # fmt: skip

Names = Collection[str]
IDENTITY = Identity()


class Tower(Protocol):
    """A net that knows its sizes."""

    config: Any


Config = TypeVar("Config")
Net = TypeVar("Net", bound=nn.Module)


@final
@dataclass(frozen=True)
class Layout(Generic[Config, Net]):
    """One kind of net and its form in folders of transformers.

    Attributes:
        classes: what transformers may call it, as `architectures` in `config.json` says.
        net: our class.
        from_json: our configuration for their `config.json`.
        to_json: the way back.
        keymap: the map of names, for a file that has `names`; without names, for the form that is written.
        unused: their tensors that are not even read, as patterns of a key map.
    """

    classes: tuple[str, ...]
    net: type[Net]
    from_json: Callable[[Json], Config]
    to_json: Callable[[Config], dict[str, Any]]
    keymap: Callable[[Config, Names], KeyMap]
    unused: tuple[str, ...] = ()

    def read(self, folder: Path | str, dtype: torch.dtype | None = None) -> Net:
        """The net in a folder, in evaluation mode; `dtype` None keeps the file's. Raises `FileProblem`."""
        with about(folder):
            config = self.from_json(read_config(folder))
            unused = patterns(self.unused)
            tensors = load(
                weights_of(folder), dtype=dtype, wanted=lambda name: all(one.match(name) is None for one in unused)
            )
            ours = self.keymap(config, tensors).to_ours(tensors)
            del tensors
            return filled(lambda: self.net(config), ours)

    def write(self, net: Net, folder: Path | str, theirs: Json | None = None) -> Path:
        """Write `net` as a folder that transformers loads; returns it.

        `theirs`: a `config.json` to keep. Raises `UsageError` where it describes another net.
        """
        config: Config = net.config  # type: ignore[assignment]
        theirs = self.to_json(config) if theirs is None else theirs
        if self.from_json(theirs) != config:
            raise UsageError(f"The config.json given describes another {type(net).__name__} than the one given.")
        return write_folder(folder, theirs, self.keymap(config, ()).to_theirs(net.state_dict()), "model")


def weights_of(folder: Path | str) -> Path:
    """The file or index with the weights beside a `config.json`. Raises `FileProblem`."""
    folder = Path(folder)
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise FileProblem(f"{folder} holds no weights: expected one of {', '.join(WEIGHTS)} beside config.json.")


def sizes(
    theirs: Json, classes: tuple[str, ...], defaults: Json, only: Mapping[str, tuple[Any, ...]], depth: str
) -> dict[str, Any]:
    """`theirs` completed by transformers' `defaults`, each a single value. Raises `FileProblem`.

    `classes`: what `architectures` may name. `only`: settings of which our nets know these values alone. `depth`: the
    name of the number of layers.
    """
    full = settings(theirs, defaults, {"architectures": tuple((name,) for name in classes), **only})
    for key in defaults:
        if isinstance(full[key], tuple):
            raise unsupported(key, full[key], "a single number")
    if full[depth] > MOST_LAYERS:
        raise unsupported(depth, full[depth], f"up to {MOST_LAYERS} layers")
    return full


def check_heads(key: str, heads: int, dim: int) -> int:
    """`heads` itself, if attention of width `dim` can be cut into so many."""
    if heads < 1 or dim % heads:
        raise unsupported(key, heads, f"the divisors of the width {dim}")
    return heads


class Encoder(TypedDict):
    """What the configurations of CLIP's towers and of BERT have in common."""

    dim: int
    depth: int
    heads: int
    hidden: int
    activation: Activation
    eps: float


class HasEncoder(Protocol):
    """A configuration with those numbers."""

    @property
    def dim(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def eps(self) -> float: ...


def encoder(full: Mapping[str, Any], known: tuple[str, ...]) -> Encoder:
    """Those numbers by transformers' names, with one of the `known` activations. Raises `FileProblem`."""
    return Encoder(
        dim=full["hidden_size"],
        depth=full["num_hidden_layers"],
        heads=check_heads("num_attention_heads", full["num_attention_heads"], full["hidden_size"]),
        hidden=full["intermediate_size"],
        activation=activation(full, "hidden_act", known),
        eps=full["layer_norm_eps"],
    )


def encoder_settings(c: HasEncoder, known: tuple[str, ...]) -> dict[str, Any]:
    """The way back. Raises `UsageError` for an activation that transformers does not name."""
    return {
        "hidden_size": c.dim, "num_hidden_layers": c.depth, "num_attention_heads": c.heads,
        "intermediate_size": c.hidden, "hidden_act": activation_name(c.activation, known), "layer_norm_eps": c.eps,
    }  # fmt: skip


def projected(
    rules: Sequence[Rule], ignored: Sequence[str], projection: int | None, theirs: str, how: Transform = IDENTITY
) -> KeyMap:
    """A map of `rules` and of a projection, which their files may hold though our net has none."""
    if projection is None:
        return KeyMap(rules, [*ignored, theirs])
    return KeyMap([*rules, Rule("projection.weight", theirs, how)], ignored)


def bare(names: Names, tower: str) -> str:
    """`tower` itself, or nothing where a file's names begin without it."""
    return tower if not names or any(name.startswith(tower) for name in names) else ""


def activation(full: Mapping[str, Any], key: str, known: tuple[str, ...]) -> Activation:
    """The activation that `full[key]` names, one of `known`. Raises `FileProblem`."""
    if full[key] not in known:
        raise unsupported(key, full[key], " or ".join(known))
    return _ACTIVATIONS[full[key]]


def activation_name(found: Activation, known: tuple[str, ...]) -> str:
    """transformers' name for an activation. Raises `UsageError` for one that it has none for."""
    for name in known:
        if _ACTIVATIONS[name] is found:
            return name
    raise UsageError(f"The activation {found!r} has no name in transformers' files; these have: {', '.join(known)}.")
