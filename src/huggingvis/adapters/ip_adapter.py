r"""IP-Adapter: a picture as a prompt, by a second cross-attention beside the one to the words.

Ye et al. 2023 (arXiv 2308.06721), Eq. 5: with the queries Q of a place, keys and values K, V of its words and K', V' of
a picture's tokens, made by matrices of the adapter's own,

    Z = softmax(Q K^T / sqrt(d)) V + scale * softmax(Q K'^T / sqrt(d)) V'

The tokens come from `nets.image_tokens`; they lie in the condition under `<name>.tokens`, [B, N, D] (and
`<name>.tokens_mask` where their number differs between samples). Book: chapter 6, "A picture as a prompt".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from einops import rearrange
from torch import Tensor, nn

from huggingvis.adapters.bases import same_tokens, same_widths
from huggingvis.adapters.window import ALWAYS, Window
from huggingvis.core import ops
from huggingvis.core.errors import UsageError
from huggingvis.core.ports import PortHandle, provide
from huggingvis.core.protocols import Cond
from huggingvis.core.shapes import expand
from huggingvis.core.taps import BesideTap, Handle, Site, attach, sites
from huggingvis.nets.attention import Attention
from huggingvis.nets.image_tokens import EmbeddingTokens, PatchTokens, Resampler
from huggingvis.nets.unet import UNet

SYSTEM = {
    "name": "IP-Adapter",
    "chapter": 6,
    "paper": "2308.06721",
    "files": ["nets/image_tokens.py", "core/taps.py", "checkpoints/ip_adapter_files.py"],
    "built": "tests/interop/test_adapters_at_work.py::test_an_ip_adapter_is_shown_a_picture",
    "exact": [
        "tests/interop/test_control.py::test_ip_adapters_are_theirs",
        "tests/interop/test_control.py::test_ip_adapter_without_scale_changes_no_bit_and_only_it_learns",
        "tests/interop/test_control_walks.py::test_an_ip_adapter_that_diffusers_loads",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

ImageTokens = EmbeddingTokens | PatchTokens | Resampler


def word_places(base: nn.Module) -> dict[str, Attention]:
    """Every attention of `base` to words, in the order of the published files: down, up, and the middle last."""
    found = {name: m for name, m in sites(base).items() if isinstance(m, Attention) and m.cross}
    return dict(sorted(found.items(), key=lambda item: ("down", "up", "middle").index(item[0].split(".")[0])))


@final
class IPAdapter(nn.Module):
    """`project` makes tokens of what an image tower saw; `keys` and `values` [D -> width] for each place of words."""

    def __init__(self, project: ImageTokens, dim: int, widths: tuple[int, ...]):
        super().__init__()
        self.project, self.dim, self.widths = project, dim, widths
        self.keys = nn.ModuleList(nn.Linear(dim, width, bias=False) for width in widths)
        self.values = nn.ModuleList(nn.Linear(dim, width, bias=False) for width in widths)

    @property
    def reads_patches(self) -> bool:
        """Whether it wants the tower's states of all patches [S, E], and not the embedding of the whole picture [E]."""
        return not isinstance(self.project, EmbeddingTokens)

    def tokens(self, seen: Tensor) -> Tensor:
        """What the tower saw of N pictures for each sample, [B, N, E] or [B, N, S, E] -> their tokens [B, N T, D]."""
        seen = seen.to(next(self.parameters()).dtype)
        return self.project(seen.flatten(0, 1)).unflatten(0, seen.shape[:2]).flatten(1, 2)

    def condition(self, seen: Tensor, nothing: Tensor | None = None, name: str = "ip_adapter") -> dict[str, Tensor]:
        """What belongs into the condition: made once, read at every step; the negative half is shown nothing.

        `nothing`: what the tower sees of an empty (0) picture, which adapters that read patches were trained to be
        shown instead; an adapter that reads embeddings takes zeros.
        """
        if nothing is None:
            if self.reads_patches:
                raise UsageError(
                    "This IP-Adapter reads patches, so the negative half of guidance needs what the image tower sees "
                    "of an empty picture: give it as `nothing`, of the same shape."
                )
            nothing = torch.zeros_like(seen)
        return {f"{name}.tokens": self.tokens(seen), f"negative.{name}.tokens": self.tokens(nothing)}

    def attach(self, base: UNet, scale: float = 1.0, name: str = "ip_adapter", window: Window = ALWAYS) -> IPHandle:
        """Let `base` attend to the picture's tokens too. Raises `UsageError` where it was made for another base."""
        words = word_places(base)
        same_tokens("IP-Adapter", self.dim, base.config.tokens_dim)
        same_widths("IP-Adapter", self.widths, [place.to_q.out_features for place in words.values()])
        beside = _Beside(self, {place: n for n, place in enumerate(words)}, scale, name, window)
        return IPHandle(provide(base, name, beside.told), tuple(attach(base, beside, place) for place in words))


@final
@dataclass(frozen=True)
class IPHandle:
    """Undoes one attachment exactly."""

    port: PortHandle
    taps: tuple[Handle, ...]

    def remove(self) -> None:
        self.port.remove()
        for tap in self.taps:
            tap.remove()


@final
@dataclass(eq=False)
class _Beside(BesideTap):
    """The second attention at all places of one base. Each call of the base first tells it the picture's tokens."""

    adapter: IPAdapter
    numbers: Mapping[str, int]
    scale: float
    name: str
    window: Window
    tokens: Tensor | None = None
    look: Tensor | None = None
    weights: Tensor | None = None

    def told(self, x: Tensor, clock: Tensor, cond: Cond) -> Cond:
        self.weights = self.window.weights(clock)  # [B]
        if self.scale == 0.0 or (self.weights is not None and not bool(self.weights.any())):
            self.tokens = None
            return cond
        if f"{self.name}.tokens" not in cond:
            raise UsageError(
                f"The IP-Adapter {self.name!r} attends to a picture, but the condition has no '{self.name}.tokens': "
                "add what IPAdapter.condition gives, or remove the adapter."
            )
        self.tokens, mask = cond[f"{self.name}.tokens"], cond.get(f"{self.name}.tokens_mask")
        self.look = None if mask is None else mask[:, None, None, :]
        return cond

    def beside(self, site: Site, q: Tensor, found: Tensor) -> Tensor:
        if self.tokens is None:
            return found
        n, heads = self.numbers[site.name], q.shape[1]
        k = rearrange(self.adapter.keys[n](self.tokens), "b m (h d) -> b h m d", h=heads)
        v = rearrange(self.adapter.values[n](self.tokens), "b m (h d) -> b h m d", h=heads)
        more = self.scale * ops.attention(q, k, v, self.look)  # [B, h, L, d]
        return found + (more if self.weights is None else more * expand(self.weights, more))
