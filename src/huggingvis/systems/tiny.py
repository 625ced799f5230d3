"""The bilingual text-to-image model that ships with the package.

Frozen text encoder with slots, a planner that gives each thing its place, U-Net on 8x8 latents trained by rectified
flow, KL autoencoder (recipes text/reading, text/planning, image/text_to_image, image/latent_autoencoder). Its card lies
beside its weights. Book: chapter 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.codecs.prompt_script import Reading
from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.diffusion import Diffusion, NetDenoiser
from huggingvis.core.process import Velocity
from huggingvis.core.protocols import Cond
from huggingvis.core.request import EMPHASIS, Limits, Request, Sampling
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System, canvas_of
from huggingvis.data.sprites import objects_v1
from huggingvis.data.vocabulary import counts_beside_others, unknown_words
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.processes.flow import RectifiedFlow
from huggingvis.samplers.names import sampler_names, sampler_of, schedule_asked, schedule_names
from huggingvis.systems.options import truth
from huggingvis.systems.packaged import built, fill, packaged, read_as, write
from huggingvis.systems.planner import Planner, PlannerConfig, PlanPrior, check_belongs
from huggingvis.systems.prompt_plan import (
    conditions,
    grammar_notes,
    guided,
    pieces_of,
    plan_of,
    plans_of,
    section_notes,
    stepwise,
    words_of,
)
from huggingvis.systems.prompt_reading import emphasised, weight_rows

DEFAULTS = Sampling(sampler="dpm++2m", schedule="uniform", steps=20, guidance_scale=3.0)
"""Chosen on 300 English prompts of another seed than the scores': scales 2 to 5, intervals, steps, samplers."""

EXAMPLE = "a fox to the left of a pizza"
PLAN = "plan"
"""The option `--set plan=no`: no plan, which what is drawn into a picture would not keep to."""


@final
class TinyConditioner:
    """Prompt -> `tokens`, `tokens_mask`, `vector`, and the same of the negative prompt under `negative.`."""

    def __init__(self, tokenizer: TextTokenizer, tower: TextTower):
        self.tokenizer, self.tower = tokenizer, tower

    def read(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The ports for some texts, of which all is words."""
        return self.read_weighted([Reading.of(text) for text in texts])

    @torch.no_grad()
    def read_weighted(self, readings: Sequence[Reading], emphasis: str = EMPHASIS[0]) -> dict[str, Tensor]:
        """The ports for some prompts; weights multiply the states of their tokens, the slots keep theirs."""
        rows = [pieces_of(reading, self.tokenizer.pieces) for reading in readings]
        ids = self.tokenizer.rows([pieces for pieces, _ in rows]).to(self.tower.slots.device)  # [B, L]
        tokens, mask, pooled = self.tower(ids)
        weights = weight_rows([own for _, own in rows], tokens.shape[1], before=self.tower.config.slots)
        tokens = emphasised(tokens, weights, emphasis, restored=False)
        return {"tokens": tokens, "tokens_mask": mask, "vector": pooled}

    def __call__(self, requests: Sequence[Request]) -> Cond:
        emphasis = requests[0].prompt.emphasis
        return conditions(plans_of(requests), lambda readings, _: self.read_weighted(readings, emphasis))

    def prepare(self, cond: Cond) -> Cond:
        return cond

    def notes(self, request: Request) -> tuple[str, ...]:
        """What the prompt asks for that the model cannot know, word by word."""
        said = []
        words, away = words_of(request)
        for word, near in unknown_words(objects_v1(), f"{words} {away}"):
            hint = f"; words it knows that are near: {', '.join(near)}" if near else ""
            said.append(f"The model does not know the word {word!r}{hint}.")
        if said:
            said[-1] += " `hvis catalog words` lists all that it knows."
        said += grammar_notes(request)
        if counts_beside_others(objects_v1(), words):
            said.append(
                "The model learnt to count one kind of thing at a time: beside another one, numbers come out wrong and "
                "things are left out."
            )
        said += section_notes(plan_of(request))
        if not all(self.tokenizer.fits(reading.text) for reading in plan_of(request).variants):
            length = self.tokenizer.length
            said.append(f"The prompt is longer than the model reads ({length} tokens): its end is ignored.")
        return tuple(said)


@final
@dataclass(frozen=True)
class Record:
    """What `model.json` says."""

    name: str
    size: tuple[int, int]
    unet: UNetConfig
    text: TextTowerConfig
    autoencoder: AutoencoderConfig
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    planner: PlannerConfig | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        channels = self.autoencoder.latent_channels
        for key, numbers, least in (("latent_mean", self.latent_mean, -math.inf), ("latent_std", self.latent_std, 0.0)):
            if len(numbers) != channels or not all(least < number < math.inf for number in numbers):
                sign = "" if least else " positive"
                raise ValueError(f"{key!r} must be {channels}{sign} numbers, one a channel, but {numbers} was found.")
        if min(self.size) < 1:
            raise ValueError(f"'size' must be width and height, but {self.size} was found.")


def save(folder: Path, system: System, card: Mapping[str, Any]) -> None:
    """Write the model folder of a `system` that `assemble` made; `card` is what to know of it.

    U-Net and planner in eight bits, what reads sentences and what turns latents into pictures in half precision.
    """
    unet, tower, codec, conditioner = system.parts["unet"], system.parts["text"], system.codec, system.conditioner
    assert isinstance(unet, UNet) and isinstance(tower, TextTower)
    assert isinstance(codec, KLLatents) and isinstance(conditioner, TinyConditioner)
    record = {
        "family": "tiny",
        "name": system.spec.name,
        "size": list(system.spec.size),
        "unet": asdict(unet.config),
        "text": asdict(tower.config),
        "autoencoder": asdict(codec.autoencoder.config),
        "latent_mean": codec.mean.tolist(),
        "latent_std": codec.std.tolist(),
        "card": dict(card),
    }
    nets: dict[str, nn.Module] = {"unet": unet, "text": tower, "autoencoder": codec.autoencoder}
    planner = system.parts.get("planner")
    if isinstance(planner, Planner):
        record["planner"], nets["planner"] = asdict(planner.config), planner
    small = [name for name in ("unet", "planner") if name in nets]
    write(folder, record, nets, torch.float16, small, {"tokenizer.json": conditioner.tokenizer.save})


@final
@dataclass(frozen=True)
class Parts:
    """What a model folder holds: networks, frozen and in float32, the codec around one of them, and the tokenizer."""

    unet: UNet
    tower: TextTower
    codec: KLLatents
    tokenizer: TextTokenizer
    planner: Planner | None


def load_parts(folder: Path, device: torch.device) -> Parts:
    """Everything in a model folder. Raises `FileProblem` or `NumericalTrouble` for files that cannot be used."""
    record = read_as(folder, Record)
    unet = built(folder, "unet", lambda: UNet(record.unet))
    tower = built(folder, "text", lambda: TextTower(record.text))
    autoencoder = built(folder, "autoencoder", lambda: AutoencoderKL(record.autoencoder))
    plan = record.planner
    planner = None if plan is None else built(folder, "planner", lambda: Planner(plan))
    channels_last(fill(unet, folder / "unet.safetensors", device))
    fill(tower, folder / "text.safetensors", device)
    if planner is not None:
        fill(planner, folder / "planner.safetensors", device)
    channels_last(fill(autoencoder, folder / "autoencoder.safetensors", device))
    mean, std = torch.tensor(record.latent_mean), torch.tensor(record.latent_std)
    codec = KLLatents(autoencoder, mean, std).to(device)
    return Parts(unet, tower, codec, TextTokenizer.load(folder / "tokenizer.json"), planner)


def bind(folder: Path | None = None, device: torch.device | None = None) -> System:
    """The model of `folder`, or the one that ships with the package."""
    folder = folder or packaged("tiny")
    record, parts = read_as(folder, Record), load_parts(folder, device or torch.device("cpu"))
    licence = str(record.card.get("licence", ""))
    spec = Spec(record.name, "tiny", record.size, licence=licence, card=record.card)
    return assemble(spec, parts.unet, parts.codec, TinyConditioner(parts.tokenizer, parts.tower), parts.planner)


@final
@dataclass(frozen=True)
class Drawing:
    """The generative model that the numbers of a request ask for."""

    spec: Spec
    unet: UNet
    planner: Planner | None
    factor: int
    device: torch.device

    def __call__(self, request: Request) -> Diffusion:
        s, (width, height) = request.sampling, canvas_of(request, self.spec)
        shape = (self.unet.config.in_channels, height // self.factor, width // self.factor)
        process = RectifiedFlow()
        denoise = NetDenoiser(self.unet, process, Velocity())
        plan = plan_of(request)
        free = ClassifierFree(s.guidance_scale, s.guidance_rescale, s.guidance_interval)
        guidance = (guided(plan, free), *stepwise(plan))
        schedule = schedule_asked(s)
        sampler, channels = sampler_of(s.sampler, s.eta), self.unet.config.concat_channels
        planner = self.planner if truth(request, PLAN, True) else None
        prior = PlanPrior(planner, channels, *shape[1:]) if channels else None
        return Diffusion(denoise, process, shape, sampler, schedule, guidance, self.device, prior)


def assemble(
    spec: Spec, unet: UNet, codec: KLLatents, conditioner: TinyConditioner, planner: Planner | None = None
) -> System:
    """The parts as a system. Raises `FileProblem` for a planner of another text encoder or another U-Net."""
    if planner is not None:
        check_belongs(planner.config, unet.config, conditioner.tower.config)
    factor, device = codec.autoencoder.factor, codec.mean.device
    limits = Limits(
        side=4 * max(spec.size),
        multiple=factor * 2 ** (len(unet.config.channels) - 1),
        samplers=sampler_names(),
        schedules=schedule_names(),
        options=(PLAN,) if planner is not None else (),
    )
    return System(
        spec=replace(spec, multiple=limits.multiple),
        parts={
            "unet": unet,
            "text": conditioner.tower,
            "autoencoder": codec.autoencoder,
            **({"planner": planner} if planner is not None else {}),
        },
        conditioner=conditioner,
        codec=codec,
        generator=Drawing(spec, unet, planner, factor, device),
        defaults=DEFAULTS,
        limits=limits,
        example=EXAMPLE,
        device=device,
    )
