"""A small training of two nets that is cut among processes: `python shard_child.py <processes> <steps> <folder>...`.

The processes are forked, so that PyTorch is imported once, with the places that torchrun gives (which itself starts the
training of `fit_child`). A run folder whose name begins with bf16 is trained in that precision, for half as many steps.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from huggingvis.core.process import Eps
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.shapes import channels_last
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.objectives.denoise import Denoising, UniformTimes
from huggingvis.processes.vp import LinearVP
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.ema import ConstantDecay, Ema
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.parallel import Parallel, from_torchrun
from huggingvis.train.run import Run
from huggingvis.train.settings import BFLOAT16, FitSettings, Validation

SIZES = UNetConfig(1, 1, channels=(20,), blocks=1, attention=(0,), middle=1, heads=2, tokens_dim=7, groups=4)


class Blobs:
    """Item i: an 8 x 8 picture and the numbers of its three tokens; the same whatever batch it is in."""

    def batch(self, index: int, size: int) -> Batch:
        rngs = [torch.Generator().manual_seed(index * size + i) for i in range(size)]
        x0 = torch.stack([torch.randn(1, 8, 8, generator=rng).tanh() for rng in rngs])  # [B, 1, 8, 8]
        return {"x0": x0, "word": torch.stack([torch.randint(5, (3,), generator=rng) for rng in rngs])}  # [B, 3]


def denoising() -> Denoising:
    """A U-Net that reads tokens of a table which is trained beside it; neither 2 nor 3 divides all of their axes."""
    torch.manual_seed(5)
    words = nn.Sequential(nn.Embedding(5, 7), nn.Dropout(0.1), nn.Linear(7, 7))

    def condition(batch: Batch) -> Cond:
        return {"tokens": words(batch["word"])}  # [B, 3, 7]

    net = channels_last(UNet(SIZES))
    return Denoising(net, LinearVP(), Eps(), UniformTimes(), condition=condition, trained={"words": words})


def drawn(at: TrainStep) -> None:
    """What the averaged nets say of a fixed input, in the log: a callback whose forward needs every process."""
    objective = at.objective
    assert isinstance(objective, Denoising)
    batch = Blobs().batch(77, 2)
    with at.averaged():
        out: Tensor = objective.net(batch["x0"], torch.tensor([0.2, 0.7]), objective.condition(batch))
    at.run.log(at.step, {"drawn": float(out.square().mean())})


def train(run: Run, steps: int, bf16: bool = False) -> Denoising:
    """Six pieces a step, clipping that acts, averages, a validation and a checkpoint every second step.

    Weights of all processes but the first are wrong, and none of them counts.
    """
    objective = denoising()
    with torch.no_grad():
        for p in objective.parameters():
            p.add_(run.parallel.rank)
    settings = FitSettings(
        seed=3,
        accumulate=6,
        log_every=1,
        save_every=2,
        keep_last=9,
        progress=False,
        validation=Validation(Blobs(), 2, 6),
    )
    fit(
        objective,
        Blobs(),
        run,
        optim=Optim(lr=3e-3, eps=1e-5, weight_decay=0.1, clip=0.5, warmup=3),
        steps=steps,
        batch_size=12,
        ema=Ema(ConstantDecay(0.8)),
        settings=replace(settings, precision=BFLOAT16) if bf16 else settings,
        on_step=[drawn],
    )
    return objective


def begin(path: Path, parallel: Parallel | None = None) -> Run:
    return Run.begin(path, {"recipe": "blobs"}, resume=True, parallel=parallel)


def one(rank: int, world: int, port: int, steps: int, paths: Sequence[Path]) -> None:
    """The part of process `rank`."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    parallel = from_torchrun(torch.device("cpu"), sharded=True)
    for path in paths:
        bf16 = path.name.startswith("bf16")
        objective = train(begin(path, parallel), steps // (2 if bf16 else 1), bf16)
        held = [p.to_local().numel() for p in objective.parameters() if isinstance(p, DTensor)]
        record = {"tensors": len(held), "numbers": sum(held)}
        (path / f"held-{parallel.world}-{parallel.rank}.json").write_text(json.dumps(record))
    parallel.close()


def main(processes: str, steps: str, *paths: str) -> None:
    """Where one process fails, the others end and so does this one."""
    for name in ("torch._dynamo", "torch.distributed.fsdp"):  # which each would import where it cuts its nets
        importlib.import_module(name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = (int(processes), port, int(steps), [Path(path) for path in paths])
    mp.start_processes(one, given, nprocs=int(processes), start_method="fork")


if __name__ == "__main__":
    main(*sys.argv[1:])
