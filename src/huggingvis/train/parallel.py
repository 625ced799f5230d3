"""Data parallelism: the same training on several processes, started by `torchrun`.

Each process takes its share of a batch's pieces; gradients are summed over processes in flat buckets after backward.
An objective's loss is not one module's forward, so `fit` reduces gradients itself instead of wrapping a module. With
`sharded`, nets are cut among the processes as well (see `train.sharding`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from huggingvis.core.errors import UsageError

SHARDS_FROM = "2.9"
"""The oldest PyTorch that may shard: distributed checkpoints as safetensors are young. Tested on 2.13."""
BUCKET = 2**23
"""Numbers per all-reduce: large enough to be bandwidth-bound, small enough to add little memory."""


@final
@dataclass(frozen=True)
class Parallel:
    """This process's place among `world` equal ones. The default is a training on one process."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    sharded: bool = False
    """Each process keeps a part of every net, instead of all of it."""

    @property
    def home(self) -> torch.device:
        """Where nets are made: on the device, or in the CPU's memory where one device may be too small for them."""
        return torch.device("cpu") if self.sharded else self.device

    @property
    def writes(self) -> bool:
        """Only one process writes files and reports."""
        return self.rank == 0

    def sum_gradients(self, params: Iterable[nn.Parameter]) -> None:
        """Adds up gradients over processes, in place. All processes must hold gradients of the same parameters.

        Those of shards were summed on their way to them.
        """
        if self.world == 1 or self.sharded:
            return
        for bucket in _buckets([p.grad for p in params if p.grad is not None]):
            flat = torch.cat([grad.reshape(-1) for grad in bucket])
            dist.all_reduce(flat)
            for grad, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                grad.copy_(part.view(grad.shape))

    def mean(self, x: Tensor) -> Tensor:
        """The average of `x` over processes, as a new tensor."""
        if self.world == 1:
            return x
        x = x.clone()
        dist.all_reduce(x)
        return x / self.world

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        if self.world == 1:
            return flag
        votes = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(votes)
        return bool(votes.item())

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.world > 1:
            dist.barrier()

    @torch.no_grad()
    def share(self, nets: Iterable[nn.Module]) -> None:
        """Gives every process the weights and buffers of the first one."""
        if self.world > 1:
            for net in nets:
                for tensor in [*net.parameters(), *net.buffers()]:
                    there = tensor.data.to(self.device)
                    dist.broadcast(there, src=0)
                    tensor.data.copy_(there)

    def close(self) -> None:
        """Leaves the group."""
        if self.world > 1:
            dist.destroy_process_group()


def _buckets(grads: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    for grad in grads:
        if bucket and (grad.dtype != bucket[0].dtype or sum(g.numel() for g in bucket) + grad.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(grad)
    if bucket:
        yield bucket


def from_torchrun(device: torch.device, sharded: bool = False) -> Parallel:
    """The place that `torchrun` gave this process (gloo on the CPU, nccl on CUDA); without it, one process alone.

    `sharded`: cut the nets among the processes. Raises `UsageError` where there is one process, or no fitting device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 and sharded:
        raise UsageError(
            "Shards cut a net among several processes, and here is one. Start several, as in "
            "`torchrun --nproc-per-node 2 -m huggingvis train ... --shard`, or train without --shard."
        )
    if sharded and torch.__version__ < SHARDS_FROM:  # torch compares it as a version, not as a text
        raise UsageError(f"Shards need PyTorch {SHARDS_FROM} or newer, found {torch.__version__}. Update it.")
    if world == 1:
        return Parallel(device=device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise UsageError(f"Several processes train on cpu or cuda, not on {device.type}. Start one process instead.")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Parallel(dist.get_rank(), world, device, sharded)
