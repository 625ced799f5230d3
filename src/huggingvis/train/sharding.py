"""Sharded training: each process keeps one part of every net, of its gradients, averages and optimiser's memory.

PyTorch's FSDP2 (`fully_shard`), which follows S. Rajbhandari, J. Rasley, O. Ruwase, Y. He, "ZeRO: Memory Optimizations
Toward Training Trillion Parameter Models", 2019, arXiv:1910.02054, section 5.3 (stage 3): the weights of a block are
brought together just before it computes, forwards and backwards, and its gradient is summed straight into the parts.
Parameters become DTensors in place, cut along their first axis; of a net of N numbers, trained by AdamW with averages,
each of W processes holds 5N/W, and the weights of one block at a time.

PyTorch's shards take as long to import as half of all else of it, and nearly every training does without: they are
imported where nets are cut.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

from huggingvis.core.errors import UsageError
from huggingvis.core.objective import Objective
from huggingvis.train.optim import Optim
from huggingvis.train.parallel import Parallel

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

INSTEAD = "Train it without shards: on several processes each then holds the whole of it."
_SIGNS = ("mixed torch.Tensor and DTensor", "FSDP state has already been lazily initialized")


def shard(objective: Objective, optim: Optim | Mapping[str, Optim], parallel: Parallel) -> None:
    """Cuts every net of `objective` among the processes, in place, and moves what is not cut to their devices.

    A net that does not fit one device may come in the CPU's memory: it is moved block by block. Raises `UsageError`
    for what shards cannot train.
    """
    from torch.distributed.device_mesh import init_device_mesh

    nets = objective.nets()
    _check_game(objective, optim)
    _check_weights(nets)
    _quieten(nets)
    parallel.share(nets.values())
    mesh = init_device_mesh(parallel.device.type, (parallel.world,))
    for name, net in nets.items():
        _cut(name, net, mesh)
    objective.to(parallel.device)


def units(net: nn.Module) -> Iterator[nn.Module]:
    """The blocks that are brought together one at a time: the outermost modules inside `net` that can be called."""
    for child in net.children():
        if not _callable(child):
            yield from units(child)
        elif any(True for _ in child.parameters()):
            yield child


def is_part(x: Tensor | None) -> TypeGuard[DTensor]:
    """Whether a tensor is cut among the processes: none is before its class is imported."""
    if "torch.distributed.tensor" not in sys.modules:
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(x, DTensor)


def full(x: Tensor) -> Tensor:
    """The whole of a tensor, which all processes must ask for together."""
    return x.full_tensor() if is_part(x) else x


def held(p: nn.Parameter) -> Tensor:
    """What `hold` can give back to a parameter later."""
    return p.data.clone() if is_part(p) else p.data


def hold(p: nn.Parameter, data: Tensor) -> None:
    """Gives a parameter the numbers of `data`, and where it is whole the very tensor."""
    if is_part(p):
        p.data.copy_(data)  # FSDP reads a part through views of its memory
    else:
        p.data = data


def cut_like(x: Tensor, live: Tensor | None) -> Tensor:
    """This process's part of the whole tensor `x`, cut like `live` is where both have one shape; else `x`."""
    if is_part(live) and live.shape == x.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(x.to(live.device), live.device_mesh, live.placements, src_data_rank=None)
    return x


def gathered(sets: Mapping[str, Mapping[str, Tensor]], keep: bool) -> dict[str, Mapping[str, Tensor]]:
    """Named sets of whole tensors on the CPU where `keep`, else of nothing; all processes must ask together."""
    out: dict[str, Mapping[str, Tensor]] = {}
    for name, tensors in sets.items():
        wholes = ((key, full(tensor)) for key, tensor in tensors.items())  # one at a time: a device holds no two
        out[name] = {key: whole.cpu() for key, whole in wholes if keep}
    return out


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Turns PyTorch's complaints about a net that is used in parts into a `UsageError`."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _SIGNS):
            raise
        raise UsageError(
            "This training reads weights of a net without calling the module that holds them, and with shards they are "
            f"together only while it is called. {INSTEAD}"
        ) from error


def _cut(name: str, net: nn.Module, mesh: DeviceMesh) -> None:
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for p in net.parameters():
        p.data = p.data.contiguous()  # a part must be one piece of memory
    for block in [*units(net), *([net] if _callable(net) else [])]:
        unit = fully_shard(block, mesh=mesh, reshard_after_forward=True)  # else a validation leaves old weights there
        assert isinstance(unit, FSDPModule)
        unit.set_gradient_divide_factor(1.0)  # pieces are weighted by their share of the batch already: a sum
        unit.set_force_sum_reduction_for_comms(True)
    loose = next((key for key, p in net.named_parameters() if not is_part(p)), None)
    if loose is not None:
        raise UsageError(f"The weight {loose!r} of the net {name!r} belongs to no block that is called. {INSTEAD}")


def _callable(module: nn.Module) -> bool:
    """Whether a module computes when it is called, other than one that only holds others."""
    return type(module).forward is not nn.Module.forward


def _quieten(nets: Mapping[str, nn.Module]) -> None:
    """FSDP warns of nets that change in place what a block returned; modules of ours and of PyTorch never do."""
    kinds = {type(module).__module__.partition(".")[0] for net in nets.values() for module in net.modules()}
    if kinds <= {"huggingvis", "torch"}:
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)


def _check_game(objective: Objective, optim: Optim | Mapping[str, Optim]) -> None:
    turns, nets = objective.turns(0), objective.nets()
    if len(turns) > 1 or set(turns[0].nets) != set(nets):
        raise UsageError(
            f"Shards hold nets that one loss trains all of the time, and here the nets ({', '.join(nets)}) take turns, "
            f"as in adversarial games with their gradients of gradients. {INSTEAD}"
        )
    specs = [optim] if isinstance(optim, Optim) else list(optim.values())
    if any(spec.muon for spec in specs):
        raise UsageError(
            "Muon makes whole matrices orthogonal, and a process with a shard has only some of their rows. Train with "
            "AdamW (muon off), or without shards."
        )


def _check_weights(nets: Mapping[str, nn.Module]) -> None:
    held = Counter(id(p) for net in nets.values() for p in _held(net))
    for name, net in nets.items():
        for key, p in net.named_parameters():
            if p.ndim == 0:
                raise UsageError(f"The weight {key!r} of the net {name!r} is a number without axes to cut. {INSTEAD}")
            if held[id(p)] > 1:
                raise UsageError(f"The weight {key!r} of the net {name!r} belongs to two blocks at once. {INSTEAD}")


def _held(net: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of each unit, and those outside of all units."""
    inside: set[nn.Module] = set()
    for unit in units(net):
        inside.update(unit.modules())
        yield from unit.parameters()
    for module in net.modules():
        if module not in inside:
            yield from module.parameters(recurse=False)
