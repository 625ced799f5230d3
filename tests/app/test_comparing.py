"""`hvis explain` and `hvis compare`, on processes by name and on a small run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from huggingvis.core.diffusion import Diffusion
from huggingvis.core.errors import UsageError
from huggingvis.core.request import Limits, Request
from huggingvis.core.system import Spec, System
from huggingvis.data.mixture import GaussianMixture
from huggingvis.export.image import open_picture
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.processes.vp import LinearVP
from huggingvis.recipes.comparing import Comparison, compare_samplers
from huggingvis.recipes.explaining import PROCESSES, TIMES
from huggingvis.samplers.ddim import DDIM
from huggingvis.samplers.grids import Uniform
from huggingvis.systems.unconditional import Unconditional


class _Pixels:
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z.reshape(-1, 1, 4, 4)


def mixture_system() -> System:
    """A system whose denoiser is exact: two pictures of 4 x 4 grey pixels, and a little around them."""
    means = torch.stack([torch.linspace(-0.8, 0.8, 16), torch.linspace(0.6, -0.6, 16)]).double()
    mixture = GaussianMixture(torch.tensor([0.4, 0.6]), means, 0.01 * torch.eye(16).expand(2, 16, 16))
    process = LinearVP()

    def generator(request: Request) -> Diffusion:
        return Diffusion(mixture.denoiser(process), process, (16,), DDIM(), Uniform(request.sampling.steps))

    spec = Spec("mixture", "none", (4, 4), channels=1)
    limits = Limits(side=4, multiple=1, prompt_required=False)
    return System(spec, {}, Unconditional(), _Pixels(), generator, limits=limits)


def test_more_calls_are_nearer_and_high_order_is_nearer_still() -> None:
    how = Comparison(("ddim", "DPM++ 2M", "heun"), (6, 12, 24, 48), count=3, fine=200)
    result = compare_samplers(mixture_system(), how)
    error = {(row["sampler"], row["nfe"]): row["relative_error"] for row in result.record["rows"]}
    for name in how.samplers:
        assert error[name, 48] < error[name, 12] < 1.0
    assert error["DPM++ 2M", 48] < error["ddim", 48] / 2 and error["heun", 48] < error["ddim", 48]
    row = next(row for row in result.record["rows"] if row["sampler"] == "heun" and row["nfe"] == 12)
    assert (row["steps"], row["calls_per_step"]) == (6, 2)
    assert result.plot.size == (640, 400) and result.sheet.size[1] > 4 * 96
    json.dumps(result.record, allow_nan=False)


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


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_is_explained(hvis: Any, tmp_path: Path, name: str) -> None:
    said = hvis(["explain", "process", name, "-o", str(tmp_path / "it.png"), "--json"])
    rows = said.document["at"]
    assert [row["t"] for row in rows] == list(TIMES)
    assert rows[0]["alpha"] == pytest.approx(1.0) and rows[0]["sigma"] == pytest.approx(0.0, abs=1e-9)
    assert [row["sigma"] for row in rows] == sorted(row["sigma"] for row in rows)
    assert open_picture(tmp_path / "it.png").size[0] >= 1024


def test_explaining_something_else_names_the_nearest(hvis: Any) -> None:
    said = hvis(["explain", "process", "cosin"])
    assert said.code == 2 and "'cosine'" in said.paragraph
