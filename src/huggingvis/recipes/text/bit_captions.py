"""Captions as bits: what a picture shows, said by a diffusion model that writes its words as real numbers.

Chen, Zhang & Hinton 2022, "Analog Bits" (arXiv 2208.04202): each word of a vocabulary of 2^n is n numbers
+-b, a sentence with its padding is a picture of n channels and one row, and a transformer draws it while it looks at
the picture, every word at once. The pictures are any with captions: folder:PATH with a text beside each, or the world.
Eyes are lent by the judge of the world, or learnt. Book: chapter 4, "Sentences as bits".

    hvis train bit_captions --run runs/captions --data world:20000
    hvis describe photo.png --model runs/captions --count 3
    hvis evaluate runs/captions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.checkpoints.assign import assign
from huggingvis.codecs.text import TextTokenizer
from huggingvis.codecs.words import learn_words
from huggingvis.core.errors import UsageError
from huggingvis.core.files import write_atomically
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Batch, Measure
from huggingvis.recipes.caption_training import CaptionTraining
from huggingvis.recipes.caption_truth import evaluated
from huggingvis.recipes.captioned import captioned, captions_of, tell_of_long
from huggingvis.recipes.captioner import Captioner
from huggingvis.recipes.evaluation import Evaluation
from huggingvis.recipes.picture_training import begin, open_pictures
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, Pictures
from huggingvis.runtime.attention import for_training
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.fit import fit
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

WORDS = "words.json"
Config = CaptionTraining


@final
@dataclass(frozen=True, eq=False)
class CaptionSamples:
    """Each `every` steps what is said of `count` held-out pictures, and their captions: samples/step-XXXXXXXX.txt."""

    captioner: Captioner
    pictures: Pictures
    count: int
    every: int

    def __call__(self, at: TrainStep) -> None:
        if not at.due(self.every):
            return
        at.tell("describing pictures")
        chosen = self.pictures.some(self.count)
        batch = next(chosen.once(self.count))
        with at.averaged():
            said = self.captioner(batch["image"], SeedNoise(range(len(batch["image"]))))
        lines = "".join(f"{new}    ({told})\n" for new, told in zip(said, captions_of(chosen), strict=True))
        write_atomically(at.run.samples / f"step-{at.step:08d}.txt", lambda file: file.write(lines.encode()))


def vocabulary(config: CaptionTraining, run: Run, captions: list[str]) -> TextTokenizer:
    """The words of `captions`, kept beside the checkpoints. Raises `UsageError` where a run goes on with others."""
    found, path = learn_words(captions, config.vocabulary, config.words), run.path / WORDS
    if path.exists():
        kept = TextTokenizer.load(path, config.words)
        if kept.engine.get_vocab() != found.engine.get_vocab():
            raise UsageError(
                f"The captions have changed since {run.path} was begun, and with them the words that its bits stand "
                "for. Give it the same captions again, or start a new run."
            )
    elif run.parallel.writes:
        found.save(path)
    return found


def train(config: CaptionTraining, setting: Setting) -> Run:
    """Train the transformer in `setting`'s run folder; its vocabulary lies beside the checkpoints."""
    source = captioned(open_pictures(config))
    captions = captions_of(source.training)
    captioner = Captioner.fresh(config, source.facts, learn_words(captions, config.vocabulary, config.words))
    run = begin(setting, "bit_captions", config, source)
    tell_of_long(captions, vocabulary(config, run, captions))
    captioner.eyes.to(setting.device)
    training, held_out = (captioner.batches(pictures) for pictures in (source.training, source.held_out))
    asked = precision(config.precision, setting.device)
    with for_training(setting.device, asked.autocast or torch.float32):
        return fit(
            captioner.objective().to(setting.home),
            training,
            run,
            optim=config.optim,
            steps=config.steps,
            batch_size=config.batch,
            ema=config.averages,
            settings=FitSettings(
                seed=config.seed,
                precision=asked,
                validation=Validation(held_out, every=config.sample_every),
                progress=setting.progress,
            ),
            on_step=[CaptionSamples(captioner, source.held_out, config.samples, config.sample_every)],
        )


def describer(config: CaptionTraining, run: Run, device: torch.device) -> Captioner:
    """What a run of this recipe trained. Raises `FileProblem` for weights that do not fit its words."""
    fresh = Captioner.fresh(config, Facts.of(run), TextTokenizer.load(run.path / WORDS, config.words))
    assign(fresh.net, run.weights("net"))
    if fresh.learns_to_see:
        assign(fresh.eyes, run.weights("eyes"))
    for net in (fresh.net, fresh.eyes):
        net.to(device).eval().requires_grad_(False)
    return fresh


def measure(config: CaptionTraining, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, on captions of other pictures."""
    captioner = describer(config, run, device)
    objective = captioner.objective()

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        if "caption" not in batch:
            raise UsageError("These pictures have no captions to compare with. Name others with --data.")
        x0 = captioner.write(batch["caption"]).to(batch["image"].device)
        return objective.measure({"x0": x0, "image": batch["image"]}, draws, seed)

    return Measure(each, "mse: the mean squared error of the bits, over times as in training", draws=10)


def evaluate(config: CaptionTraining, run: Run, device: torch.device) -> Evaluation:
    """How true it is what a run of this recipe says of held-out pictures, and how true the same is of others."""
    return evaluated(describer(config, run, device), config.data, config.root)
