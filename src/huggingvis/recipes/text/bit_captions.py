"""Captions as bits: what a picture shows, said by a diffusion model that writes its words as real numbers.

Chen, Zhang & Hinton 2022, "Analog Bits" (arXiv 2208.04202), Sec. 4.3: each word of a vocabulary of 2^n is n numbers
+-b, a sentence with its padding is a picture of n channels and one row, and a transformer draws it while it looks at
the picture, every word at once. The pictures are any with captions: folder:PATH with a text beside each, or the world.
Eyes are lent by the judge of the world, or learnt. Book: chapter 4, "Sentences as bits".

    hvis train bit_captions --run runs/captions --data world:20000
    hvis describe photo.png --model runs/captions --count 3
    hvis evaluate runs/captions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from statistics import mean
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from huggingvis.codecs.bits import AnalogBits
from huggingvis.codecs.text import TextTokenizer
from huggingvis.codecs.words import learn_words, rows, sentences
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.files import write_atomically
from huggingvis.core.layout import Layout
from huggingvis.core.noise import Noise, SeedNoise
from huggingvis.core.protocols import Batch, Cond, Measure
from huggingvis.core.request import Sampling
from huggingvis.core.self_conditioning import SelfConditioning
from huggingvis.data.cache import ArrayCache
from huggingvis.data.said import names_all, true_sentences
from huggingvis.data.standard import Split
from huggingvis.data.world import World
from huggingvis.guidance.threshold import Clip
from huggingvis.metrics.words_shared import word_f1
from huggingvis.nets.caption_bits import CaptionBits, CaptionBitsConfig
from huggingvis.nets.eyes import Eyes
from huggingvis.objectives.denoise import Denoising
from huggingvis.recipes.denoiser_training import (
    NOISINGS,
    PREDICTING,
    DenoiserFitting,
    PredictionName,
    ProcessName,
    check_names,
)
from huggingvis.recipes.evaluation import Evaluation
from huggingvis.recipes.picture_training import PictureTraining, begin, open_pictures
from huggingvis.recipes.setting import Setting, precision
from huggingvis.recipes.sources import Facts, Pictures, open_split
from huggingvis.runtime.attention import for_training
from huggingvis.samplers.asymmetric import Asymmetric
from huggingvis.samplers.names import sampler_of, schedule_asked
from huggingvis.systems.judges import world as world_judge
from huggingvis.train.callbacks import TrainStep
from huggingvis.train.fit import fit
from huggingvis.train.optim import Optim
from huggingvis.train.run import Run
from huggingvis.train.settings import FitSettings, Validation

WORDS = "words.json"
JUDGED = 200
"""Pictures that `evaluate` asks about."""
CHUNK = 64
MEANING = {
    "words_shared": "words shared with its caption (F1)",
    "named": "share that name what is there, no more",
    "true": "share that are true in every word",
}


@dataclass(frozen=True)
class Sizes:
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
        if self.dim < 4 or self.dim % 4 or self.heads < 1 or self.dim % self.heads:
            raise UsageError(
                f"The width of this transformer is a multiple of 4 and of its heads, found {self.dim} and {self.heads}."
            )


@dataclass(frozen=True)
class Config(DenoiserFitting, PictureTraining):
    """Numbers of the training.

    Attributes:
        eyes: world (those of the judge that ships, as they are) or fresh (learnt along).
        words: of a sentence at most.
        vocabulary: the commonest words of the training captions, so many at most.
        net: sizes of the transformer.
        process: as of any denoiser: cosine, linear, flow, vp, sub-vp, ...
        prediction: x0, eps, v or velocity.
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
    net: Sizes = Sizes()
    process: ProcessName = "cosine"
    prediction: PredictionName = "x0"
    scale: float = 0.4
    td: float = 0.0

    @property
    def optim(self) -> Optim:
        """Matrices by Muon: words find what they are of in a third of the steps that AdamW takes."""
        return Optim(self.lr, (0.9, 0.98), warmup=self.warmup, muon=True)

    def __post_init__(self) -> None:
        check_names(self.process, self.prediction)
        if self.flip:
            raise UsageError("Captions say left and right, so pictures are not mirrored here. Leave out --flip.")
        if self.words < 1 or self.vocabulary < 4:
            raise UsageError(
                f"A sentence has 1 word or more of 4 or more that are known, found {self.words} and {self.vocabulary}."
            )


@final
@dataclass(frozen=True, eq=False)
class Captioner:
    """The nets with what they speak and see; calling it says a sentence of each picture."""

    config: Config
    facts: Facts
    tokenizer: TextTokenizer
    bits: AnalogBits
    net: CaptionBits
    eyes: Eyes

    @classmethod
    def fresh(cls, config: Config, facts: Facts, tokenizer: TextTokenizer) -> Captioner:
        """With new weights."""
        bits = AnalogBits(tokenizer.vocabulary, config.scale)
        eyes = lent() if config.eyes == "world" else Eyes()
        sizes = CaptionBitsConfig(
            bits=bits.depth,
            words=config.words,
            seen=eyes.width,
            dim=config.net.dim,
            depth=config.net.depth,
            heads=config.net.heads,
            self_conditioned=config.net.self_conditioned,
            clock_scale=NOISINGS[config.process].clock_scale,
        )
        return cls(config, facts, tokenizer, bits, CaptionBits(sizes), eyes)

    @property
    def estimating(self) -> SelfConditioning | None:
        return SelfConditioning() if self.config.net.self_conditioned else None

    @property
    def usual(self) -> Sampling:
        return Sampling(sampler="ddim", steps=self.config.sample_steps, guidance_scale=1.0)

    @property
    def learns_to_see(self) -> bool:
        return self.config.eyes == "fresh"

    def seen(self, batch: Batch) -> Cond:
        """What the net is told: `tokens` [B, P, W] of a batch, or what the eyes make of its `image` [B, C, S, S]."""
        if "tokens" in batch:
            return {"tokens": batch["tokens"]}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns_to_see):
            return {"tokens": self.eyes(batch["image"])}

    def objective(self) -> Denoising:
        """What is minimised: batches have `x0` [B, bits, words], and `image` or `tokens`."""
        noising = NOISINGS[self.config.process]
        return Denoising(
            self.net,
            noising.process(),
            PREDICTING[self.config.prediction].make(self.config.scale),
            noising.times,
            condition=self.seen,
            trained={"eyes": self.eyes} if self.learns_to_see else None,
            estimating=self.estimating,
        )

    def examples(self, pictures: Pictures, run: Run) -> Said:
        """`Batches` of the pictures with their captions as bits; what lent eyes see is kept in the run folder.

        Raises `UsageError` for pictures without captions.
        """
        return Said(
            pictures, captions_of(pictures), self.written, None if self.learns_to_see else self.look(pictures, run)
        )

    @torch.no_grad()
    def look(self, pictures: Pictures, run: Run) -> np.ndarray:
        """What the eyes see of all of the pictures, [N, P, W] float16."""
        device = next(self.eyes.parameters()).device

        def made() -> dict[str, np.ndarray]:
            seen = [self.eyes(batch["image"].to(device)).half().cpu() for batch in pictures.once(CHUNK)]
            return {"tokens": torch.cat(seen).numpy()}

        about = {"eyes": self.config.eyes, "data": pictures.facts.data, "size": pictures.facts.size}
        items = blake2b(pictures.items.tobytes()).hexdigest()
        return ArrayCache(run.path / "cache").get_or_make({**about, "items": items}, made)["tokens"]

    def written(self, texts: list[str]) -> Tensor:
        """Texts as analog bits, [B, bits, words]."""
        return self.bits.encode(rows(self.tokenizer, texts)[:, None])

    @torch.no_grad()
    def __call__(self, x: Tensor, noise: Noise, sampling: Sampling | None = None) -> list[str]:
        """A sentence for each of the pictures x [B, C, S, S] in [-1, 1]."""
        s, device = sampling or self.usual, next(self.net.parameters()).device
        process = NOISINGS[self.config.process].process()
        plain = NetDenoiser(self.net, process, PREDICTING[self.config.prediction].make(self.config.scale))
        model = Diffusion(
            plain if self.estimating is None else self.estimating(plain),
            process,
            (self.bits.depth, self.config.words),
            Asymmetric(sampler_of(s.sampler, s.eta), self.config.td),
            schedule_asked(s),
            (Clip(self.config.scale),),
            device,
        )
        z = model.sample(len(x), self.seen({"image": x.to(device)}), noise=noise)
        return sentences(self.tokenizer, self.bits.decode(z.cpu())[:, 0])


def lent() -> Eyes:
    """The eyes of the judge of the world."""
    judge = world_judge.bind().net
    eyes = Eyes(judge.config.fine, judge.config.coarse, judge.config.blocks)
    theirs = judge.state_dict()
    eyes.load_state_dict({name: theirs[name] for name in eyes.state_dict()})
    return eyes.requires_grad_(False)


def captions_of(pictures: Pictures) -> tuple[str, ...]:
    """Those of all pictures of its set. Raises `UsageError` where there are none."""
    captions = pictures.pictures.captions
    if captions is None:
        raise UsageError(
            f"The data {pictures.facts.data!r} have no captions to learn from. Put a text file of the same name beside "
            "each picture, or take the world."
        )
    return captions


@final
@dataclass(frozen=True, eq=False)
class Said:
    """`Batches` of `x0`, the `captions` as bits, and of the pictures: `tokens`, rows of what was `seen`, or `image`."""

    pictures: Pictures
    captions: Sequence[str]
    written: Callable[[list[str]], Tensor]
    seen: np.ndarray | None

    def batch(self, index: int, size: int) -> Batch:
        places = self.pictures.places(index, size)
        x0 = self.written([self.captions[i] for i in self.pictures.items[places]])
        if self.seen is None:
            return {"x0": x0, "image": self.pictures.images(places, np.zeros(size, dtype=bool))}
        return {"x0": x0, "tokens": torch.from_numpy(self.seen[places]).float()}


@final
@dataclass(frozen=True, eq=False)
class Sayings:
    """Each `every` steps what is said of held-out pictures, beside their captions: samples/step-XXXXXXXX.txt."""

    captioner: Captioner
    pictures: Pictures
    count: int
    every: int

    def __call__(self, at: TrainStep) -> None:
        if not at.due(self.every):
            return
        at.tell("describing pictures")
        batch = next(self.pictures.some(self.count).once(self.count))
        with at.averaged():
            said = self.captioner(batch["image"], SeedNoise(range(len(batch["image"]))))
        lines = "".join(f"{new}    ({told})\n" for new, told in zip(said, batch["caption"], strict=True))
        write_atomically(at.run.samples / f"step-{at.step:08d}.txt", lambda file: file.write(lines.encode()))


def train(config: Config, setting: Setting) -> Run:
    """Train the transformer in `setting`'s run folder; its vocabulary lies beside the checkpoints."""
    source = open_pictures(config)
    tokenizer = learn_words(captions_of(source.training), config.vocabulary, config.words)
    captioner = Captioner.fresh(config, source.facts, tokenizer)
    run = begin(setting, "bit_captions", config, source)
    if run.parallel.writes:
        tokenizer.save(run.path / WORDS)
    captioner.eyes.to(setting.device)
    training, held_out = (captioner.examples(pictures, run) for pictures in (source.training, source.held_out))
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
            on_step=[Sayings(captioner, source.held_out, config.samples, config.sample_every)],
        )


def describer(config: Config, run: Run, device: torch.device) -> Captioner:
    """What a run of this recipe trained."""
    tokenizer = TextTokenizer.load(run.path / WORDS, config.words)
    fresh = Captioner.fresh(config, Facts.of(run), tokenizer)
    fresh.net.load_state_dict(run.weights("net"))
    if fresh.learns_to_see:
        fresh.eyes.load_state_dict(run.weights("eyes"))
    for net in (fresh.net, fresh.eyes):
        net.to(device).eval().requires_grad_(False)
    return fresh


def measure(config: Config, run: Run, device: torch.device) -> Measure:
    """The loss of a run of this recipe, on captions of other pictures."""
    captioner = describer(config, run, device)
    objective = captioner.objective()

    def each(batch: Batch, draws: int, seed: int) -> dict[str, Tensor]:
        if "caption" not in batch:
            raise UsageError("These pictures have no captions to compare with. Name others with --data.")
        x0 = captioner.written(batch["caption"]).to(batch["image"].device)
        return objective.measure({"x0": x0, "image": batch["image"]}, draws, seed)

    return Measure(each, "mse: the mean squared error of the bits, over times as in training", draws=10)


def evaluate(config: Config, run: Run, device: torch.device) -> Evaluation:
    """How true it is what a run of this recipe says of held-out pictures, and how true the same is of other pictures.

    Of the world by its grammar (`data.said`), of other pictures by the words shared with their captions.
    """
    captioner, facts = describer(config, run, device), Facts.of(run)
    pictures = open_split(config.data, Split.VALIDATION, facts.view, root=config.root).some(JUDGED)
    told = [text for batch in pictures.once(CHUNK) for text in batch["caption"]]
    said: list[str] = []
    for batch in pictures.once(CHUNK):
        said += captioner(batch["image"], SeedNoise(range(len(said), len(said) + len(batch["image"]))))
    others = said[1:] + said[:1]
    scores = {"words_shared": [_words(found, told) for found in (said, others)]}
    if config.data.partition(":")[0] == "world":
        world = World(size=facts.size, split="test")
        scores |= _true(world, [world.layout(int(i)) for i in pictures.items], said, others)
    rows = (f"{MEANING[name]:<42} {own:.3f}   {chance:.3f}" for name, (own, chance) in scores.items())
    shown = (f"  {new}    ({old})" for new, old in list(zip(said, told, strict=True))[:8])
    head = f"Said of {len(said)} held-out pictures in {captioner.usual.steps} steps, and the same said of others"
    record = {name: {"value": own, "by_chance": chance} for name, (own, chance) in scores.items()}
    return Evaluation(
        {"n": len(said), "steps": captioner.usual.steps, "said": record}, "\n".join((head, *rows, *shown))
    )


def _words(said: Sequence[str], told: Sequence[str]) -> float:
    return mean(word_f1(a, b) for a, b in zip(said, told, strict=True))


def _true(world: World, layouts: Sequence[Layout], *saids: Sequence[str]) -> dict[str, list[float]]:
    right = [true_sentences(world, layout) for layout in layouts]
    return {
        "named": [mean(names_all(world, *pair) for pair in zip(layouts, s, strict=True)) for s in saids],
        "true": [mean(text in true for text, true in zip(s, right, strict=True)) for s in saids],
    }
