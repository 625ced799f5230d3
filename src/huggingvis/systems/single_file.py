"""A checkpoint in one file as a system: the Stable Diffusion family as most of the community passes it on.

The file brings nets and no settings: sizes are told from shapes, reading and noise table from the member of the family
that has them (`checkpoints.single_file`). What no shape tells, whether Stable Diffusion 2 predicts noise or v for one,
is assumed and said in a note; `prediction` overrides it. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from huggingvis.checkpoints import text_towers_clip
from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.diffusers_scheduler import Own, scheduler_config
from huggingvis.checkpoints.keymap import KeyMap
from huggingvis.checkpoints.single_file import Parts, Said, read_parts
from huggingvis.checkpoints.single_file_layout import NOTHING, TowerLayout
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.errors import FileProblem
from huggingvis.core.process import PREDICTIONS
from huggingvis.core.shapes import channels_last
from huggingvis.core.system import Spec, System
from huggingvis.nets.autoencoder_kl import AutoencoderKL
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.encoder_layer import gelu, quick_gelu
from huggingvis.processes.table import TableProcess
from huggingvis.systems.pipelines import ORIGIN, How
from huggingvis.systems.prompt_reading import ClipReader, PromptConditioner
from huggingvis.systems.stable_diffusion import Reads, made, telling_of, together

HEAD = 64
"""Width of a head in every CLIP text tower."""
USUAL_SCALE, USUAL_SIDE = 0.18215, 512
SIDES = {("Stable Diffusion 2", "v"): 768, ("Stable Diffusion XL", "epsilon"): 1024,
         ("Stable Diffusion XL", "v"): 1024, ("Stable Diffusion XL refiner", "epsilon"): 1024}  # fmt: skip
"""Sides of the pictures that members were trained on, by what they predict, where that is not the usual."""
PARTS = {"text": "text_encoder", "text_2": "text_encoder_2"}


@dataclass(frozen=True)
class Spelling:
    """What goes with the way in which a tower's names are spelt."""

    quick: bool
    pad: str


SPELLINGS = {"transformers": Spelling(True, "<|endoftext|>"), "open_clip": Spelling(False, "!")}


def bind_file(path: Path, how: How, said: Said = NOTHING, vae: AutoencoderKL | None = None) -> System:
    """The system in a file; `vae`: an autoencoder in the place of the file's. Raises `FileProblem`."""
    parts = read_parts(path, dtype=how.dtype, device=how.device, said=said)
    layout = parts.layout
    autoencoder = vae or parts.autoencoder
    if parts.unet is None or autoencoder is None or not parts.towers:
        lacking = {"U-Net": parts.unet, "autoencoder (give one with --vae)": autoencoder, "text encoder": parts.towers}
        names = ", ".join(name for name, there in lacking.items() if not there)
        raise FileProblem(f"{path} is {layout.title}, but a picture needs more than it holds: it has no {names}.")
    if layout.prediction not in PREDICTIONS and layout.prediction != "epsilon":
        raise FileProblem(
            f"{path} is {layout.title}, which predicts in EDM's terms; that is not bound here yet. Use Stable "
            "Diffusion XL in its place."
        )
    name = layout.member.name if layout.member else ""
    side = SIDES.get((name, layout.prediction), USUAL_SIDE)
    own = own_of(parts)
    origin = {"scheduler": scheduler_config(own.process, own.prediction)}
    spec = Spec(path.stem, "stable_diffusion", (side, side), card={ORIGIN: origin})
    reads = reads_of(parts)
    readers = [_reader(parts, part, reads, how) for part in layout.towers]
    scale = layout.member.scale if layout.member else USUAL_SCALE
    codec = KLLatents(channels_last(autoencoder.to(dtype=how.of_codec)), 0.0, 1.0 / scale).to(how.device).eval()
    pooled = readers[-1].tower.config.projection or readers[-1].tower.config.dim
    scored = reads.sizes and parts.unet.config.vector_dim < pooled + 6 * 256  # the refiner is told five numbers
    conditioner = PromptConditioner(
        together(list(readers)),
        telling_of(spec, parts.unet, reads, scored),
        zeros_for_empty=reads.sizes and not scored,
        assumed=layout.assumed,
    )
    return made(spec, parts.unet, codec, conditioner, own, reads, how)


def reads_of(parts: Parts) -> Reads:
    """From which layer the towers are read: XL's without norm, OpenCLIP's last but one, CLIP's last."""
    assert parts.unet is not None
    if parts.unet.config.vector_dim:
        return Reads(skip=2, normed=False, sizes=True, scale=5.0)
    tower = next(iter(parts.layout.towers.values()))
    whole = tower.spelling == "open_clip" and tower.depth % 2 == 0  # some files leave out the layer that nobody reads
    return Reads(skip=2 if whole else 1)


def own_of(parts: Parts) -> Own:
    """The family's noise table, and no solver: single files bring none."""
    table = TableProcess.scaled_linear()
    kind = "eps" if parts.layout.prediction == "epsilon" else parts.layout.prediction
    process = table.zero_terminal_snr() if parts.layout.zero_snr else table
    return Own("", process, PREDICTIONS[kind](), None, unit=True)


def _reader(parts: Parts, part: str, reads: Reads, how: How) -> ClipReader:
    layout, tensors = parts.layout.towers[part], parts.towers[part]
    if layout.spelling not in SPELLINGS:
        raise FileProblem(
            "This is the first latent diffusion model, which reads by a BERT of its own: use its diffusers folder."
        )
    spelling = SPELLINGS[layout.spelling]
    tower = read_tower(layout, tensors)
    tokens = CLIPTokens.bundled(pad=spelling.pad, length=layout.length)
    return ClipReader(PARTS[part], tokens, tower.to(how.device), reads.skip, reads.normed)


def read_tower(layout: TowerLayout, tensors: dict[str, Tensor]) -> CLIPText:
    """A CLIP text tower from its tensors under their full names, which are used up."""
    spelling = SPELLINGS[layout.spelling]
    config = CLIPTextConfig(
        vocabulary=layout.vocabulary,
        length=layout.length,
        dim=layout.dim,
        depth=layout.depth,
        heads=max(1, layout.dim // HEAD),
        hidden=layout.hidden,
        activation=quick_gelu if spelling.quick else gelu,
        end=min(49407, layout.vocabulary - 1),
        projection=layout.projection,
    )
    with torch.device("meta"):
        tower = CLIPText(config)
    assign(tower, tower_keymap(layout, config).consume(tensors))
    return tower.eval()


def tower_keymap(layout: TowerLayout, config: CLIPTextConfig) -> KeyMap:
    """The map of a tower's names in a single file."""
    if layout.spelling == "open_clip":
        return text_towers_clip.open_clip_keymap(config, layout.root)
    return text_towers_clip.keymap(config, layout.root, layout.inner)
