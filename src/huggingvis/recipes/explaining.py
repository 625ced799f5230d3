"""A process drawn: alpha, sigma and log-SNR over time, and what a picture looks like on its way to noise.

Book: chapter 4, "Processes".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from huggingvis.core.errors import unknown
from huggingvis.core.media import Picture
from huggingvis.core.process import Process
from huggingvis.export.grid import Sheet, beside, contact_sheet, stacked
from huggingvis.export.plot import Axes, Curve, plot
from huggingvis.processes.table import TableProcess
from huggingvis.processes.vp import CosineVP
from huggingvis.recipes.denoiser_training import NOISINGS

PROCESSES: dict[str, Callable[[], Process]] = {
    **{name: noising.process for name, noising in NOISINGS.items()},
    "cosine-vp": CosineVP,
    "scaled-linear": TableProcess.scaled_linear,
    "zero-snr": lambda: TableProcess.scaled_linear().zero_terminal_snr(),
}
"""Those that models are trained on, by the same names; and others that published models have."""
TIMES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
LEVELS = (6.0, 4.0, 2.0, 0.0, -2.0, -4.0)
"""log-SNRs shown between the ends instead, where a picture has drowned before the first of the times (`edm`)."""
_POINTS = 400
_SIDE = 128
_FLOOR = 30.0  # below, alpha is a rounding error of zero


@dataclass(frozen=True)
class Explained:
    """`picture`: plots above, pictures below. `record`: the numbers at the times shown."""

    picture: Picture
    record: dict[str, Any]


def explain_process(name: str, picture: Picture | None = None) -> Explained:
    """The process called `name`, shown on `picture` or a drawn one. Raises `UsageError` with the nearest name."""
    if name not in PROCESSES:
        raise unknown("process", name, PROCESSES)
    process = PROCESSES[name]()
    times = torch.linspace(0, 1, _POINTS + 1, dtype=torch.float64)[1:]  # log-SNR is infinite at 0
    alpha, sigma, log_snr = process.alpha(times), process.sigma(times), process.log_snr(times)
    wide = float(sigma.max()) > 2
    size = (_SIDE * len(TIMES) // 2, 300)
    levels = Axes(f"{name}: alpha and sigma", "t", "", log_y=wide, size=size)
    curves = [Curve("alpha", _points(times, alpha)), Curve("sigma", _points(times, sigma))]
    upper = [plot(curves, levels), plot([Curve("log-SNR", _points(times, log_snr.where(log_snr > -_FLOOR, -math.inf)))],
                                        Axes(f"{name}: log-SNR", "t", "", size=size))]  # fmt: skip
    stops = _shown(process)
    shown = _noised(process, picture or _drawn(), stops)
    rows = [_at(process, t) for t in stops]
    captions = [f"t = {row['t']:.3g}\nlog-SNR {row['log_snr']}" for row in rows]
    strip = contact_sheet(shown, Sheet(columns=len(stops), cell=_SIDE), captions)
    return Explained(stacked([beside(upper), strip]), {"process": name, "at": rows})


def _shown(process: Process) -> tuple[float, ...]:
    """`TIMES`; of a process that hides a picture in less time than the first of them, the times of `LEVELS`."""
    if process.log_snr(torch.tensor(TIMES[1], dtype=torch.float64)) > LEVELS[-1]:
        return TIMES
    return (0.0, *process.t_of_logsnr(torch.tensor(LEVELS, dtype=torch.float64)).tolist(), 1.0)


def _points(times: Tensor, values: Tensor) -> list[tuple[float, float]]:
    return list(zip(times.tolist(), values.tolist(), strict=True))


def _at(process: Process, t: float) -> dict[str, Any]:
    time = torch.tensor(t, dtype=torch.float64)
    a, s = float(process.alpha(time)), float(process.sigma(time))
    log_snr = round(2 * math.log(a / s), 2) if a > math.exp(-_FLOOR) * s > 0 else "-infinite" if s else "infinite"
    return {"t": t, "alpha": a, "sigma": s, "log_snr": log_snr}


def _noised(process: Process, picture: Picture, times: Sequence[float]) -> list[Picture]:
    """x_t at `times` from one draw of noise, scaled back to unit variance where the process lets it grow."""
    x0 = torch.from_numpy(picture.to_signal()[None]).double()  # [1, C, H, W]
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = []
    for t in times:
        time = torch.tensor([t], dtype=torch.float64)
        x = process.add_noise(x0, eps, time) / (process.alpha(time) ** 2 + process.sigma(time) ** 2).sqrt().clamp(min=1)
        out.append(Picture.from_signal(x[0].numpy()))
    return out


def _drawn() -> Picture:
    """A picture with edges, a smooth part and colours: two discs before a sky."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE  # [H, W]
    sky = np.stack([0.2 + 0.5 * y, 0.5 + 0.3 * y, 0.9 - 0.2 * y])  # [3, H, W]
    for (cx, cy, r), colour in (((0.35, 0.4, 0.22), (0.95, 0.75, 0.1)), ((0.65, 0.68, 0.2), (0.8, 0.15, 0.2))):
        sky = np.where((x - cx) ** 2 + (y - cy) ** 2 < r**2, np.array(colour)[:, None, None], sky)
    return Picture.from_signal(2 * sky - 1)
