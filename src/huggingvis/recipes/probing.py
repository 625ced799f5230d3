"""A linear probe of what a trained model knows pictures by: how well classes are told apart by its features.

Radford, Metz & Chintala 2015, arXiv 1511.06434, Sec. 5.1 (see `metrics.linear_probe`): the probe is fitted to training
pictures and scored on others, beside a probe of the pixels. Features are latents, or what the recipe names: those of a
DCGAN are its discriminator's. Book: chapter 9, "Judges".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import final

import torch
from torch import Tensor

from huggingvis.core.errors import UsageError
from huggingvis.data.standard import Split
from huggingvis.metrics.features import Features, gather
from huggingvis.metrics.linear_probe import ProbeScore, linear_probe
from huggingvis.recipes.evaluation import Evaluation, Progress, Subject, Wanted, silent
from huggingvis.recipes.loading import features_of
from huggingvis.recipes.pictures import Facts, Pictures

CHUNK = 250


@final
@dataclass(frozen=True)
class Probe:
    """Share of pictures whose class a linear function of the features tells.

    Attributes:
        training: pictures that it is fitted to, evenly spaced among those of the training split; fewer where there are
            not so many.
        pictures: the pictures to score it on.
    """

    training: int = 10_000
    pictures: Wanted = Wanted()

    def __call__(self, subject: Subject) -> Evaluation:
        run, facts, wanted = subject.run, Facts.of(subject.run), self.pictures.of(subject.run)
        features = features_of(run, subject.system, subject.device)
        view = facts.view
        held = wanted.open(view)
        fitted = replace(wanted, split=Split.TRAIN, limit=None).open(view).some(self.training)
        sets = [(pictures, _labels(pictures)) for pictures in (fitted, held)]
        own = _score(features, sets, subject.device, subject.progress)
        pixels = _score(lambda x: x.flatten(1), sets, torch.device("cpu"), silent)
        record = wanted.record(run, len(held)) | {
            "fitted_to": len(fitted),
            "probe": asdict(own),
            "probe_of_pixels": asdict(pixels),
        }
        text = (
            f"{run.path} at step {record['step']}: classes of {len(held):,} pictures of {wanted}, told by a linear "
            f"function fitted to {len(fitted):,} training pictures\n"
            f"of its features   {own.accuracy:.2%} ± {own.error:.2%}\n"
            f"of pixels         {pixels.accuracy:.2%} ± {pixels.error:.2%}"
        )
        return Evaluation(record, text)


def _score(
    features: Features, sets: Sequence[tuple[Pictures, Tensor]], device: torch.device, progress: Progress
) -> ProbeScore:
    """A probe of `features` [N, D], fitted to the first of two sets and their labels [N], scored on the second."""
    done = 0
    with progress("looking", sum(len(pictures) for pictures, _ in sets)) as tick:

        def seen(pictures: Pictures) -> Iterator[Tensor]:
            nonlocal done
            for batch in pictures.once(CHUNK):
                yield batch["image"].to(device)
                done += len(batch["image"])
                tick(done)

        fitted, held = ((gather(features, seen(pictures)), labels) for pictures, labels in sets)
    return linear_probe(fitted, held)


def _labels(pictures: Pictures) -> Tensor:
    found = pictures.all_labels()
    if found is None:
        raise UsageError(
            f"{pictures.facts.data} is not sorted into classes, and a probe tells classes. Put each class's images "
            "into a sub-folder, or give --data of sorted pictures."
        )
    return found
