"""The one training loop: turns, accumulation, clipping, averages, validation, checkpoints, exact resume.

Nothing in it is hidden state: batches are addressed by number, and every random draw comes from a generator seeded by
(seed, step, turn, repetition, piece), in the manner of T. Karras et al., 2023, arXiv:2312.02696. So a killed training,
resumed from its last checkpoint, continues bit for bit on the CPU. Book: the chapter on training.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import Cancelled, UsageError, unknown
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch, Batches
from huggingvis.core.shapes import channels_last
from huggingvis.train import checkpoint, sharding
from huggingvis.train.callbacks import Callback, TrainStep, evaluating
from huggingvis.train.ema import Averages, Ema
from huggingvis.train.meter import Meter
from huggingvis.train.optim import Optim
from huggingvis.train.players import Player, players
from huggingvis.train.prefetch import Prefetch, to_device
from huggingvis.train.progress import Reporter, reporter
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Sizes, Validation
from huggingvis.train.snapshot import collect, restore
from huggingvis.train.stop import StopRequest


def fit(
    objective: Objective,
    data: Batches,
    run: Run,
    *,
    optim: Optim | Mapping[str, Optim],
    steps: int,
    batch_size: int,
    ema: Ema | None = None,
    settings: FitSettings | None = None,
    on_step: Sequence[Callback] = (),
) -> Run:
    """Trains `objective` until `steps` steps are done, going on from the run's latest checkpoint if there is one.

    `batch_size` counts items per optimiser step over all pieces and processes. The objective is on its device
    already; losses get batches and a generator on that device. Callbacks run on the first process, in order; one that
    raises `Cancelled` stops the training like ctrl-C does: a checkpoint is saved, then `Cancelled` is raised.

    Where the run's place is `sharded`, the nets are cut in place and stay so; the objective may come in the CPU's
    memory. Callbacks then run on every process, which a net's forward needs, all but the first with a run that is
    thrown away. Checkpoints are in parts, but for the last one.

    Raises `NumericalTrouble` for a loss or gradient that is not finite, `FileProblem` where the disk refuses,
    `UsageError` for numbers that do not go together or a run folder in use.
    """
    settings = settings or FitSettings()
    loop = _Loop(objective, data, run, settings, Sizes.of(batch_size, steps, settings, run.parallel.world), optim, ema)
    with contextlib.ExitStack() as stack:
        if run.parallel.writes:
            stack.enter_context(run.locked())
        cuda = [loop.device] if loop.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=cuda))  # the caller's random numbers stay as they were
        loop.told = stack.enter_context(run.for_callbacks())
        stop = stack.enter_context(StopRequest())
        stack.callback(loop.close)
        loop.start()
        loop.train(on_step, stop)
    return run


@final
@dataclass
class _Loop:
    objective: Objective
    data: Batches
    run: Run
    settings: FitSettings
    sizes: Sizes
    optim: Optim | Mapping[str, Optim]
    ema: Ema | None
    done: int = 0
    rounds: int = 0
    seconds: float = 0.0
    players: dict[str, Player] = field(init=False)
    told: Run = field(init=False)

    def __post_init__(self) -> None:
        nets = self.objective.nets()
        self.parallel = self.run.parallel
        if self.parallel.device.type == "cuda":
            for net in nets.values():
                channels_last(net)
        if self.parallel.sharded and not any(c.step >= self.sizes.steps for c in self.run.checkpoints()):
            sharding.shard(self.objective, self.optim, self.parallel)
        else:
            self.parallel.share(nets.values())
        self.players = players(nets, self.optim)
        self.device = next(iter(self.players.values())).params[0].device
        self.averages = Averages(self.ema, nets) if self.ema else None
        self.meter = Meter(self.parallel)
        self.prefetch = Prefetch(
            self.data, self.sizes.piece, self.sizes.pieces, self.parallel, self.settings.prefetch, self.device
        )

    def start(self) -> None:
        """From the latest checkpoint, or from the beginning."""
        saved = self.run.latest()
        if saved is not None:
            state = restore(saved, self.objective, self.players, self.averages, self._facts())
            self.done, self.rounds, self.seconds = saved.step, state["rounds"], state["seconds"]
            self.meter.restore(state["meter"])
        self.run.rewind(self.done)
        self.prefetch.start(self.rounds)
        for net in self.objective.nets().values():
            net.train()

    def train(self, on_step: Sequence[Callback], stop: StopRequest) -> None:
        last = self.sizes.steps
        screen = reporter(self.done, last, self.settings.progress, self.parallel.writes)
        clock = time.monotonic() - self.seconds
        try:
            while self.done < last:
                self.step()
                self.seconds = time.monotonic() - clock
                screen.show(self.done, self.meter.latest)
                self._call(on_step, stop, screen)
                stopping = self._stopping(stop)
                if stopping or self.done == last or _due(self.settings.save_every, self.done):
                    self.save()
                if stopping and self.done < last:
                    self._cancel()
        finally:
            screen.close()

    def step(self) -> None:
        """One step: its turns, the averages, and what is logged after it."""
        step = self.done
        batches: list[list[Batch]] = []
        for index, turn in enumerate(self._turns(step)):
            if step % turn.every:
                continue
            self._only(turn.nets)
            for repetition in range(turn.repeat):
                if repetition == len(batches):  # turns of a step share rounds; a repetition is a fresh one
                    batches.append(self.prefetch.take())
                self._turn(turn, (step, index, repetition), batches[repetition])
        self._only(tuple(self.players))
        self.rounds += len(batches)
        self.done += 1
        if self.averages is not None:
            self.averages.update(step)
        if self.device.type == "cpu" or _due(self.settings.log_every, self.done):
            self.meter.flush()
        self._log()

    def _turns(self, step: int) -> tuple[Turn, ...]:
        turns = self.objective.turns(step)
        if len({turn.name for turn in turns}) != len(turns):
            raise UsageError(f"Turns need different names, found {', '.join(t.name for t in turns)}. Rename one.")
        for name in (name for turn in turns for name in turn.nets):
            if name not in self.players:
                raise unknown("net to train", name, self.players)
        return turns

    def _turn(self, turn: Turn, number: tuple[int, int, int], batches: list[Batch]) -> None:
        step = number[0]
        movers = [self.players[name] for name in turn.nets]
        for player in movers:
            player.forget()
        sums: dict[str, Tensor] = {}
        for batch, piece in zip(batches, self.prefetch.mine, strict=True):
            rng = self._seed("turn", *number, piece)
            with self.settings.precision.context(self.device), sharding.in_words():
                losses = turn.loss(batch, step, rng)
                total = _total(turn, losses)
            (total / self.sizes.pieces).backward()
            for key, value in (*((f"{turn.name}.{key}", v) for key, v in losses.items()), (turn.name, total)):
                share = value.detach().to(self.device, torch.float32) / len(batches)
                sums[key] = sums[key] + share if key in sums else share
        self.meter.add(step + 1, sums)
        self.meter.add(step + 1, {f"grad_norm.{p.name}": p.update(step, self.parallel) for p in movers})
        params = {player.name: player.params for player in self.players.values()}
        self.objective.after(turn, step, params=params, batch=batches[-1], reduce=self.parallel.mean)

    def _only(self, names: tuple[str, ...]) -> None:
        if len(self.players) > 1:
            for name, player in self.players.items():
                player.trainable(name in names)

    def _seed(self, *numbers: object) -> torch.Generator:
        """A generator for these numbers; dropout, which draws from the global one, is seeded alike."""
        digest = hashlib.blake2b(repr((self.settings.seed, *numbers)).encode(), digest_size=8).digest()
        seed = int.from_bytes(digest, "little") >> 1
        torch.default_generator.manual_seed(seed)  # torch.manual_seed formats a stack trace for every idle backend
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        return torch.Generator(self.device).manual_seed(seed)

    def _log(self) -> None:
        if _due(self.settings.log_every, self.done) or self.done == self.sizes.steps:
            self.meter.flush()
            rates = {f"lr.{p.name}": p.spec.rate(self.done - 1) for p in self.players.values()}
            self.run.log(self.done, self.meter.means() | rates | {"seconds": round(self.seconds, 3)})
        validation = self.settings.validation
        if validation is not None and (_due(validation.every, self.done) or self.done == self.sizes.steps):
            self.run.log(self.done, self.validate(validation))

    def validate(self, validation: Validation) -> dict[str, float]:
        """Held-out losses with averaged weights, on the same batches and the same noise every time."""
        sums: dict[str, Tensor] = {}
        world = self.parallel.world
        count = -(-validation.batches // world) * world  # every process needs the same number of them
        with evaluating(self.objective, self.averages), self.settings.precision.context(self.device):
            for index in range(self.parallel.rank, count, world):
                batch = to_device(validation.data.batch(index, self.sizes.piece), self.device)
                for key, value in self.objective.validate(batch, self._seed("validation", index)).items():
                    share = value.detach().float() * world / count
                    sums[key] = sums[key] + share if key in sums else share
        return {f"validation.{key}": float(self.parallel.mean(value)) for key, value in sums.items()}

    def save(self) -> None:
        """A checkpoint of everything up to here, checked for NaN first."""
        self.meter.flush()
        folder, parallel = self.run.path / "checkpoints", self.parallel
        state = {"rounds": self.rounds, "seconds": self.seconds, "meter": self.meter.state()} | self._facts()
        sets = collect(self.objective, self.players, self.averages)
        if parallel.sharded and self.done < self.sizes.steps:
            checkpoint.write_parts(folder, self.done, sets, state, parallel)
        else:
            sets = sharding.gathered(sets, parallel.writes) if parallel.sharded else sets
            if parallel.writes:
                checkpoint.write(folder, self.done, sets, state)
        if parallel.writes:
            checkpoint.prune(folder, self.settings.keep_last, self.settings.keep_every)
        parallel.barrier()

    def close(self) -> None:
        self.prefetch.close()
        self._only(tuple(self.players))
        self.run.close()

    def _call(self, on_step: Sequence[Callback], stop: StopRequest, screen: Reporter) -> None:
        if not (self.parallel.writes or self.parallel.sharded) or not on_step:
            return

        def tell(what: str) -> None:
            if stop.asked and not self.parallel.sharded:  # processes with shards must leave a net together
                raise Cancelled("What was going on between two steps was left off.")
            screen.tell(what)

        losses, measured = dict(self.meter.latest), dict(self.meter.measured)
        at = TrainStep(self.done, self.sizes.steps, losses, measured, self.objective, self.averages, self.told, tell)
        try:
            with sharding.in_words():
                for callback in on_step:
                    callback(at)
        except Cancelled:
            stop.ask()
        screen.tell("")

    def _stopping(self, stop: StopRequest) -> bool:
        """All processes must agree; on an accelerator asking costs a wait, so it is done now and then."""
        if self.parallel.world > 1 and self.device.type != "cpu" and self.done % 10:
            return False
        return self.parallel.any(stop.asked)

    def _cancel(self) -> None:
        raise Cancelled(
            f"Stopped after step {self.done} of {self.sizes.steps}; all of it is saved in {self.run.path}, "
            "and a resume goes on exactly from there."
        )

    def _facts(self) -> dict[str, int]:
        """Numbers that an exact resume needs to find unchanged."""
        return {"seed": self.settings.seed, "batch_size": self.sizes.batch_size, "pieces": self.sizes.pieces}


def _total(turn: Turn, losses: Losses) -> Tensor:
    minimised = [value for key, value in losses.items() if not key.startswith("_")]
    if not minimised:
        raise UsageError(f"Turn {turn.name!r} gave nothing to minimise: name one of its losses without a leading _.")
    return reduce(operator.add, minimised)


def _due(every: int, done: int) -> bool:
    return every > 0 and done % every == 0
