"""What an experiment of trainings is: what was asked, what is taken of it, what the papers lead to expect.

`foundation_experiments.py` and `family_experiments.py` hold those of some chapters; `experiment_page.py` makes a page
of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainings import Training


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question that trainings answer.

    Attributes:
        about: the systems it is about.
        asked: the experiment as it was asked for.
        taken: what is taken of it.
        expected: what the papers lead one to expect.
        figure: the number that answers it.
        order: rows, that of the best figure first, as expected; ROW:FIGURE where it is not `figure`. Empty where a
            command's own file answers.
        more: whether more is better.
        alike: whether those of `order` are expected to agree, within three standard errors, instead of one being ahead.
        commands: what else is run, with its minutes on one core.
        found: what to know of the figures before they are read, if there is something.
        curve: NAME of the `curves/NAME.json` that these commands write, and `.png` where there is something to draw;
            without commands, what another experiment's have written.
    """

    about: str
    asked: str
    taken: str
    expected: str
    figure: str = ""
    order: tuple[str, ...] = ()
    more: bool = False
    alike: bool = False
    commands: tuple[tuple[str, float], ...] = ()
    found: str = ""
    curve: str = ""

    def placed(self, item: str) -> tuple[str, str]:
        """(row, figure) of one of `order`."""
        row, _, figure = item.partition(":")
        return row, figure or self.figure


@dataclass(frozen=True, kw_only=True)
class Chapters:
    """What a page of experiments is made of.

    Attributes:
        title: which chapters these are, as in a heading.
        figures: what there is to say about all figures.
        rows: the trainings, in the order in which they are worth their time.
        experiments: questions that these trainings answer, and others on record.
        left_out: what was asked for and is not here, and why.
    """

    title: str
    figures: str
    rows: Mapping[str, Training]
    experiments: tuple[Experiment, ...]
    left_out: tuple[str, ...]
