"""One trained net with its own optimisers, so that turns over different nets never disturb each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from huggingvis.core.errors import UsageError, unknown
from huggingvis.train.optim import PACE, Optim, decaying
from huggingvis.train.parallel import Parallel
from huggingvis.train.sharding import full


@final
class Player:
    """A net, the parameters of it that are trained, and the optimisers that move them."""

    def __init__(self, name: str, net: nn.Module, spec: Optim, taken: set[int]):
        own = [p for p in net.parameters() if p.requires_grad and id(p) not in taken]
        if not own:
            raise UsageError(f"The net {name!r} has no parameter to train. Unfreeze one, or leave it out of nets().")
        taken.update(id(p) for p in own)
        self.name, self.net, self.spec = name, net, spec
        self.params = [p for group in decaying(own) for p in group]
        names = {id(p): key for key, p in net.named_parameters()}
        self.keys = [names[id(p)] for p in self.params]
        self.optimisers = spec.build(own)

    def trainable(self, yes: bool) -> None:
        """While another player moves, this one's weights need no gradient: backward stays cheap."""
        for p in self.params:
            p.requires_grad_(yes)

    def update(self, step: int, parallel: Parallel) -> Tensor:
        """One optimiser step from the gradients at hand; returns their norm over all processes before clipping, []."""
        parallel.sum_gradients(self.params)
        grads = [p.grad for p in self.params if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if self.spec.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.params, self.spec.clip, norm)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.spec.rate(step) * group.get(PACE, 1.0)
            optimiser.step()
        return full(norm.detach())

    def forget(self) -> None:
        """Drops the gradients at hand."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    def owner(self, place: str) -> Tensor | None:
        """The parameter that the quantity `parameter/quantity` of the optimisers' memory belongs to."""
        return dict(zip(self.keys, self.params, strict=True)).get(place.rpartition("/")[0])

    def state(self) -> dict[str, Tensor]:
        """The optimisers' memory as `parameter/quantity`."""
        return {
            f"{key}/{kind}": value
            for key, p in zip(self.keys, self.params, strict=True)
            for optimiser in self.optimisers
            for kind, value in optimiser.state.get(p, {}).items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave, in the memory layout of each parameter."""
        keys = {id(p): key for key, p in zip(self.keys, self.params, strict=True)}
        for optimiser in self.optimisers:
            moved = [p for group in optimiser.param_groups for p in group["params"]]
            places = {keys[id(p)]: i for i, p in enumerate(moved)}
            memory: dict[int, dict[str, Any]] = {}
            for place, value in state.items():
                key, kind = place.rsplit("/", 1)
                if key not in places:
                    continue
                p = moved[places[key]]
                same = value.shape == p.shape and value.ndim > 0
                kept = torch.empty_like(p.data).copy_(value) if same else value.clone()
                memory.setdefault(places[key], {})[kind] = kept
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": memory, "param_groups": groups})


def players(nets: Mapping[str, nn.Module], optim: Optim | Mapping[str, Optim]) -> dict[str, Player]:
    """A player per net. A parameter that two nets share belongs to the first."""
    taken: set[int] = set()
    out: dict[str, Player] = {}
    for name, net in nets.items():
        if not isinstance(optim, Optim) and name not in optim:
            raise unknown("optimiser for a net", name, optim)
        out[name] = Player(name, net, optim if isinstance(optim, Optim) else optim[name], taken)
    return out
