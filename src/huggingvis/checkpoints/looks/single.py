"""What is told of a file in the names of single-file checkpoints: its member of the family, parts and prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from huggingvis.checkpoints.bases import base_of
from huggingvis.checkpoints.inspect import Facts
from huggingvis.checkpoints.kinds import Subject, Told
from huggingvis.core.errors import FileProblem

if TYPE_CHECKING:
    from huggingvis.checkpoints.single_file_layout import Layout

PREDICTS = {"epsilon": "the noise (epsilon)", "v": "v", "edm": "in EDM's terms", "sample": "the clean latents"}


def of_single_file(subject: Subject) -> Told:
    """A file that is known not to be of the family is told of as what it is, with `refused`."""
    from huggingvis.checkpoints.single_file_detect import layout_of  # they need torch
    from huggingvis.checkpoints.single_file_layout import NOTHING

    assert subject.format is not None
    facts = Facts(subject.path, subject.format, subject.size, subject.tensors, subject.metadata)
    try:
        layout = layout_of(facts, NOTHING)
    except FileProblem as error:
        why = str(error).removeprefix(f"{subject.path}: ")
        return Told(refused=why, sentences=(why,))
    return of_layout(layout)


def of_layout(layout: Layout) -> Told:
    """What a layout tells."""
    facts: dict[str, Any] = {"parts": _parts(layout)}
    sentences = [f"It holds {_list([f'the {part}' for part in _called(layout)])}."]
    base = None
    if layout.unet is not None:
        c = layout.unet.config
        base = base_of(c.tokens_dim, c.vector_dim)
        sure = not any("predicts" in sentence for sentence in layout.assumed)
        facts["prediction"] = {"value": layout.prediction, "sure": sure, "zero terminal SNR": layout.zero_snr}
        facts["channels"] = c.in_channels + c.concat_channels
        if sure:
            sentences.append(f"It predicts {PREDICTS.get(layout.prediction, layout.prediction)}.")
        if layout.zero_snr:
            sentences.append("Its training ended in pure noise (zero terminal SNR).")
    sentences += [*layout.assumed]
    if layout.eight_bit:
        sentences.append("Some of its weights are 8-bit floats, which are widened when it is loaded.")
    if layout.dropped:
        sentences.append(f"{layout.dropped} of its tensors (running averages, losses) are not needed and not read.")
    facts["assumed"] = list(layout.assumed)
    title = layout.title if layout.unet is None else f"{layout.title}{_whole(layout)}"
    return Told(title.strip(), base, tuple(sentences), facts)


def _whole(layout: Layout) -> str:
    """Whether a U-Net comes with what it needs."""
    return ", in one file" if layout.towers and layout.autoencoder else ", a part of it"


def _called(layout: Layout) -> list[str]:
    nets = {"U-Net": layout.unet, "autoencoder": layout.autoencoder}
    names = {"text": "text encoder", "text_2": "second text encoder"}
    return [name for name, there in nets.items() if there] + [
        f"{names.get(part, part)} ({tower.dim} wide, {tower.depth} layers)" for part, tower in layout.towers.items()
    ]


def _parts(layout: Layout) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if layout.unet:
        c = layout.unet.config
        parts["unet"] = {"widths": list(c.channels), "tokens": c.tokens_dim, "vector": c.vector_dim,
                         "sees": c.in_channels + c.concat_channels, "predicts": c.out_channels}  # fmt: skip
    if layout.autoencoder:
        a = layout.autoencoder.config
        parts["autoencoder"] = {"widths": list(a.channels), "latents": a.latent_channels}
    for part, tower in layout.towers.items():
        parts[part] = {"width": tower.dim, "layers": tower.depth, "spelling": tower.spelling}
    return parts


def _list(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else "nothing"]))
