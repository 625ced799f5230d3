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
from huggingvis.checkpoints.single_file import Parts, Said, read_parts
from huggingvis.checkpoints.single_file_layout import NOTHING
from huggingvis.checkpoints.single_file_towers import tower_net
from huggingvis.checkpoints.training_notes import licence
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.errors import FileProblem
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.nets.clip_text import CLIPText
from huggingvis.processes.table import TableProcess
from huggingvis.systems.pipelines import ORIGIN, How
from huggingvis.systems.prompt_reading import ClipReader, PromptConditioner
from huggingvis.systems.stable_diffusion import USUAL_SCALE, Reads, made, other_codec, telling_of, together

USUAL_SIDE = 512
SIDES = {("Stable Diffusion 2", "v"): 768, ("Stable Diffusion XL", "epsilon"): 1024,
         ("Stable Diffusion XL", "v"): 1024, ("Playground v2.5", "edm"): 1024, ("CosXL", "edm_v"): 1024,
         ("Stable Diffusion XL refiner", "epsilon"): 1024}  # fmt: skip
"""Sides of the pictures that members were trained on, by what they predict, where that is not the usual."""
PARTS = {"text": "text_encoder", "text_2": "text_encoder_2"}


PADS = {"transformers": "<|endoftext|>", "open_clip": "!"}
"""What fills a row of tokens, by the spelling of a tower's names."""


def bind_file(path: Path, how: How, said: Said = NOTHING) -> System:
    """The system in a file; `said`: what nothing in it tells. Raises `FileProblem`."""
    said = said if how.prediction is None else Said(how.prediction).over(said)
    parts = read_parts(path, dtype=how.dtype, device=how.device, said=said, channels_last=True)
    layout = parts.layout
    vae = how.vae or parts.autoencoder
    if parts.unet is None or vae is None or not parts.towers:
        lacking = {"U-Net": parts.unet, "autoencoder (give one with --vae)": vae, "text encoder": parts.towers}
        names = ", ".join(name for name, there in lacking.items() if not there)
        advice = "" if parts.towers else " Text encoders come with a model: get the whole checkpoint, or its folder."
        raise FileProblem(
            f"{path} is {layout.title}, but a picture needs more than it holds: it has no {names}.{advice}"
        )
    name = layout.member.name if layout.member else ""
    side = SIDES.get((name, layout.prediction), USUAL_SIDE)
    scheduler = scheduler_of(parts)
    own = own_of(parts, scheduler)
    origin = {"scheduler": scheduler}
    told = licence(parts.metadata) or ""
    spec = Spec(
        path.stem, "stable_diffusion", (side, side), licence=told, card={ORIGIN: origin}, path=str(path),
        vae=str(how.vae or ""),
    )  # fmt: skip
    reads = reads_of(parts)
    readers = [_reader(parts, part, reads, how) for part in layout.towers]
    scale = layout.member.scale if layout.member else USUAL_SCALE
    if isinstance(vae, Path):
        codec = other_codec(vae, how, scale)
    else:
        mean, std = parts.extra.get("edm_mean", 0.0), parts.extra.get("edm_std", 1.0)
        codec = KLLatents(channels_last(vae.to(dtype=how.of_codec)), mean, std / scale)
    pooled = readers[-1].tower.config.projection or readers[-1].tower.config.dim
    scored = reads.sizes and parts.unet.config.vector_dim < pooled + 6 * 256  # the refiner is told five numbers
    conditioner = PromptConditioner(
        together(list(readers)),
        telling_of(spec, parts.unet, reads, scored),
        zeros_for_empty=reads.sizes and not scored,
        assumed=layout.assumed,
    )
    return made(spec, parts.unet, codec.to(how.device).eval(), conditioner, own, reads, how)


def reads_of(parts: Parts) -> Reads:
    """From which layer the towers are read: XL's without norm, OpenCLIP's last but one, CLIP's last."""
    assert parts.unet is not None
    if parts.unet.config.vector_dim:
        return Reads(skip=2, normed=False, sizes=True, scale=5.0)
    tower = next(iter(parts.layout.towers.values()))
    whole = tower.spelling == "open_clip" and tower.depth % 2 == 0  # some files leave out the layer that nobody reads
    return Reads(skip=2 if whole else 1)


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
    if layout.spelling not in PADS:
        raise FileProblem(
            "This is the first latent diffusion model, which reads by a BERT of its own: use its diffusers folder."
        )
    tower = tower_net(layout, tensors)
    assert isinstance(tower, CLIPText)
    tokens = CLIPTokens.bundled(pad=PADS[layout.spelling], length=layout.length)
    return ClipReader(PARTS[part], tokens, tower.to(how.device), reads.skip, reads.normed)
