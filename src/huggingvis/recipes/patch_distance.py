"""The sliced Wasserstein distance between what a trained generator draws and pictures of its data.

Karras et al. 2017, arXiv 1710.10196, Sec. 5 (see `metrics.sliced_wasserstein`). As many generated pictures as real
ones; beside it, where there are pictures enough, the distance of as many other real ones, below which no generator of
the data comes but by chance. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from huggingvis.core.errors import UsageError
from huggingvis.metrics.sliced_wasserstein import Patches, mean_patch_distance, patch_distances
from huggingvis.recipes.evaluation import Evaluation, Subject, Wanted
from huggingvis.recipes.pictures import Facts


@final
@dataclass(frozen=True)
class PatchDistance:
    """Distance at each level of the pictures' pyramids, times 1000 as the paper prints it.

    Attributes:
        samples: pictures to draw, and to measure on; fewer where there are not so many.
        pictures: the pictures to measure on.
        seed: of the pictures that are drawn, of patches and directions.
    """

    samples: int = 4096
    pictures: Wanted = Wanted()
    seed: int = 0

    def __call__(self, subject: Subject) -> Evaluation:
        run, facts, wanted = subject.run, Facts.of(subject.run), self.pictures.of(subject.run)
        held = wanted.open(facts.view)
        count = min(self.samples, len(held))
        if count < 2:
            raise UsageError(f"{wanted} has one picture; sets of pictures are compared. Give more.")
        generated = subject.draw(count, self.seed)
        real = held.some(count)
        others = held.without(real)
        patches = Patches(seed=self.seed)
        found = patch_distances(generated, real.all_images(), patches)
        floor = None
        if len(others) >= count:
            floor = patch_distances(others.some(count).all_images(), real.all_images(), patches)
        record = wanted.record(run, count) | {"samples": count, "seed": self.seed, "swd": _told(found)}
        record["swd_of_real"] = None if floor is None else _told(floor)
        levels = " ".join(f"{side:>9}" for side in (*(f"{side} px" for side in found), "mean"))
        lines = [f"{'sliced Wasserstein x 1000':<28}{levels}", _line("generated", found)]
        lines += [] if floor is None else [_line("other real pictures", floor)]
        head = f"{run.path} at step {record['step']}: {count:,} pictures against as many of {wanted}"
        return Evaluation(record, "\n".join([head, *lines]), tuple(self._notes(count, floor is None)))

    def _notes(self, count: int, alone: bool) -> list[str]:
        said = [f"These distances fall with the number of pictures: compare only with those of {count:,}."]
        if alone:
            said.append("There are too few pictures to tell how far other real ones are; ask for fewer samples.")
        return said


def _told(found: Mapping[int, float]) -> dict[str, Any]:
    return {**{str(side): value for side, value in found.items()}, "mean": mean_patch_distance(found)}


def _line(name: str, found: Mapping[int, float]) -> str:
    return f"{name:<28}" + " ".join(f"{1000 * value:>9.4g}" for value in (*found.values(), mean_patch_distance(found)))
