"""A checkpoint in one file as a system: the Stable Diffusion family as most of the community passes it on.

The file brings nets and no settings: sizes are told from shapes, reading and noise table from the member of the family
that has them (`checkpoints.single_file`). What no shape tells, whether Stable Diffusion 2 predicts noise or v for one,
is assumed and said in a note; `prediction` overrides it. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingvis.checkpoints import diffusers_scheduler_edm
from huggingvis.checkpoints.diffusers_scheduler import Own, own_solver, scheduler_config
from huggingvis.checkpoints.diffusers_unet_files import read_unet
from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.single_file import Parts, Said, read_parts
from huggingvis.checkpoints.single_file_family import diffusers_unet_prefix
from huggingvis.checkpoints.single_file_layout import NOTHING
from huggingvis.checkpoints.single_file_towers import tower_net
from huggingvis.checkpoints.training_notes import licence
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.errors import FileProblem
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.nets.clip_text import CLIPText
from huggingvis.processes.table import TableProcess
from huggingvis.systems.pipelines import ORIGIN, How
from huggingvis.systems.prompt_reading import ClipReader, PromptConditioner
from huggingvis.systems.stable_diffusion import READS, USUAL_SCALE, Reads, made, other_codec, telling_of, together
from huggingvis.systems.text_encoders import TOWERS, clip_reader, read_by, with_given

USUAL_SIDE = 512
SIDES = {("Stable Diffusion 2", "v"): 768, ("Stable Diffusion XL", "epsilon"): 1024,
         ("Stable Diffusion XL", "v"): 1024, ("Playground v2.5", "edm"): 1024, ("CosXL", "edm_v"): 1024,
         ("Stable Diffusion XL refiner", "epsilon"): 1024}  # fmt: skip
"""Sides of the pictures that members were trained on, by what they predict, where that is not the usual."""
PARTS = dict(zip(("text", "text_2"), TOWERS, strict=True))


def bind_file(path: Path, how: How, said: Said = NOTHING) -> System:
    """The system in a file; `said`: what nothing in it tells. Raises `FileProblem`."""
    said = said if how.prediction is None else Said(how.prediction).over(said)
    facts = inspect(path)
    if diffusers_unet_prefix(facts.tensors) is not None:
        parts = read_unet(facts, dtype=how.dtype, device=how.device, said=said)
    else:
        parts = read_parts(path, dtype=how.dtype, device=how.device, said=said, channels_last=True)
    return bound(path, parts, how, path.stem)


def bound(path: Path, parts: Parts, how: How, name: str, sample: tuple[int, int] | None = None) -> System:
    """The system called `name` of the parts at `path` and of those that `how` gives; `sample`: sides of its latents.

    Raises `FileProblem` for parts that are nowhere, or do not fit together.
    """
    layout, unet = parts.layout, parts.unet
    if unet is None or not (how.vae or parts.autoencoder) or not (how.text_encoders or parts.towers):
        raise FileProblem(_lacking(path, parts, how))
    scheduler = scheduler_of(parts)
    own = own_of(parts, scheduler)
    codec = _codec(parts, how)
    side = SIDES.get((layout.member.name if layout.member else "", layout.prediction), USUAL_SIDE)
    size = (codec.autoencoder.factor * sample[0], codec.autoencoder.factor * sample[1]) if sample else (side, side)
    told = licence(parts.metadata, path if path.is_dir() else None) or ""
    spec = Spec(name, "stable_diffusion", size, licence=told, card={ORIGIN: {"scheduler": scheduler}})
    spec = how.on(spec, path)
    reads = READS["sizes" if unet.config.vector_dim else "prompt"]
    readers = with_given([_reader(parts, part, reads, how) for part in layout.towers], unet, how)
    pooled = readers[-1].tower.config.projection or readers[-1].tower.config.dim
    scored = reads.sizes and unet.config.vector_dim < pooled + 6 * 256  # the refiner is told five numbers
    conditioner = PromptConditioner(
        together(readers),
        telling_of(spec, unet, reads, scored),
        zeros_for_empty=reads.sizes and not scored,
        assumed=layout.assumed,
    )
    return made(spec, unet, codec, conditioner, own, reads, how)


def _lacking(path: Path, parts: Parts, how: How) -> str:
    """What else a picture needs, and how to give it."""
    lacking = []
    if parts.unet is None:
        lacking.append("no U-Net (name the file that has it with --model)")
    if not (how.vae or parts.autoencoder):
        lacking.append("no autoencoder (give one with --vae)")
    if not (how.text_encoders or parts.towers):
        which = "" if parts.unet is None else f": {read_by(parts.unet.config.tokens_dim)}"
        lacking.append(f"no text encoder (give it with --text-encoder{which})")
    return f"{path} is {parts.layout.title}, but a picture needs more than it holds: it has {', '.join(lacking)}."


def _codec(parts: Parts, how: How) -> KLLatents:
    """The autoencoder that is given, or else the file's own, with the scale of latents of its member."""
    scale = parts.layout.member.scale if parts.layout.member else USUAL_SCALE
    if how.vae is not None:
        return other_codec(how.vae, how, scale)
    assert parts.autoencoder is not None
    mean, std = parts.extra.get("edm_mean", 0.0), parts.extra.get("edm_std", 1.0)
    codec = KLLatents(channels_last(parts.autoencoder.to(dtype=how.of_codec)), mean, std / scale)
    return codec.to(how.device).eval()


def scheduler_of(parts: Parts) -> dict[str, Any]:
    """A `scheduler_config.json` for what single files do not bring: the family's noise table, or EDM's levels."""
    predicts = parts.layout.prediction
    if predicts in ("edm", "edm_v"):
        told = {name: float(x) for name, x in parts.extra.items() if name.startswith("edm_vpred.")}
        return diffusers_scheduler_edm.settings_of(predicts, told)
    table = TableProcess.scaled_linear()
    process = table.zero_terminal_snr() if parts.layout.zero_snr else table
    return scheduler_config(process, PREDICTIONS["eps" if predicts == "epsilon" else predicts]())


def own_of(parts: Parts, scheduler: Mapping[str, Any]) -> Own:
    """The process and what is predicted; of tables no solver, for single files bring none."""
    own = own_solver(scheduler)
    if not isinstance(own.process, TableProcess):
        return own
    table = TableProcess.scaled_linear()
    return Own("", table.zero_terminal_snr() if parts.layout.zero_snr else table, own.prediction, None, unit=True)


def _reader(parts: Parts, part: str, reads: Reads, how: How) -> ClipReader:
    layout, tensors = parts.layout.towers[part], parts.towers[part]
    tower = tower_net(layout, tensors)
    if not isinstance(tower, CLIPText):
        raise FileProblem(
            "This is the first latent diffusion model, which reads by a BERT of its own: use its diffusers folder."
        )
    return clip_reader(PARTS[part], tower.to(how.device), None, reads.sizes)
