"""A1111's samplers and schedules by their labels: the noise levels are those of its formulas, written out in float32.

The formulas are k-diffusion's `get_sigmas_*` and those of A1111's `sd_schedulers.py`, as facts; `k_diffusion` itself is
not needed. The table is Stable Diffusion's: scaled linear betas from 0.00085 to 0.012 over 1,000 steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from huggingvis.core.belief import Gaussian
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request_sampling import Sampling
from huggingvis.core.sample import sample
from huggingvis.export.dialects import solvers
from huggingvis.processes.table import TableProcess
from huggingvis.samplers import names
from huggingvis.samplers.grids import Karras, WithoutPenultimate

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS = (1 - BETAS).cumprod(0)
SIGMAS = ((1 - ALPHAS) / ALPHAS) ** 0.5
LOW, HIGH = float(SIGMAS[0]), float(SIGMAS[-1])
AYS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
AYS_XL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def table() -> TableProcess:
    return TableProcess.from_betas(BETAS)


def at(t: Tensor) -> Tensor:
    """k-diffusion's t_to_sigma: log-linear between whole numbers."""
    below, above, w = t.floor().long(), t.ceil().long(), t.frac()
    logs = SIGMAS.log()
    return ((1 - w) * logs[below] + w * logs[above]).exp()


def even(n: int) -> Tensor:
    return at(torch.linspace(999, 0, n, dtype=torch.float64))


def karras(n: int) -> Tensor:
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (HIGH ** (1 / 7) + ramp * (LOW ** (1 / 7) - HIGH ** (1 / 7))) ** 7


def exponential(n: int) -> Tensor:
    return torch.linspace(math.log(HIGH), math.log(LOW), n, dtype=torch.float64).exp()


def polyexponential(n: int) -> Tensor:
    ramp = torch.linspace(1, 0, n, dtype=torch.float64) ** 1.0
    return (ramp * (math.log(HIGH) - math.log(LOW)) + math.log(LOW)).exp()


def sgm(n: int) -> Tensor:
    return at(torch.linspace(999, 0, n + 1, dtype=torch.float64)[:-1])


def simple(n: int) -> Tensor:
    return torch.stack([SIGMAS[-(1 + int(x * 1000 / n))] for x in range(n)])


def ddim(n: int) -> Tensor:
    return SIGMAS[list(range(1, 1000, max(1000 // n, 1)))].flip(0)


def beta(n: int) -> Tensor:
    places = stats.beta.ppf(1 - np.linspace(0, 1, n), 0.6, 0.6)
    return torch.from_numpy(LOW + places * (HIGH - LOW))


def turbo(n: int) -> Tensor:
    t = (torch.arange(1, n + 1) * float(1000.0 / n) - 1).flip(0).round().long().clip(0, 999)
    return SIGMAS[t]


def steps_aligned(levels: tuple[float, ...]) -> Callable[[int], Tensor]:
    def made(n: int) -> Tensor:
        if n == len(levels):
            return torch.tensor(levels, dtype=torch.float64)
        new = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(levels)), np.log(levels[::-1]))
        return torch.from_numpy(np.exp(new)[::-1].copy())

    return made


FORMULAE = {
    "Uniform": even, "Normal": even, "Karras": karras, "Exponential": exponential, "Polyexponential": polyexponential,
    "SGM Uniform": sgm, "Simple": simple, "DDIM": ddim, "Beta": beta, "Turbo": turbo,
    "Align Your Steps": steps_aligned(AYS),
}  # fmt: skip


def levels(schedule: str, steps: int, *, discard: bool = False) -> Tensor:
    """sigma/alpha of our grid at each of its calls."""
    asked = Sampling(schedule=schedule, steps=steps, discard_penultimate=discard)
    grid = names.schedule_asked(asked)(table())
    process = table()
    return (process.sigma(grid.times) / process.alpha(grid.times))[:-1]


def assert_levels(ours: Tensor, theirs: Tensor) -> None:
    assert len(ours) == len(theirs)
    # they count in float32; the published levels begin at 14.615, a little above the table's end, where ours are cut
    torch.testing.assert_close(ours, theirs, rtol=3e-5, atol=0)


RANGES = ("Karras", "Exponential", "Polyexponential", "Beta", "Align Your Steps", "SGM Uniform")
"""Of one step, their formulae give the end of the range."""


@pytest.mark.parametrize(
    ("label", "steps"),
    [(label, steps) for label in FORMULAE for steps in (1, 10, 11, 20, 30) if steps > 1 or label not in RANGES],
)
def test_levels(label: str, steps: int) -> None:
    assert_levels(levels(solvers.WEBUI_SCHEDULES[label], steps), FORMULAE[label](steps))


def test_levels_for_xl() -> None:
    assert_levels(levels(solvers.WEBUI_XL["align-your-steps-all"], 20), steps_aligned(AYS_XL)(20))


def test_kl_optimal_ends_with_the_least_level() -> None:
    low, high, n = math.atan(LOW), math.atan(HIGH), 20
    theirs = torch.tan(torch.arange(n + 1) / n * low + (1.0 - torch.arange(n + 1) / n) * high)
    grid = names.schedule_of(solvers.WEBUI_SCHEDULES["KL Optimal"], n)(table())
    ours = table().sigma(grid.times) / table().alpha(grid.times)
    assert len(ours) == n + 1
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=0)


def test_every_schedule_of_the_list_is_here() -> None:
    known = {"Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal", "Align Your Steps",
             "Simple", "Normal", "DDIM", "Beta"}  # fmt: skip
    assert known <= set(solvers.WEBUI_SCHEDULES)
    ours = {*solvers.WEBUI_SCHEDULES.values(), *solvers.WEBUI_XL.values(), *solvers.COMFY_SCHEDULES.values(),
            *solvers.NOVELAI_SCHEDULES.values()}  # fmt: skip
    assert ours <= set(names.schedule_names())


def test_every_sampler_of_the_list_is_here() -> None:
    known = {"DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a",
             "Euler", "LMS", "Heun", "DPM2", "DPM2 a", "Restart", "DDIM", "PLMS", "UniPC", "LCM"}  # fmt: skip
    assert known == set(solvers.WEBUI)
    for rows in (solvers.WEBUI, solvers.COMFY, solvers.INVOKE, solvers.NOVELAI):
        assert {row.sampler for row in rows.values()} <= set(names.sampler_names())
        assert {row.schedule for row in rows.values()} <= {"own", *names.schedule_names()}


@pytest.mark.parametrize("label", [label for label in solvers.WEBUI if not solvers.WEBUI[label].fixed])
def test_labels_name_what_the_table_of_names_does(label: str) -> None:
    assert names.split_label(label) == (solvers.WEBUI[label].sampler, None)
    assert names.split_label(f"{label} Karras") == (solvers.WEBUI[label].sampler, "karras")
    assert solvers.LABELS[solvers.WEBUI[label].sampler] == label


@pytest.mark.parametrize(("label", "steps"), [("DPM2", 20), ("DPM2 a", 8), ("DPM++ 3M SDE", 20)])
def test_the_penultimate_level_is_left_out(label: str, steps: int) -> None:
    row = solvers.WEBUI[label]
    formula = {"karras": karras, "logsnr": exponential}[row.schedule]
    assert row.discard
    theirs = formula(steps + 1)[:-1]  # with its clean end: sigmas[:-2] and sigmas[-1:]
    assert_levels(levels(row.schedule, steps, discard=True), theirs)


def test_a_grid_of_one_call_has_none_to_leave_out() -> None:
    from huggingvis.core.errors import UsageError

    with pytest.raises(UsageError, match="no level before its last"):
        WithoutPenultimate(Karras(1, sigma_min=0.1, sigma_max=1.0))(table())


def test_a_request_of_dpm_2m_karras() -> None:
    """The levels of "DPM++ 2M Karras, 20 steps": the first, the middle and the last as A1111 computes them."""
    sampler, schedule = names.split_label("DPM++ 2M Karras")
    assert (sampler, schedule) == ("dpm++2m", "karras")
    ours = levels(schedule or "", 20)
    assert_levels(ours, karras(20))
    assert [round(float(ours[i]), 4) for i in (0, 19)] == [14.6146, 0.0292]


def test_ddim_and_plms_walk_every_so_many_indices() -> None:
    """timesteps: clip(range(0, 1000, 1000 // steps) + 1, 0, 999), and the last step goes to index 0."""
    for steps in (20, 30, 50):
        grid = names.schedule_of("ddim-uniform-knot", steps)(table())
        theirs = np.clip(np.arange(0, 1000, 1000 // steps) + 1, 0, 999)[::-1]
        assert grid.clocks is not None and grid.clocks.tolist() == theirs.tolist()
        assert float(grid.times[-1]) == pytest.approx(1 / 1000)  # the first knot


def _toy(x: Tensor, sigma: float) -> Tensor:
    """A denoiser of data N(0.3, 0.5^2), in k-diffusion's coordinates x = x0 + sigma eps."""
    return (0.25 * x + sigma**2 * 0.3) / (0.25 + sigma**2)


def _by_us(label: str, start: Tensor, draws: list[Tensor], steps: int = 12) -> Tensor:
    row, process = solvers.WEBUI[label], table()
    asked = replace(Sampling(steps=steps, schedule=row.schedule), discard_penultimate=row.discard)
    grid = names.schedule_asked(asked)(process)

    def denoise(x: Tensor, t: Tensor, cond: object) -> Gaussian:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        return Gaussian(_toy(x / alpha, sigma / alpha))

    first = process.alpha(grid.times[0])
    x = start * float(process.sigma(grid.times[0]))
    assert float(first) > 0
    return sample(denoise, process, names.sampler_of(row.sampler), x, grid, {}, noise=ReplayNoise(draws))


def _sigmas(label: str, steps: int = 12) -> list[float]:
    row = solvers.WEBUI[label]
    formula = {"karras": karras, "logsnr": exponential, "normal": even}[row.schedule]
    made = formula(steps + 1)[:-1] if row.discard else formula(steps)
    return [*made.tolist(), 0.0]


def _ancestral(a: float, b: float) -> tuple[float, float]:
    up = min(b, (b**2 * (a**2 - b**2) / a**2) ** 0.5)
    return (b**2 - up**2) ** 0.5, up


def test_euler_a_with_the_same_noise() -> None:
    draws = [
        torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(20)
    ]
    sigmas = _sigmas("Euler a")
    x, used = draws[0] * sigmas[0], iter(draws[1:])
    for a, b in pairwise(sigmas):
        down, up = _ancestral(a, b)
        x = x + (x - _toy(x, a)) / a * (down - a)
        if b > 0:
            x = x + next(used) * up
    torch.testing.assert_close(_by_us("Euler a", draws[0], draws[1:]), x, rtol=1e-6, atol=1e-8)


def test_dpm_2m_karras_gives_what_k_diffusion_gives() -> None:
    start = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigmas = _sigmas("DPM++ 2M")
    x, old, last = start * sigmas[0], None, 0.0
    for i, (a, b) in enumerate(pairwise(sigmas)):
        d = _toy(x, a)
        h = math.inf if b == 0 else math.log(a / b)
        mixed = d
        if old is not None and b > 0:
            r = last / h
            mixed = (1 + 1 / (2 * r)) * d - 1 / (2 * r) * old
        x = b / a * x - math.expm1(-h) * mixed
        old, last = d, h
        assert i < 12
    torch.testing.assert_close(_by_us("DPM++ 2M", start, []), x, rtol=1e-6, atol=1e-8)


def test_dpm2_with_its_discarded_level() -> None:
    start = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = start * (sigmas := _sigmas("DPM2"))[0]
    for a, b in pairwise(sigmas):
        d = (x - _toy(x, a)) / a
        if b == 0:
            x = x - d * a
            continue
        mid = (a * b) ** 0.5
        x2 = x + d * (mid - a)
        x = x + (x2 - _toy(x2, mid)) / mid * (b - a)
    torch.testing.assert_close(_by_us("DPM2", start, []), x, rtol=1e-6, atol=1e-8)
