"""The numbers of the training of a model that writes captions as bits. Book: chapter 4, "Sentences as bits"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from huggingvis.core.errors import UsageError
from huggingvis.recipes.denoiser_training import DenoiserFitting, PredictionName, ProcessName, check_names
from huggingvis.recipes.picture_training import PictureTraining
from huggingvis.train.optim import Optim


@dataclass(frozen=True)
class CaptionSizes:
    """Sizes of the transformer.

    Attributes:
        dim: width; a multiple of 4 and of the heads.
        depth: blocks.
        heads: attention heads.
        self_conditioned: it is told its own last belief.
    """

    dim: int = 128
    depth: int = 3
    heads: int = 4
    self_conditioned: bool = True

    def __post_init__(self) -> None:
        if self.dim < 4 or self.dim % 4 or self.heads < 1 or self.dim % self.heads or self.depth < 1:
            raise UsageError(
                "This transformer has a block or more, and its width is a multiple of 4 and of its heads: found depth "
                f"{self.depth}, dim {self.dim} and {self.heads} heads."
            )


@dataclass(frozen=True)
class CaptionTraining(DenoiserFitting, PictureTraining):
    """Numbers of the training.

    Attributes:
        eyes: world (those of the judge that ships, as they are) or fresh (learnt along).
        words: of a sentence at most.
        vocabulary: the commonest words of the training captions, so many at most.
        net: sizes of the transformer.
        process: as of any denoiser: cosine, linear, flow, vp, sub-vp, ...
        prediction: x0, eps, v, velocity or edm.
        scale: b, the size of a bit beside noise of size 1; small, since bits of few sentences are easily told apart,
            and what a sentence is about is decided where noise is large.
        td: how much further than told a sampling step goes.
        samples: captions of held-out pictures that are written while training.
        sample_steps: steps of these.
    """

    data: str = "world"
    steps: int = 10_000
    lr: float = 3e-3
    warmup: int = 100
    eyes: Literal["world", "fresh"] = "world"
    words: int = 20
    vocabulary: int = 4096
    net: CaptionSizes = CaptionSizes()
    process: ProcessName = "cosine"
    prediction: PredictionName = "x0"
    scale: float = 0.4
    td: float = 1.0

    @property
    def optim(self) -> Optim:
        """Matrices by Muon: words find what they are of in a third of the steps that AdamW takes."""
        return Optim(self.lr, (0.9, 0.98), warmup=self.warmup, muon=True)

    def __post_init__(self) -> None:
        check_names(self.process, self.prediction)
        if self.flip:
            raise UsageError("Captions say left and right, so pictures are not mirrored here. Leave out --flip.")
        if self.samples < 1:
            raise UsageError(f"A look at the training takes 1 picture or more, found samples {self.samples}.")
        if self.words < 1 or self.vocabulary < 4:
            raise UsageError(
                f"A sentence has 1 word or more of 4 or more that are known, found {self.words} and {self.vocabulary}."
            )
