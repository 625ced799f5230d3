"""`hvis explain` and `hvis compare`, on processes by name and on a small run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from huggingvis.core.belief import Gaussian
from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.core.request import Limits, Request, Sampling
from huggingvis.core.system import Spec, System
from huggingvis.data.mixture import GaussianMixture
from huggingvis.edits.generate import fingerprint
from huggingvis.export.end_labels import apart
from huggingvis.export.image import save
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.processes.vp import LinearVP
from huggingvis.recipes.compared_cells import CellPlan, Kept, Made, Pace
from huggingvis.recipes.comparing import Comparison, compare_samplers, nearness, told
from huggingvis.recipes.denoiser_training import NOISINGS
from huggingvis.recipes.explaining import LEVELS, PROCESSES, TIMES
from huggingvis.recipes.sampler_facts import FAMILIES, family, kind_of
from huggingvis.recipes.sampler_panels import level_of, panels
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import Uniform
from huggingvis.samplers.names import sampler_names, sampler_of
from huggingvis.systems import tiny
from huggingvis.systems.unconditional import Unconditional

SIDE = 8


class _Pixels:
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z.reshape(-1, 1, SIDE, SIDE)


def two_pictures() -> GaussianMixture:
    """Two pictures of grey pixels, and a little around them."""
    n = SIDE**2
    means = torch.stack([torch.linspace(-0.8, 0.8, n), torch.linspace(0.6, -0.6, n)]).double()
    return GaussianMixture(torch.tensor([0.4, 0.6]), means, 0.01 * torch.eye(n).expand(2, n, n))


def mixture_system() -> System:
    """A system whose denoiser is exact."""
    mixture, process = two_pictures(), LinearVP()

    def generator(request: Request) -> Diffusion:
        return Diffusion(mixture.denoiser(process), process, (SIDE**2,), DDIM(), Uniform(request.sampling.steps))

    spec = Spec("mixture", "none", (SIDE, SIDE), channels=1)
    limits = Limits(side=SIDE, multiple=1, prompt_required=False)
    return System(spec, {}, Unconditional(), _Pixels(), generator, Sampling(schedule="logsnr"), limits)


def test_more_calls_are_nearer_and_high_order_is_nearer_still() -> None:
    how = Comparison(("ddim", "DPM++ 2M", "heun"), (6, 12, 24, 48), count=3, fine=200)
    result = compare_samplers(mixture_system(), how)
    error = {(row["sampler"], row["nfe"]): row["relative_error"] for row in result.record["rows"]}
    for name in how.samplers:
        assert error[name, 48] < error[name, 12] < 1.0
    assert error["DPM++ 2M", 48] < error["ddim", 48] / 2 and error["heun", 48] < error["ddim", 48]
    row = next(row for row in result.record["rows"] if row["sampler"] == "heun" and row["nfe"] == 12)
    assert (row["steps"], row["calls_per_step"]) == (6, 2)
    assert result.plot.size == (640, 400) and result.sheet.size[1] > 3 * 96
    json.dumps(result.record, allow_nan=False)


def test_one_picture_that_becomes_another_does_not_move_the_picture_in_the_middle() -> None:
    goal = torch.linspace(-0.9, 0.9, 5 * 3 * 4).reshape(5, 3, 2, 2)
    near = goal + 0.02
    far = torch.cat([-goal[:1], near[1:]])
    one, other = (nearness(Made(x, x, 10), Made(goal, goal, 10)) for x in (near, far))
    assert one["psnr"] == pytest.approx(40.0, abs=1e-3) and one["psnr_median"] == pytest.approx(40.0, abs=1e-3)
    assert other["psnr"] < 20 and other["psnr_median"] == pytest.approx(40.0, abs=1e-3)
    same = nearness(Made(goal, goal, 10), Made(goal, goal, 10))
    assert same["psnr"] is None and same["psnr_median"] is None and same["relative_error"] == 0.0


def test_near_to_real_pictures_where_there_are_any(tmp_path: Path) -> None:
    """One call is far from the data; with many calls samplers with fresh noise and without are as near as real ones."""
    real = two_pictures().sample(200, torch.Generator().manual_seed(9)).reshape(-1, 1, SIDE, SIDE)
    for i, x in enumerate(real):
        save(Picture.from_signal(x.numpy()), tmp_path / f"{i:03}.png")
    how = Comparison(("ddim", "euler-a"), (1, 60), count=100, fine=60, against=f"folder:{tmp_path}")
    result = compare_samplers(mixture_system(), how)
    floor, rows = result.record["against"]["floor"], result.record["rows"]
    distance = {(row["sampler"], row["nfe"]): row["frechet"] for row in rows}
    assert result.record["against"]["count"] == 100 and floor > 0
    assert result.record["against"]["same_prompts"] is False and level_of(result.record) == "real pictures"
    assert level_of({"against": {"same_prompts": True}}) == "real, other captions"
    for name in how.samplers:
        assert distance[name, 1] > 4 * floor and distance[name, 60] < 2 * floor
    keys = {"psnr", "psnr_median", "relative_error"}
    assert [sorted(row) for row in rows] == 2 * [sorted({*rows[2], *keys})] + 2 * [sorted(rows[2])]
    assert result.plot.size == (2 * 640, 400)
    assert sum("folder" in line for line in told(result)) == 1
    with pytest.raises(UsageError, match="at least 50 pictures"):
        compare_samplers(mixture_system(), replace(how, count=101))


def test_a_model_that_reads_sentences_is_compared_on_its_example(hvis: Any, tiny_model: Path) -> None:
    said = hvis(["compare", "samplers", "--model", tiny_model, "--samplers", "ddim,heun", "--nfe", "2,4", "--fine", "8",
                 "--count", "1", "--json"])  # fmt: skip
    assert said.document["prompts"] == [tiny.EXAMPLE] and said.document["schedule"] == tiny.DEFAULTS.schedule
    assert [row["nfe"] for row in said.document["rows"]] == [2, 4, 2, 4]
    kept = json.loads(Path("compare.json").read_text())
    assert kept["command"].startswith(f"hvis compare samplers --model {tiny_model} --samplers ddim,heun")
    assert kept["command"].endswith("--count 1 --json") and kept["versions"].keys() >= {"python", "torch"}
    assert kept["seconds"] == pytest.approx(sum(row["seconds"] for row in kept["rows"]), abs=0.1) and kept["machine"]
    assert sorted(path.name for path in Path().iterdir()) == ["compare-sheet.png", "compare.json", "compare.png"]


def test_a_folder_with_other_things_is_refused_and_left_alone(hvis: Any, tiny_model: Path) -> None:
    mine = Path("mine-cells/thesis.txt")
    mine.parent.mkdir()
    mine.write_text("years of work")
    said = hvis(["compare", "samplers", "--model", tiny_model, "--samplers", "ddim", "--nfe", "2", "--fine", "2",
                 "--count", "1", "-o", "mine"])  # fmt: skip
    assert said.code == 2 and "other things" in said.paragraph
    assert mine.read_text() == "years of work" and list(Path().iterdir()) == [mine.parent]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="fresh noise"):
        compare_samplers(mixture_system(), Comparison(("euler-a",), (4,)))
    with pytest.raises(UsageError, match="at least 1"):
        Comparison(nfe=(0, 5))
    with pytest.raises(UsageError, match="'heun'"):
        compare_samplers(mixture_system(), Comparison(("huen",), (4,)))


def test_a_plot_has_its_curves_where_they_belong() -> None:
    """A rising line of one colour: red pixels low at the left, high at the right; points out of range left out."""
    axes = Axes("rise", "x", "y", log_y=True, size=(300, 200))
    picture = plot([Curve("a", [(0, 0.0)]), Curve("b", [(0, 1.0), (1, 10.0), (2, 100.0)])], axes)
    red = np.argwhere((picture.pixels[24:150].astype(int) - [214, 39, 40]).__abs__().max(2) < 30)
    left, right = red[red[:, 1] < 130, 0], red[(red[:, 1] > 200) & (red[:, 1] < 260), 0]
    assert picture.size == (300, 200) and left.mean() > right.mean() + 20
    with pytest.raises(UsageError, match="nothing to plot"):
        plot([Curve("a", [(0, float("nan"))])], axes)


def test_the_numbers_of_an_axis_stand_at_what_was_measured_and_apart() -> None:
    """The grid's grey lines: at the asked marks, without those whose numbers would touch; round ones on short axes."""

    def columns(xs: tuple[float, ...], ticks: tuple[float, ...]) -> list[int]:
        axes = Axes("", "", "", log_x=True, x_ticks=ticks)
        pixels = plot([Curve("a", [(x, float(i)) for i, x in enumerate(xs)], ink=0)], axes).pixels.astype(int)
        grey = (np.abs(pixels[40:330] - 225).max(2) < 10).mean(0) > 0.5
        return [int(x) for x in np.flatnonzero(grey[1:] & ~grey[:-1])]

    few = (4, 8, 16, 32)
    found = columns(few, few)
    assert len(found) == 4 and np.ptp(np.diff(found)) <= 2
    many = tuple(range(100, 161))
    assert 5 < len(columns(many, many)) < 20 and min(np.diff(columns(many, many))) > 20
    assert len(columns((10, 11, 12), ())) >= 3


def test_a_comparison_is_marked_at_its_numbers_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[Curve], Axes]] = []
    blank = plot([Curve("", [(0, 0)])], Axes("", "", ""))

    def kept(curves: list[Curve], axes: Axes) -> Any:
        seen.append((curves, axes))
        return blank

    for place in ("comparing", "sampler_panels"):
        monkeypatch.setattr(f"huggingvis.recipes.{place}.plot", kept)
    made = compare_samplers(mixture_system(), Comparison(("ddim", "dpm++2m"), (12, 4, 6), count=1, fine=20))
    panels(made.record)
    for curves, axes in seen:
        assert axes.x_ticks == (4.0, 6.0, 12.0)
        assert [[x for x, _ in curve.points] for curve in curves] == 2 * [[4.0, 6.0, 12.0]]
    assert len(seen) == 3


def test_a_curve_is_named_at_its_right_end_in_whatever_order_its_points_are() -> None:
    rise = [(1.0, 0.0), (2.0, 1.0), (3.0, 9.0)]
    axes = Axes("", "", "", size=(300, 200), ends=True)
    one, other = (plot([Curve("name", spots)], axes).pixels for spots in (rise, rise[::-1]))
    assert (one[:, 250:] < 128).any() and np.array_equal(one[:, 250:], other[:, 250:])


@pytest.mark.parametrize("legs", [1, 2, 3, 12])
def test_no_curve_runs_through_the_legend(legs: int) -> None:
    """Zigzags that fill more and more of the axes: the legend's place is told by a curve without points, in red."""
    zigzag = [(i / legs, float(i % 2)) for i in range(legs + 1)]
    unseen = Curve("unseen", [(0, float("nan"))])
    with_label = plot([Curve("", zigzag), unseen], Axes("", "", "", size=(300, 200))).pixels.astype(int)
    blue, red = (np.abs(with_label - ink).max(2) < 60 for ink in ((31, 119, 180), (214, 39, 40)))
    rows, columns = np.nonzero(red)
    assert len(rows) > 40 and not blue[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].any()


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_is_explained(hvis: Any, tmp_path: Path, name: str) -> None:
    said = hvis(["explain", "process", name, "-o", str(tmp_path / "it.png"), "--json"])
    rows = said.document["at"]
    if name == "edm":  # at the first of TIMES its sigma is 8, and nothing of a picture is to be seen
        assert [row["log_snr"] for row in rows[1:-1]] == list(LEVELS) and (rows[0]["t"], rows[-1]["t"]) == (0, 1)
    else:
        assert [row["t"] for row in rows] == list(TIMES)
    assert rows[0]["alpha"] == pytest.approx(1.0) and rows[0]["sigma"] == pytest.approx(0.0, abs=1e-9)
    assert [row["sigma"] for row in rows] == sorted(row["sigma"] for row in rows)
    assert open_picture(tmp_path / "it.png").size[0] >= 1024


def test_a_name_means_one_process_in_training_and_in_its_drawing() -> None:
    for name, noising in NOISINGS.items():
        t = torch.arange(1, 9, dtype=torch.float64) / 8
        drawn, trained = PROCESSES[name](), noising.process()
        assert type(drawn) is type(trained) and torch.equal(drawn.log_snr(t), trained.log_snr(t))


def test_explaining_something_else_names_the_nearest(hvis: Any) -> None:
    said = hvis(["explain", "process", "cosin"])
    assert said.code == 2 and "'cosine'" in said.paragraph


def test_all_samplers_in_one_record_with_reasons_for_those_left_out() -> None:
    """Without real pictures, those with fresh noise; and cells with fewer calls than a step takes."""
    result = compare_samplers(mixture_system(), Comparison(("all",), (2, 8), count=1, fine=8))
    names, left = sampler_names(), result.record["left_out"]
    ran = {row["sampler"] for row in result.record["rows"]}
    fresh = {x["sampler"] for x in left if "fresh noise" in x["reason"]}
    assert ran | fresh == set(names) and ran & fresh == set() and {"ddpm", "euler-a", "pc"} <= fresh
    assert [x["nfe"] for x in left if x["sampler"] == "dpm-solver-3"] == [2]
    calls = {(row["sampler"], row["nfe"]): row["calls"] for row in result.record["rows"]}
    assert calls["ddim", 8] == 8 and calls["heun", 8] == 7  # the step to clean data is Euler's
    assert calls["pndm", 8] > 8  # its Runge-Kutta start
    json.dumps(result.record, allow_nan=False)


def test_a_stopped_comparison_goes_on(tmp_path: Path) -> None:
    """Stopped after two cells: the second run makes the others alone, and both records are one that was not stopped."""
    how = Comparison(("ddim", "heun"), (2, 4), count=2, fine=8)
    done: list[int] = []

    def stop(cell: int) -> None:
        if cell == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_samplers(mixture_system(), how, stop, keep=tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_bytes())["weights"] == fingerprint(mixture_system())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("ddim-*")}
    assert len(before) == 4 and not list(tmp_path.glob("heun-*"))
    resumed = compare_samplers(mixture_system(), how, done.append, keep=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before and done == [1, 2, 3, 4]
    whole = compare_samplers(mixture_system(), how)
    for one, other in zip(resumed.record["rows"], whole.record["rows"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert np.array_equal(resumed.sheet.pixels, whole.sheet.pixels)
    with pytest.raises(UsageError, match="other numbers"):
        compare_samplers(mixture_system(), replace(how, seed=1), keep=tmp_path)
    (tmp_path / "notes.txt").touch()
    Kept(tmp_path).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damaged", [b'{"count": 2', b"\xff", b"[2]", b"{}"])
def test_a_damaged_note_of_a_stopped_comparison_is_told(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "comparison.json").write_bytes(damaged)
    with pytest.raises(FileProblem, match="Remove"):
        compare_samplers(mixture_system(), Comparison(("ddim",), (2,), minutes=1.0, fine=2), keep=tmp_path)


def diverging(mean: float, sane: tuple[int, ...], codec: _Pixels) -> System:
    """The exact denoiser; all its means are `mean` where a sample takes other numbers of steps than the `sane` ones."""
    system = mixture_system()

    def generator(request: Request) -> Diffusion:
        exact = system.generator(request)
        assert isinstance(exact, Diffusion)
        if request.sampling.steps in sane:
            return exact
        return replace(exact, denoise=lambda x, t, cond: Gaussian(torch.full_like(x, mean)))

    return replace(system, generator=generator, codec=codec)


def test_a_diverged_cell_has_its_number_or_is_left_out_with_its_reason(tmp_path: Path) -> None:
    """Squares that overflow float32 have a norm; pictures of NaN are not equal to those of the reference."""
    how = Comparison(("ddim",), (3, 4), count=1, fine=8)
    rows = compare_samplers(diverging(1e25, (1, 4, 8), _Pixels()), how, keep=tmp_path).record["rows"]
    error = {(row["sampler"], row["nfe"]): row["relative_error"] for row in rows}
    assert 1e24 < error["ddim", 3] < 1e26 and error["ddim", 4] < 1

    class Overflows(_Pixels):
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return super().decode(z + 0 * (1e20 * z))

    record = compare_samplers(diverging(1e25, (1, 4, 8), Overflows()), replace(how, samplers=("all",))).record
    assert ("ddim", 4) in {(row["sampler"], row["nfe"]) for row in record["rows"]}
    assert "finite" in {(x["sampler"], x.get("nfe")): x["reason"] for x in record["left_out"]}["ddim", 3]


def test_a_comparison_without_any_cell_says_why() -> None:
    with pytest.raises(UsageError, match="No cell .* could be measured.*finite"):
        compare_samplers(diverging(float("nan"), (1, 4, 16), _Pixels()), Comparison(("all",), (15,), count=1, fine=16))


def test_time_is_kept_by_taking_fewer_pictures() -> None:
    """0.01 s a call, 0.1 s a picture: 29 + 2 * 10 calls, 4 cells and the reference cost 0.99 s a picture."""
    plan = CellPlan.of([kind_of(name, sampler_of(name)) for name in ("ddim", "heun")], (10, 5), judged=False)
    assert (plan.calls(), len(plan.cells)) == (10 + 5 + 10 + 4, 4)
    pace = Pace(0.01, 0.1)
    assert pace.told(plan, 10, 6).endswith(": about 6 seconds.") and "about 16.5 minutes" in pace.told(plan, 10, 1000)
    assert pace.seconds(plan, 10, 6) == pytest.approx(6 * (0.01 * (29 + 20) + 0.1 * 5))
    assert pace.count(plan, 10, most=1000, least=1, minutes=1.0) == int(60 / 0.99)
    assert pace.count(plan, 10, most=8, least=1, minutes=1.0) == 8
    with pytest.raises(UsageError, match="Allow more minutes"):
        pace.count(plan, 10, most=1000, least=100, minutes=1.0)


def test_labels_at_the_ends_do_not_touch_and_keep_their_order() -> None:
    places = apart([50.0, 50.0, 52.0, 90.0, 1.0], gap=10.0, low=0.0, high=100.0)
    assert places == pytest.approx([40 + 2 / 3, 50 + 2 / 3, 60 + 2 / 3, 90.0, 1.0])
    crowded = apart([99.0, 98.0, 97.0], gap=10.0, low=0.0, high=100.0)
    assert sorted(crowded) == pytest.approx([80.0, 90.0, 100.0]) and crowded == sorted(crowded, reverse=True)


def test_families_are_told_by_what_samplers_do() -> None:
    told = {
        name: family(sampler_of(name)) for name in ("euler", "heun", "dpm++2m", "lms", "annealed-langevin", "unipc")
    }
    assert list(told.values()) == [FAMILIES[i] for i in (0, 1, 2, 2, 1, 2)]
