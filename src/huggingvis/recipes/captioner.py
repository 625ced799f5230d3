"""The model that writes captions as bits: its nets, what they speak and see. Book: chapter 4, "Sentences as bits"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from huggingvis.codecs.bits import AnalogBits
from huggingvis.codecs.text import TextTokenizer
from huggingvis.codecs.words import rows, sentences
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.noise import Noise
from huggingvis.core.process import Prediction, Process
from huggingvis.core.protocols import Batch, Cond
from huggingvis.core.request import Sampling
from huggingvis.core.self_conditioning import SelfConditioning
from huggingvis.guidance.threshold import Clip
from huggingvis.nets.caption_bits import CaptionBits, CaptionBitsConfig
from huggingvis.nets.eyes import STRIDE, Eyes
from huggingvis.objectives.denoise import Denoising
from huggingvis.recipes.caption_training import CaptionTraining
from huggingvis.recipes.captioned import CaptionBatches, captions_of, looked
from huggingvis.recipes.denoiser_training import NOISINGS, PREDICTING
from huggingvis.recipes.pictures import Facts, Pictures
from huggingvis.samplers.asymmetric import Asymmetric
from huggingvis.samplers.names import sampler_of, schedule_asked
from huggingvis.systems.judges import world


@final
@dataclass(frozen=True, eq=False)
class Captioner:
    """Says a sentence of each picture that it is called with."""

    config: CaptionTraining
    facts: Facts
    tokenizer: TextTokenizer
    bits: AnalogBits
    net: CaptionBits
    eyes: Eyes

    @classmethod
    def fresh(cls, config: CaptionTraining, facts: Facts, tokenizer: TextTokenizer) -> Captioner:
        """With new weights. Raises `UsageError` for pictures that the eyes cannot look at."""
        if facts.size % STRIDE:
            near = max(STRIDE, round(facts.size / STRIDE) * STRIDE)
            raise UsageError(
                f"These eyes look at squares of {STRIDE} x {STRIDE} pixels, so the side of a picture is a multiple of "
                f"{STRIDE}, found {facts.size}. Ask for --size {near}."
            )
        bits = AnalogBits(tokenizer.vocabulary, config.scale)
        eyes = judge_eyes() if config.eyes == "world" else Eyes()
        noising, predicting = NOISINGS[config.process], PREDICTING[config.prediction]
        sizes = CaptionBitsConfig(
            bits=bits.depth,
            words=config.words,
            seen=eyes.width,
            dim=config.net.dim,
            depth=config.net.depth,
            heads=config.net.heads,
            self_conditioned=config.net.self_conditioned,
            clock_scale=predicting.clock_scale or noising.clock_scale,
        )
        return cls(config, facts, tokenizer, bits, CaptionBits(sizes), eyes)

    @property
    def estimating(self) -> SelfConditioning | None:
        """How the net is told its own last belief, if it is."""
        return SelfConditioning() if self.config.net.self_conditioned else None

    @property
    def process(self) -> Process:
        return NOISINGS[self.config.process].process()

    @property
    def prediction(self) -> Prediction:
        return PREDICTING[self.config.prediction].make(self.config.scale)

    @property
    def usual(self) -> Sampling:
        """How it is asked where nobody says how."""
        return Sampling(sampler="ddim", steps=self.config.sample_steps, guidance_scale=1.0)

    @property
    def learns_to_see(self) -> bool:
        return self.config.eyes == "fresh"

    def see(self, batch: Batch) -> Cond:
        """What the net is told: `tokens` [B, P, W] of a batch, or what the eyes make of its `image` [B, C, S, S]."""
        if "tokens" in batch:
            return {"tokens": batch["tokens"]}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns_to_see):
            return {"tokens": self.eyes(batch["image"])}

    def objective(self) -> Denoising:
        """What is minimised, on batches of `CaptionBatches`."""
        return Denoising(
            self.net,
            self.process,
            self.prediction,
            NOISINGS[self.config.process].times,
            condition=self.see,
            trained={"eyes": self.eyes} if self.learns_to_see else None,
            estimating=self.estimating,
        )

    def batches(self, pictures: Pictures) -> CaptionBatches:
        """Of pictures with their captions as bits; eyes that do not learn look but once."""
        seen = None if self.learns_to_see else looked(self.eyes, pictures)
        return CaptionBatches(pictures, captions_of(pictures), self.write, seen)

    def write(self, texts: Sequence[str]) -> Tensor:
        """Texts as analog bits, [B, bits, words]."""
        return self.bits.encode(rows(self.tokenizer, texts)[:, None])

    @torch.no_grad()
    def __call__(self, x: Tensor, noise: Noise, sampling: Sampling | None = None) -> list[str]:
        """A sentence for each of the pictures x [B, C, S, S] in [-1, 1]."""
        s, device = sampling or self.usual, next(self.net.parameters()).device
        plain = NetDenoiser(self.net, self.process, self.prediction)
        model = Diffusion(
            plain if self.estimating is None else self.estimating(plain),
            self.process,
            (self.bits.depth, self.config.words),
            Asymmetric(sampler_of(s.sampler, s.eta), self.config.td),
            schedule_asked(s),
            (Clip(self.config.scale),),
            device,
        )
        z = model.sample(len(x), self.see({"image": x.to(device)}), noise=noise)
        return sentences(self.tokenizer, self.bits.decode(z.cpu())[:, 0])


def judge_eyes() -> Eyes:
    """Those of the judge of the world, which do not learn."""
    judge = world.bind().net
    eyes = Eyes(judge.config.fine, judge.config.coarse, judge.config.blocks)
    theirs = judge.state_dict()
    eyes.load_state_dict({name: theirs[name] for name in eyes.state_dict()})
    return eyes.requires_grad_(False)
