"""Our `IPAdapter` and the community's files of it, both ways.

The layout of its authors (github.com/tencent-ailab/IP-Adapter): `image_proj.*`, whose tensors tell which of the forms
it is, and `ip_adapter.N.to_k_ip.weight` with N counting all attentions of the U-Net, down, up, then middle, so that the
ones to words have the odd numbers. Safetensors has these names flat, PyTorch's `.bin` as two tables.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.adapters.bases import same_tokens
from huggingvis.adapters.ip_adapter import ImageTokens, IPAdapter
from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.formats import Format, TensorFact, sniff
from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.io import load as load_tensors
from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.transforms import Split
from huggingvis.core.errors import FileProblem
from huggingvis.core.hollow import hollow
from huggingvis.nets.image_tokens import EmbeddingTokens, PatchTokens, Resampler

TABLES = ("image_proj", "ip_adapter")
HEAD = 64
"""Width of a head in the published resamplers; no shape tells it."""


@dataclass(frozen=True)
class IPFile:
    """An IP-Adapter's file, known by its tensors' names and shapes alone. `tokens`: width of the base's text tokens."""

    path: Path
    tensors: Mapping[str, TensorFact]
    tokens: int
    widths: tuple[int, ...]

    def size(self, name: str, axis: int = 0) -> int:
        """Of a tensor of `image_proj`. Raises `FileProblem` where it is missing."""
        fact = self.tensors.get(f"image_proj.{name}")
        if fact is None or axis >= len(fact.shape):
            raise FileProblem(f"{self.path} is no complete IP-Adapter: image_proj.{name} is missing. Get it again.")
        return fact.shape[axis]

    def has(self, name: str) -> bool:
        return f"image_proj.{name}" in self.tensors


def ip_file(path: Path | str) -> IPFile:
    """What IP-Adapter the file holds, without its numbers. Raises `FileProblem` for every other kind of file."""
    path = Path(path)
    if sniff(path) is Format.SAFETENSORS:
        tensors = dict(inspect(path).tensors)
    else:
        tensors = {f"{t}.{name}": fact for t in TABLES for name, fact in inspect(path, inside=t).tensors.items()}
    numbers = [name.split(".")[1] for name in tensors if name.endswith(".to_k_ip.weight")]
    order = sorted(int(n) for n in numbers if n.isdigit())
    if not order or order != list(range(1, 2 * len(order), 2)):
        raise FileProblem(
            f"{path} is no complete IP-Adapter: expected ip_adapter.1.to_k_ip.weight, then 3, 5 and so on, found "
            f"{', '.join(map(str, order[:4])) or 'none'}. `hvis inspect` says what it is."
        )
    shapes = [tensors[f"ip_adapter.{n}.to_k_ip.weight"].shape for n in order]
    return IPFile(path, tensors, shapes[0][-1], tuple(shape[0] for shape in shapes))


def projection_of(file: IPFile) -> ImageTokens:
    """The form that the file's tensors tell. Raises `FileProblem` for those that read faces."""
    if file.has("perceiver_resampler.proj_in.weight") or (file.has("norm.weight") and file.has("proj.2.weight")):
        raise FileProblem(
            f"{file.path} is an IP-Adapter FaceID, which reads what a face recogniser says of a face and not a CLIP "
            "tower. It is not read here: use a base, plus or full IP-Adapter."
        )
    if file.has("proj.weight"):
        dim = file.size("norm.weight")
        return EmbeddingTokens(file.size("proj.weight", 1), dim, file.size("proj.weight") // max(1, dim))
    if file.has("proj.3.weight"):
        return PatchTokens(file.size("proj.0.weight", 1), file.size("proj.2.weight"), file.size("proj.0.weight"))
    if not file.has("latents"):
        raise FileProblem(
            f"{file.path} holds an image projection of a kind that is not known: expected image_proj.proj.weight "
            "(base), .proj.3.weight (full) or .latents (plus)."
        )
    return Resampler(
        file.size("proj_in.weight", 1), file.size("proj_out.weight"), count=file.size("latents", 1),
        width=file.size("latents", 2), depth=_depth(file), heads=max(1, file.size("layers.0.0.to_q.weight") // HEAD),
        hidden=file.size("layers.0.1.1.weight"),
    )  # fmt: skip


def _depth(file: IPFile) -> int:
    return len({name.split(".")[2] for name in file.tensors if name.startswith("image_proj.layers.")})


def keymap(project: ImageTokens, places: int) -> KeyMap:
    """Names of an adapter with this projection, for a base that attends to words at so many places."""
    rules = [
        Rule(f"{ours}.{n}.weight", f"ip_adapter.{2 * n + 1}.{theirs}.weight")
        for n in range(places)
        for ours, theirs in (("keys", "to_k_ip"), ("values", "to_v_ip"))
    ]
    if isinstance(project, EmbeddingTokens):
        return KeyMap((*rules, *_leaves("", "", (("proj", "proj"), ("norm", "norm")))))
    if isinstance(project, PatchTokens):
        return KeyMap((*rules, *_leaves("", "proj.", (("fc1", "0"), ("fc2", "2"), ("norm", "3")))))
    ours, theirs = "project.blocks.{i}", "image_proj.layers.{i}"
    pairs = (("norm_x", "0.norm1"), ("norm_q", "0.norm2"), ("attn.to_q", "0.to_q"), ("attn.to_out", "0.to_out"),
             ("norm", "1.0"), ("fc1", "1.1"), ("fc2", "1.3"))  # fmt: skip
    return KeyMap((
        *rules, Rule("project.queries", "image_proj.latents"),
        *_leaves("", "", (("proj_in", "proj_in"), ("proj_out", "proj_out"), ("norm_out", "norm_out"))),
        *_leaves("blocks.{i}.", "layers.{i}.", pairs),
        Rule((f"{ours}.attn.to_k.weight", f"{ours}.attn.to_v.weight"), f"{theirs}.0.to_kv.weight", Split(2)),
    ))  # fmt: skip


def _leaves(ours: str, theirs: str, pairs: tuple[tuple[str, str], ...]) -> list[Rule]:
    return [Rule(f"project.{ours}{a}.{{leaf:word}}", f"image_proj.{theirs}{b}.{{leaf:word}}") for a, b in pairs]


def load(path: Path | str, *, dtype: torch.dtype | None = None, tokens_dim: int | None = None) -> IPAdapter:
    """The adapter in a file, in evaluation mode; `dtype` None keeps the file's.

    `tokens_dim`: width of the text tokens of the base it is wanted for. Raises `FileProblem`, and `UsageError` where it
    was made for another base.
    """
    file = ip_file(path)
    if tokens_dim is not None:
        same_tokens("IP-Adapter", file.tokens, tokens_dim)
    with hollow():
        adapter = IPAdapter(projection_of(file), file.tokens, file.widths)
    assign(adapter, keymap(adapter.project, len(file.widths)).consume(_read(file.path, dtype)))
    return adapter.eval()


def _read(path: Path, dtype: torch.dtype | None) -> dict[str, Tensor]:
    if sniff(path) is Format.SAFETENSORS:
        return load_tensors(path, dtype=dtype)
    tables = {table: load_tensors(path, dtype=dtype, inside=table) for table in TABLES}
    return {f"{table}.{name}": tensor for table, inner in tables.items() for name, tensor in inner.items()}


def save(adapter: IPAdapter, path: Path | str) -> Path:
    """Write `adapter` as a safetensors file that diffusers loads; returns its path."""
    names = keymap(adapter.project, len(adapter.widths))
    return save_tensors(path, names.to_theirs(adapter.state_dict()), {"format": "pt"})
