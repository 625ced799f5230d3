"""Between a live training and its checkpoint's named sets of tensors.

`<net>` the weights, `<net>.ema` their averages, `<net>.optim` the optimiser's memory, `objective` the buffers of the
objective and of its memories. Frozen helpers of an objective are not saved: they come from where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Memory, Objective
from huggingvis.train.checkpoint import Checkpoint
from huggingvis.train.ema import Averages
from huggingvis.train.players import Player

OWN = "objective"


def collect(
    objective: Objective, players: Mapping[str, Player], averages: Averages | None
) -> dict[str, Mapping[str, Tensor]]:
    """Everything that the next step depends on, apart from numbers."""
    sets: dict[str, Mapping[str, Tensor]] = {}
    for name, player in players.items():
        sets[name] = player.net.state_dict()
        sets[f"{name}.optim"] = player.state()
        if averages is not None and name in averages.nets:
            sets[f"{name}.ema"] = averages.state_dict(name)
    own = _own(objective)
    return sets | {OWN: own} if own else sets


@torch.no_grad()
def restore(
    saved: Checkpoint,
    objective: Objective,
    players: Mapping[str, Player],
    averages: Averages | None,
    facts: Mapping[str, int],
) -> dict[str, Any]:
    """Puts a checkpoint back into place; returns its numbers. Raises `UsageError` if it is of another training."""
    state = saved.state()
    changed = [f"{key}: {state.get(key)} then, {value} now" for key, value in facts.items() if state.get(key) != value]
    if changed:
        raise UsageError(
            f"{saved.path} was written with other settings ({'; '.join(changed)}), so the training could not go on "
            "exactly. Resume it with its own, or start a new run."
        )
    for name, player in players.items():
        live = player.net.state_dict()
        _fits(saved, name, live)
        player.net.load_state_dict(saved.tensors(name, live.get))
        player.restore(saved.tensors(f"{name}.optim", player.owner))
        if averages is not None and name in averages.nets:
            averages.load_state_dict(name, saved.tensors(f"{name}.ema", averages.state_dict(name).get))
    own = _own(objective)
    for key, value in saved.tensors(OWN).items() if own else ():
        own[key].copy_(value)
    return state


def _own(objective: Objective) -> dict[str, Tensor]:
    keepers = {name: m for name, m in objective.named_modules() if isinstance(m, Objective | Memory)}
    state = objective.state_dict()
    return {k: v for k, v in state.items() if k.rpartition(".")[0] in keepers and isinstance(v, Tensor)}


def _fits(saved: Checkpoint, name: str, live: Mapping[str, Tensor]) -> None:
    found = saved.shapes(name)
    wanted = {key: tuple(value.shape) for key, value in live.items()}
    if found != wanted:
        key = next(k for k in [*wanted, *found] if found.get(k) != wanted.get(k))
        raise UsageError(
            f"The net {name!r} in {saved.path} is not the one being trained: {key} is {found.get(key, 'missing')} "
            f"there and {wanted.get(key, 'missing')} here. Resume with the run's own settings, or start a new run."
        )
