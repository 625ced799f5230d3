"""The training loop: its arithmetic against plain PyTorch, and what it promises of kills, stops and processes."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from contract.fit_child import CONFIG, Points, Toy, mlp, toy_fit
from torch import Tensor, nn

from huggingvis.core.errors import Cancelled, FileProblem, NumericalTrouble, UsageError
from huggingvis.core.objective import Losses, Objective, Turn
from huggingvis.core.protocols import Batch
from huggingvis.train import checkpoint
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.ema import Averages, ConstantDecay, Ema, PowerDecay
from huggingvis.train.fit import fit
from huggingvis.train.optim import Cosine, InverseSqrt, Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import BFLOAT16, FitSettings

CHILD = Path(__file__).with_name("fit_child.py")
SOURCE = Path(__file__).resolve().parents[2] / "src"
PLAIN = Optim(lr=1e-2, clip=None)
QUIET = FitSettings(log_every=1, progress=False)


def weights(run: Run) -> dict[str, Tensor]:
    last = run.checkpoints()[-1]
    return {f"{name}:{key}": value.clone() for name in last.names() for key, value in last.tensors(name).items()}


def assert_same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def lines(run: Run) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.metrics()]


def difference(a: nn.Module, b: nn.Module) -> float:
    return max((p - q).abs().max().item() for p, q in zip(a.parameters(), b.parameters(), strict=True))


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def test_fit_is_plain_adamw(tmp_path: Path) -> None:
    """Ten steps equal ten hand-written ones, with clipping at a norm that binds."""
    toy, twin = Toy(0.0, 0.0), Toy(0.0, 0.0)
    run = fit(
        toy,
        Points(),
        Run.create(tmp_path / "r", {}),
        optim=Optim(1e-2, clip=0.5),
        steps=10,
        batch_size=8,
        settings=QUIET,
    )
    plain = torch.optim.AdamW(twin.net.parameters(), lr=1e-2, weight_decay=0.0)
    norms = []
    for step in range(10):
        batch = Points().batch(step, 8)
        plain.zero_grad()
        twin.loss(batch, step, torch.Generator())["mse"].backward()
        norms.append(float(nn.utils.clip_grad_norm_(twin.net.parameters(), 0.5)))
        plain.step()
    assert max(norms) > 0.5
    assert difference(toy.net, twin.net) < 1e-6
    assert [r["grad_norm.net"] for r in run.metrics()] == pytest.approx(norms, rel=1e-4)
    assert toy.seen == 10


def test_accumulation_equals_one_big_batch(tmp_path: Path) -> None:
    whole, cut = Toy(0.0, 0.0), Toy(0.0, 0.0)
    for name, toy, pieces in (("whole", whole, 1), ("cut", cut, 4)):
        run = Run.create(tmp_path / name, {})
        settings = FitSettings(accumulate=pieces, log_every=1, progress=False)
        fit(toy, Points(), run, optim=Optim(1e-3, clip=1.0), steps=20, batch_size=8, settings=settings)
    assert difference(whole.net, cut.net) < 1e-6
    losses = [[r["loss.mse"] for r in Run.open(tmp_path / name).metrics()] for name in ("whole", "cut")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert difference(whole.net, Toy().net) > 1e-2


def test_batch_that_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be cut into 3 equal pieces"):
        fit(
            Toy(),
            Points(),
            Run.create(tmp_path, {}),
            optim=PLAIN,
            steps=1,
            batch_size=8,
            settings=FitSettings(accumulate=3),
        )


class Duel(Objective):
    """Two players; the first moves `repeat` times a step, the second plays lazily. Records what it is given."""

    def __init__(self, every: int = 3, repeat: int = 2):
        super().__init__()
        torch.manual_seed(4)
        self.critic, self.maker = mlp(), mlp()
        self.every, self.repeat = every, repeat
        self.moves: list[tuple[str, int, int]] = []
        self.maker_changed: list[int] = []

    def nets(self) -> Mapping[str, nn.Module]:
        return {"critic": self.critic, "maker": self.maker}

    def turns(self, step: int) -> tuple[Turn, ...]:
        return (
            Turn(self.judge, ("critic",), repeat=self.repeat, name="critic"),
            Turn(self.make, ("maker",), every=self.every, name="maker"),
        )

    def judge(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        self.moves.append(("critic", step, batch["first"][0]))
        assert not any(p.requires_grad for p in self.maker.parameters())
        return {"gap": (self.critic(self.maker(batch["x"]).expand(-1, 4)) - batch["y"]).square().mean()}

    def make(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
        self.moves.append(("maker", step, batch["first"][0]))
        assert not any(p.requires_grad for p in self.critic.parameters())
        return {
            "score": -self.critic(self.maker(batch["x"]).expand(-1, 4)).mean(),
            "size": self.maker(batch["x"]).square().mean(),
        }

    def after(self, turn: Turn, step: int, *, params, batch, reduce) -> None:
        assert set(params) == {"critic", "maker"}
        assert reduce(torch.tensor(2.0)) == 2.0


def test_turns_every_and_repeat(tmp_path: Path) -> None:
    """The lazy player moves at steps 0 and 3; each repetition gets a fresh batch and turns of a step share them."""
    duel = Duel()
    before = [p.detach().clone() for p in duel.maker.parameters()]
    changed = []

    def watch(at: TrainStep) -> None:
        changed.append(any(not torch.equal(p, q) for p, q in zip(before, duel.maker.parameters(), strict=True)))
        before[:] = [p.detach().clone() for p in duel.maker.parameters()]

    run = Run.create(tmp_path / "r", {})
    fit(duel, Points(), run, optim=PLAIN, steps=5, batch_size=4, settings=QUIET, on_step=[watch])
    assert changed == [True, False, False, True, False]
    first = [("critic", s, 4 * (2 * s + r)) for s in range(5) for r in range(2)]
    assert [m for m in duel.moves if m[0] == "critic"] == first
    assert [m for m in duel.moves if m[0] == "maker"] == [("maker", 0, 0), ("maker", 3, 24)]
    records = run.metrics()
    assert ["maker" in r for r in records] == [True, False, False, True, False]
    assert records[0]["maker"] == pytest.approx(records[0]["maker.score"] + records[0]["maker.size"], rel=1e-5)
    assert all(p.requires_grad for p in duel.parameters())


def test_two_players_resume_exactly(tmp_path: Path) -> None:
    """Rounds of data are counted, not computed from the step: repeats and lazy turns resume on the right batch."""
    straight, torn = Run.create(tmp_path / "a", {}), Run.create(tmp_path / "b", {})
    rates = {"critic": Optim(1e-2), "maker": Optim(1e-3)}
    fit(Duel(), Points(), straight, optim=rates, steps=11, batch_size=4, settings=QUIET)
    for steps in (4, 11):
        fit(Duel(), Points(), torn, optim=rates, steps=steps, batch_size=4, settings=QUIET)
    assert_same_bits(weights(straight), weights(torn))
    assert lines(straight) == lines(torn)


def test_unknown_and_double_turns(tmp_path: Path) -> None:
    class Lost(Toy):
        def turns(self, step: int) -> tuple[Turn, ...]:
            return (Turn(self.loss, ("nett",)),)

    class Twice(Toy):
        def turns(self, step: int) -> tuple[Turn, ...]:
            return (Turn(self.loss, ("net",)), Turn(self.loss, ("net",)))

    run = Run.create(tmp_path / "r", {})
    with pytest.raises(UsageError, match="'nett'. Did you mean 'net'"):
        fit(Lost(), Points(), run, optim=PLAIN, steps=1, batch_size=4)
    with pytest.raises(UsageError, match="different names"):
        fit(Twice(), Points(), run, optim=PLAIN, steps=1, batch_size=4)


def test_learning_rates() -> None:
    """Values from the formulas by hand."""
    cosine = Optim(lr=2.0, warmup=4, schedule=Cosine(100, floor=0.1))
    assert [cosine.rate(s) for s in (0, 1, 3)] == pytest.approx(
        [0.5, 1.0 * Cosine(100, 0.1).factor(1), 2 * Cosine(100, 0.1).factor(3)], rel=1e-6
    )
    assert [Cosine(100, 0.1).factor(s) for s in (0, 25, 50, 100, 500)] == pytest.approx(
        [1.0, 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5)), 0.55, 0.1, 0.1]
    )
    assert [InverseSqrt(100).factor(s) for s in (0, 100, 400, 10000)] == pytest.approx([1, 1, 0.5, 0.1])
    assert Optim(lr=3e-4).rate(12345) == 3e-4


def test_weight_decay_spares_vectors() -> None:
    net = mlp()
    groups = Optim(weight_decay=0.5).build(list(net.parameters())).param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.5, {2}), (0.0, {1})]


def test_ema_formula_and_swap() -> None:
    net = nn.Linear(3, 2)
    ema = Averages(Ema(ConstantDecay(0.9)), {"net": net})
    mean = net.weight.detach().double().clone()
    for step in range(200):
        with torch.no_grad():
            net.weight += 0.01 * torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
        ema.update(step)
        d = min(0.9, (1 + step) / (10 + step))
        mean = d * mean + (1 - d) * net.weight.detach().double()
    live, place = net.weight.detach().clone(), net.weight.data_ptr()
    with ema.swap():
        assert (net.weight.double() - mean).abs().max() < 1e-6
        assert not torch.equal(net.weight, live)
    assert torch.equal(net.weight, live) and net.weight.data_ptr() == place
    other = Averages(Ema(ConstantDecay(0.9)), {"net": net})
    other.load_state_dict("net", ema.state_dict("net"))
    assert torch.equal(other.state_dict("net")["weight"], ema.state_dict("net")["weight"])


def test_power_decay_is_the_power_function_average() -> None:
    """sigma_rel = 0.1 is gamma = 6.94 (arXiv:2312.02696); the profile at tau of n steps goes as (tau/n)^gamma."""
    power, n = PowerDecay(0.1), 4000
    profile = torch.zeros(n, dtype=torch.float64)
    for step in range(n):
        profile *= power.at(step)
        profile[step] += 1 - power.at(step)
    assert float(profile.sum()) == pytest.approx(1.0)
    tau = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    mean = (profile * tau).sum()
    assert float((profile * (tau - mean).square()).sum().sqrt()) == pytest.approx(0.1, abs=1e-3)
    assert float(profile[n // 2] / profile[-1]) == pytest.approx(0.5**6.94, rel=0.02)
    with pytest.raises(UsageError, match="width"):
        PowerDecay(0.5)


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    toy, dtypes = Toy(0.0, 0.0), set()
    toy.net[0].register_forward_hook(lambda module, given, out: dtypes.add(out.dtype))
    settings = FitSettings(precision=BFLOAT16, log_every=20, progress=False)
    run = fit(toy, Points(), Run.create(tmp_path / "r", {}), optim=PLAIN, steps=60, batch_size=16, settings=settings)
    assert dtypes == {torch.bfloat16} and {p.dtype for p in toy.net.parameters()} == {torch.float32}
    losses = [r["loss"] for r in run.metrics()]
    assert losses[-1] < 0.5 * losses[0]


# ---- what the loop says and leaves -----------------------------------------------------------------------------------


def test_not_a_number_names_loss_and_step(tmp_path: Path) -> None:
    class Breaks(Toy):
        def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
            losses = super().loss(batch, step, rng)
            return {
                **losses,
                "kl": losses["mse"] * (float("nan") if step == 6 else 0.0),
                "_odd": torch.tensor(float("inf")),
            }

    run = Run.create(tmp_path / "r", {})
    settings = FitSettings(save_every=5, log_every=100, progress=False)
    with pytest.raises(NumericalTrouble, match=r"'loss.kl' became nan at step 7") as caught:
        fit(Breaks(), Points(), run, optim=PLAIN, steps=20, batch_size=4, settings=settings)
    assert caught.value.exit_code == 5
    assert [c.step for c in run.checkpoints()] == [5]
    assert all(torch.isfinite(value).all() for value in weights(run).values())


def test_infinite_gradient_is_found(tmp_path: Path) -> None:
    class Root(Toy):
        def loss(self, batch: Batch, step: int, rng: torch.Generator) -> Losses:
            return {"root": (self.net(batch["x"]) * 0.0).abs().sum().sqrt()}

    with pytest.raises(NumericalTrouble, match=r"gradient norm of 'net' became (nan|inf) at step 1"):
        fit(Root(), Points(), Run.create(tmp_path / "r", {}), optim=PLAIN, steps=3, batch_size=4, settings=QUIET)


def test_callbacks_see_averages_and_leave_no_trace(tmp_path: Path) -> None:
    seen = []

    def draw(at: TrainStep) -> None:
        with at.averaged():
            seen.append((at.step, at.objective.net.training, torch.is_grad_enabled(), float(torch.randn(()))))
        assert at.objective.net.training and at.run.samples.is_dir()

    runs = [Run.create(tmp_path / name, {}) for name in "ab"]
    for run, calls in zip(runs, ((draw,), ()), strict=True):
        toy_ema = Ema(ConstantDecay(0.9))
        fit(Toy(), Points(), run, optim=PLAIN, steps=4, batch_size=4, ema=toy_ema, settings=QUIET, on_step=calls)
    assert [s[:3] for s in seen] == [(n, False, False) for n in (1, 2, 3, 4)]
    assert_same_bits(weights(runs[0]), weights(runs[1]))


def test_the_callers_random_numbers_stay(tmp_path: Path) -> None:
    toy, run = Toy(), Run.create(tmp_path / "r", {})
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    fit(toy, Points(), run, optim=PLAIN, steps=3, batch_size=4, settings=QUIET)
    assert torch.equal(torch.randn(4), expected)


def test_a_callback_can_stop(tmp_path: Path) -> None:
    def stop(at: TrainStep) -> None:
        if at.step == 3:
            raise Cancelled("enough")

    run = Run.create(tmp_path / "r", {})
    with pytest.raises(Cancelled, match="after step 3 of 9"):
        fit(Toy(), Points(), run, optim=PLAIN, steps=9, batch_size=4, settings=QUIET, on_step=[stop])
    assert run.latest().step == 3


def test_which_checkpoints_stay(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", {})
    settings = FitSettings(save_every=2, keep_last=2, keep_every=6, log_every=4, progress=False)
    fit(Toy(), Points(), run, optim=PLAIN, steps=17, batch_size=4, settings=settings)
    assert [c.step for c in run.checkpoints()] == [6, 12, 16, 17]
    assert [r["step"] for r in run.metrics()] == [4, 8, 12, 16, 17]


def test_resume_refuses_other_settings(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", CONFIG)
    fit(Toy(), Points(), run, optim=PLAIN, steps=2, batch_size=4, settings=QUIET)
    with pytest.raises(UsageError, match=r"net.width: 24 then, 32 now"):
        Run.open(tmp_path / "r", {**CONFIG, "net": {"width": 32}})
    assert Run.open(tmp_path / "r", {**CONFIG, "steps": 999}).config == CONFIG
    with pytest.raises(UsageError, match="batch_size: 4 then, 8 now"):
        fit(Toy(), Points(), run, optim=PLAIN, steps=4, batch_size=8, settings=QUIET)
    with pytest.raises(UsageError, match="holds a run already"):
        Run.begin(tmp_path / "r", CONFIG)
    with pytest.raises(FileProblem, match="not a run folder"):
        Run.open(tmp_path)
    wide = Toy()
    wide.net = mlp(32)
    with pytest.raises(UsageError, match=r"0.weight is \(24, 4\) there and \(32, 4\) here"):
        fit(wide, Points(), run, optim=PLAIN, steps=4, batch_size=4, settings=QUIET)


def test_one_training_per_folder(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r", {})
    with run.locked(), pytest.raises(UsageError, match="Another training is writing"):
        fit(Toy(), Points(), run, optim=PLAIN, steps=1, batch_size=4, settings=QUIET)
    fit(Toy(), Points(), run, optim=PLAIN, steps=1, batch_size=4, settings=QUIET)


# ---- kills, stops, full disks, several processes ---------------------------------------------------------------------


def child(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert process.poll() is None, f"ended too early: {process.stderr.read()}"
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The training of `fit_child` from step 0 to 200 in one go."""
    run = Run.create(tmp_path_factory.mktemp("straight") / "r", CONFIG)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return toy_fit(run, Toy(), 200)
    finally:
        torch.set_num_threads(threads)


def test_killed_and_resumed_is_the_same_bit_for_bit(straight: Run, tmp_path: Path) -> None:
    """SIGKILL at random moments, twice; the third start ends with the bits and the log of an unbroken training."""
    path, clock = tmp_path / "r", random.Random()
    reached = []
    for goal in (20, 70):
        process = child(path, 200, 0.002)
        run = Run(path, CONFIG, straight.parallel)
        wait_for(lambda run=run, goal=goal: any(c.step >= goal for c in run.checkpoints()), process)
        time.sleep(clock.uniform(0, 0.25))
        process.kill()
        process.wait()
        process.stderr.close()
        reached.append(run.checkpoints()[-1].step)
    assert 20 <= reached[0] < reached[1] < 200, reached
    toy_fit(Run.open(path, CONFIG), Toy(), 200)
    assert_same_bits(weights(straight), weights(run))
    assert lines(straight) == lines(run)
    assert checkpoint.find(path / "checkpoints")[1] == []


def test_ctrl_c_saves_and_says_how_to_go_on(straight: Run, tmp_path: Path) -> None:
    process = child(tmp_path / "r", 200, 0.005)
    run = Run(tmp_path / "r", CONFIG, straight.parallel)
    wait_for(lambda: bool(run.checkpoints()), process)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said and "Resume this run folder" in said
    step = run.checkpoints()[-1].step
    assert f"Stopped after step {step} of 200" in said
    toy_fit(Run.open(tmp_path / "r", CONFIG), Toy(), step + 3)
    assert run.checkpoints()[-1].step == step + 3


def test_half_written_checkpoints_are_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.create(tmp_path / "r", {})
    settings = FitSettings(save_every=2, keep_last=9, log_every=1, progress=False)
    fit(Toy(), Points(), run, optim=PLAIN, steps=6, batch_size=4, settings=settings)
    two, four, six = run.checkpoints()
    expected = weights(run)
    (six.path / "net.safetensors").write_bytes((six.path / "net.safetensors").read_bytes()[:100])
    (run.path / "checkpoints" / ".writing-step-00000008-1").mkdir()
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')
    capsys.readouterr()
    assert run.latest() == four and two.step == 2
    said = capsys.readouterr().err
    assert "step-00000006: it was not written to its end" in said and ".writing-step-00000008-1" in said
    fit(Toy(), Points(), run, optim=PLAIN, steps=6, batch_size=4, settings=settings)
    assert_same_bits(expected, weights(run))
    assert [r["step"] for r in run.metrics()] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name[:5] for p in (run.path / "checkpoints").iterdir()) == ["step-"] * 3


def test_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """A limit on file size stands in for the full disk: the system refuses the write in the middle of it."""
    run = Run.create(tmp_path / "r", {})
    fit(Toy(), Points(), run, optim=PLAIN, steps=2, batch_size=4, settings=QUIET)
    before = weights(run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder, big = run.path / "checkpoints", {"net": {"w": torch.zeros(500_000)}}
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(
            FileProblem, match=r"step-00000004.*larger than this system allows.*before this one are intact"
        ):
            checkpoint.write(folder, 4, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same_bits(before, weights(run))
    assert [p.name for p in folder.iterdir()] == ["step-00000002"]


def test_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(FileProblem, match="is a file, not a folder"):
        Run.create(tmp_path / "file" / "r", {})


def test_checkpoint_holds_tied_and_strided_tensors(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    sets = {"net": {"a": base, "tied": base, "row": base[1], "turned": base.permute(2, 0, 1)}}
    back = checkpoint.write(tmp_path, 1, sets, {}).tensors("net")
    assert_same_bits({k: v.contiguous() for k, v in sets["net"].items()}, back)
    with pytest.raises(FileProblem, match="no 'nett'; it holds net"):
        checkpoint.find(tmp_path)[0][0].tensors("nett")
    assert json.loads((tmp_path / "step-00000001" / "state.json").read_text())["step"] == 1


def test_two_processes_same_losses_as_one(straight: Run, tmp_path: Path) -> None:
    """torchrun with gloo: pieces of a batch on two processes, losses within 1e-5 at every log line."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = child(tmp_path / "r", 60, launcher=launcher)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    both = Run.open(tmp_path / "r").metrics()
    alone = [r for r in straight.metrics() if r["step"] <= 60]
    assert [r["step"] for r in both if "loss" in r] == [10, 20, 30, 40, 50, 60]
    for key in ("loss", "loss.mse", "loss._mean", "grad_norm.net", "validation.mse"):
        one, two = ([r[key] for r in records if key in r and r["step"] <= 50] for records in (alone, both))
        assert len(one) == (1 if key == "validation.mse" else 5)
        assert two == pytest.approx(one, abs=1e-5), key
