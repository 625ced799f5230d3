"""Grids: at which times the network is called. Each is a small builder, `Process -> Grid`, that ends at clean data.

In time (`even`), in noise level (`levels`), in a table's whole numbers (`knots`), as published (`published`), and with
restarts (`restart`). Book: chapter 4, "Grids".
"""

from huggingvis.samplers.grids._common import Schedule
from huggingvis.samplers.grids.even import Shifted, Uniform
from huggingvis.samplers.grids.knots import BetaIndex, DDIMUniform, Distilled, Leading, Linspace, Simple, Trailing
from huggingvis.samplers.grids.levels import Beta, Karras, KLOptimal, LogSNR, Polyexponential
from huggingvis.samplers.grids.published import AlignYourSteps
from huggingvis.samplers.grids.restart import Interval, Restart
from huggingvis.samplers.grids.shorter import WithoutPenultimate

__all__ = [
    "AlignYourSteps",
    "Beta",
    "BetaIndex",
    "DDIMUniform",
    "Distilled",
    "Interval",
    "KLOptimal",
    "Karras",
    "Leading",
    "Linspace",
    "LogSNR",
    "Polyexponential",
    "Restart",
    "Schedule",
    "Shifted",
    "Simple",
    "Trailing",
    "Uniform",
    "WithoutPenultimate",
]
