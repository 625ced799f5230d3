r"""Training of style-based generators: logistic losses, lazy penalties, mixed styles, augmentation that adapts.

Karras et al. 2018-2020 (arXiv 1812.04948, 1912.04958, 2006.06676). D is above 0 for real pictures, below for made ones:

    critic      E softplus(D(G(z))) + E softplus(-D(x))
    r1          gamma / 2 E |grad_x D(x)|^2                                    lazily; 1801.04406, Eq. 9
    generator   E softplus(-D(G(z)))                                           the non-saturating game
    path        weight E (|J_w^T y|_2 - a)^2,  y ~ N(0, I) / sqrt(H W),        lazily; 1912.04958, Eq. 4
                with a the running mean of |J_w^T y|_2

A lazy term comes every k-th step and weighs k times as much (1912.04958, Sec. 3.1). `_signs` is the r_t that the
augmentation adapts to, `_spread` and `_rank` tell mode collapse (`objectives.mode_collapse`). Book: chapter 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor, nn

from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Cond
from huggingvis.nets.layer_noise import DrawnNoise
from huggingvis.nets.stylegan import StyleGenerator, mix
from huggingvis.objectives.adversarial import Game, NonSaturating, slopes
from huggingvis.objectives.augment import Augment
from huggingvis.objectives.denoise import unconditional
from huggingvis.objectives.mode_collapse import effective_rank, spread

Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Penalties:
    """Weights, and how often the lazy terms come.

    Attributes:
        r1: gamma of the gradient penalty.
        r1_every: steps from one to the next.
        path: weight of path-length regularisation, 0 for none (the first StyleGAN has none).
        path_every: steps from one to the next.
        path_share: which part of a batch it is measured on.
        path_decay: how fast the running mean of lengths moves.
        mixing: share of pictures made of two styles.
        w_decay: how much of the mean style stays each step.
    """

    r1: float = 10.0
    r1_every: int = 16
    path: float = 2.0
    path_every: int = 8
    path_share: float = 0.5
    path_decay: float = 0.01
    mixing: float = 0.9
    w_decay: float = 0.998


@dataclass(frozen=True)
class Adaptive:
    """How the augmentation's probability moves towards `target`: from 0 to 1 it needs `kimg` thousand pictures.

    `target` is for r_t = E[sign D(x)] on real pictures: near 1 the discriminator knows them by heart. `batch` pictures
    are seen each step, on all processes together; p moves every `every`-th step.
    """

    batch: int
    target: float = 0.6
    every: int = 4
    kimg: float = 500.0
    most: float = 1.0

    def moved(self, p: Tensor, signs: Tensor) -> Tensor:
        """The next p [] after real pictures whose signs averaged to `signs` []."""
        by = self.batch * self.every / (1000 * self.kimg)
        return (p + torch.sign(signs - self.target) * by).clamp(0.0, self.most)


@final
class StyleGAN(Objective):
    """Batch: `image` [B, C, H, W] in [-1, 1]; a conditional one reads its classes by `condition` as `vector` [B, K].

    `critic(x, label)` gives logits [B]. With `augment` it sees augmented pictures only; with `adaptive` their strength
    follows how much it overfits.
    """

    path_mean: Tensor
    augment_p: Tensor
    signs: Tensor
    judged: Tensor
    lengths: Tensor
    w: Tensor

    def __init__(
        self,
        generator: StyleGenerator,
        critic: nn.Module,
        penalties: Penalties | None = None,
        *,
        augment: Augment | None = None,
        adaptive: Adaptive | None = None,
        game: Game | None = None,
        condition: Callable[[Batch], Cond] = unconditional,
    ):
        super().__init__()
        self.generator, self.critic = generator, critic
        self.penalties, self.game = penalties or Penalties(), game or NonSaturating()
        self.augment, self.adaptive, self.condition = augment, adaptive, condition
        for name in ("path_mean", "augment_p"):  # buffers of its own: a run that goes on finds them again
            self.register_buffer(name, torch.zeros(()))
        for name, size in (("signs", 1), ("lengths", 1), ("w", len(generator.w_avg))):
            self.register_buffer(name, torch.zeros(size + 1))  # a sum over pictures, and their number
        # of one turn and one process; `signs` gathers it over turns and processes, and is the same on all of them
        self.register_buffer("judged", torch.zeros(2), persistent=False)

    def nets(self) -> Mapping[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def turns(self, step: int) -> tuple[Turn, ...]:
        p = self.penalties
        turns = [Turn(self.generator_loss, ("generator",), name="generator")]
        if p.path > 0:
            turns.append(Turn(self.path_penalty, ("generator",), every=p.path_every, name="path"))
        turns.append(Turn(self.critic_loss, ("critic",), name="critic"))
        if p.r1 > 0:
            turns.append(Turn(self.r1_penalty, ("critic",), every=p.r1_every, name="r1"))
        return tuple(turns)

    def label(self, batch: Batch) -> Tensor | None:
        """The pictures' classes [B, K], if there are some."""
        return self.condition(batch).get("vector")

    def logits(self, x: Tensor, label: Tensor | None, rng: torch.Generator) -> Tensor:
        """What the discriminator says of pictures as it sees them, float32 or wider [B]."""
        seen = x if self.augment is None else self.augment(x, self.augment_p, rng)
        out = cast(Tensor, self.critic(seen, label))
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def styles(self, n: int, label: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh styles [n, L, D], a share of them mixed of two, and the first of the two [n, D]."""
        g, like = self.generator, self.generator.w_avg

        def drawn() -> Tensor:
            z = torch.randn(n, g.mapping.z_dim, generator=rng, device=rng.device, dtype=like.dtype)
            return g.mapping(z, label)

        w = drawn()
        if self.penalties.mixing <= 0 or g.layers < 2:
            return g.spread(w), w
        other = g.spread(drawn())
        cut = torch.randint(1, g.layers, (n,), generator=rng, device=rng.device)
        mixed = torch.rand(n, generator=rng, device=rng.device) < self.penalties.mixing
        return mix(g.spread(w), other, torch.where(mixed, cut, torch.full_like(cut, g.layers))), w

    def painted(self, ws: Tensor, rng: torch.Generator) -> Tensor:
        """Pictures of styles [B, L, D] with fresh noise in every layer."""
        noise = DrawnNoise(lambda like: torch.randn(like.shape, generator=rng, device=rng.device, dtype=like.dtype))
        x = self.generator.paint(ws, noise)
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def generator_loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        label = self.label(batch)
        ws, _ = self.styles(len(batch["image"]), label, rng)
        fake = self.logits(self.painted(ws, rng), label, rng)
        return {"adversarial": self.game.generator(fake)}

    def path_penalty(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        p, label = self.penalties, self.label(batch)
        n = max(1, round(len(batch["image"]) * p.path_share))
        ws, _ = self.styles(n, None if label is None else label[:n], rng)
        x = self.painted(ws, rng)
        lengths = path_lengths(x, ws, torch.randn(x.shape, generator=rng, device=rng.device, dtype=x.dtype))
        with torch.no_grad():
            mean = torch.lerp(self.path_mean.to(lengths.dtype), lengths.mean(), p.path_decay)
            _add(self.lengths, lengths[:, None])
        penalty = (lengths - mean).square().mean()
        return {"penalty": p.path * p.path_every * penalty, "_length": lengths.detach().mean(), "_mean": mean}

    def critic_loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        real, label = batch["image"], self.label(batch)
        with torch.no_grad():
            ws, w = self.styles(len(real), label, rng)
            made = self.painted(ws, rng)
            _add(self.w, w)
        true, fake = self.logits(real, label, rng), self.logits(made, label, rng)
        with torch.no_grad():
            signs = true.sign()
            _add(self.judged, signs[:, None])
        losses = {**self.game.critic(true, fake), "_signs": signs.mean(), **self._variety(made, batch)}
        return losses if self.augment is None else losses | {"_augment": self.augment_p.clone()}

    def _variety(self, made: Tensor, batch: Batch) -> Losses:
        real, cond = batch["image"], self.condition(batch)
        return {"_spread": spread(made, real, cond), "_rank": effective_rank(made, real, cond)}

    def r1_penalty(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        p, label = self.penalties, self.label(batch)
        gradient = slopes(lambda x: self.logits(x, label, rng), batch["image"])
        squared = gradient.flatten(1).square().sum(1)  # [B]
        return {"penalty": p.r1_every * p.r1 / 2 * squared.mean(), "_slope": squared.detach().mean().sqrt()}

    def after(
        self, turn: Turn, step: int, *, params: Mapping[str, list[nn.Parameter]], batch: Batch, reduce: Reduce
    ) -> None:
        """Moves the mean style, the mean path length and the augmentation's probability."""
        if turn.name == "path":
            self.path_mean.lerp_(_taken(self.lengths, reduce)[0], self.penalties.path_decay)
        elif turn.name == "critic":
            self.generator.w_avg.lerp_(_taken(self.w, reduce), 1 - self.penalties.w_decay)
            if self.augment is not None and self.adaptive is not None:
                self._adapt(self.adaptive, step, reduce)
            self.judged.zero_()

    def _adapt(self, rule: Adaptive, step: int, reduce: Reduce) -> None:
        # at every turn, not when p moves: checkpoints come between, and hold what the first process knows
        self.signs += reduce(self.judged)
        if (step + 1) % rule.every == 0:
            self.augment_p.copy_(rule.moved(self.augment_p, self.signs[0] / self.signs[1]))
            self.signs.zero_()

    @torch.no_grad()
    def validate(self, batch: Batch, rng: torch.Generator) -> Losses:
        """Held-out pictures as they are: `signs` far below the training's, and a critic that rates them as it does made
        ones, is overfitting."""
        real, label = batch["image"], self.label(batch)
        made = self.painted(self.styles(len(real), label, rng)[0], rng)
        true, fake = (self.critic(x, label).float() for x in (real, made))
        critic = torch.stack([*self.game.critic(true, fake).values()]).sum()
        losses = {"critic": critic, "generator": self.game.generator(fake), "signs": true.sign().mean()}
        return {**losses, **self._variety(made, batch)}


def path_lengths(x: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """|J_w^T y| with y = `noise` / sqrt(H W), root mean square over the layers: x [B, C, H, W], ws [B, L, D] -> [B]."""
    y = noise / (x.shape[2] * x.shape[3]) ** 0.5
    (grad,) = torch.autograd.grad((x * y).sum(), ws, create_graph=True)
    return grad.square().sum(2).mean(1).sqrt()


def _add(tally: Tensor, x: Tensor) -> None:
    """The rows of x [N, D] into a sum and a count [D + 1]: a step may have several pieces, and several processes."""
    tally[:-1] += x.detach().to(tally.dtype).sum(0)
    tally[-1] += len(x)


def _taken(tally: Tensor, reduce: Reduce) -> Tensor:
    """The mean [D] of a tally [D + 1] over all processes; it begins anew."""
    total = reduce(tally)
    mean = total[:-1] / total[-1]
    tally.zero_()
    return mean
