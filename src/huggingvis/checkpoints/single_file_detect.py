"""What a single-file checkpoint of the Stable Diffusion family is, told from its names and shapes alone.

    layout = look("model.safetensors")  # of a safetensors file, only the header is read
    print(layout.title, layout.prediction, layout.assumed)

What shapes cannot tell is taken, in this order, from the caller, from tensors whose mere presence says it, from the
file's metadata, from a `.yaml` of the same name beside it, and else from the table of the family; then `assumed` says
so. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from huggingvis.checkpoints.formats import TensorFact
from huggingvis.checkpoints.inspect import Facts, inspect
from huggingvis.checkpoints.single_file_family import (
    CONV_HEADS,
    GROUPS,
    LINEAR_HEAD_DIM,
    TOWERS,
    VARIANTS,
    Member,
    TowerRow,
    autoencoder_prefix,
    foreign,
    member_of,
    unet_prefix,
)
from huggingvis.checkpoints.single_file_layout import (
    DROPPED,
    NOTHING,
    AutoencoderLayout,
    Layout,
    Said,
    TowerLayout,
    UNetLayout,
)
from huggingvis.checkpoints.single_file_shapes import Heads, Names, autoencoder_sizes, unet_sizes
from huggingvis.core.errors import FileProblem, UsageError, about
from huggingvis.nets.unet import UNetConfig

Tensors = Mapping[str, TensorFact]

UNTOLD = "huggingvis.untold"
"""Metadata under which our files keep what their shapes do not tell."""
_CONFIG_SIZE = 1 << 20
_V_PARAMETERS = re.compile(r"""^\s*parameterization:\s*["']?v["']?\s*(#.*)?$""", re.MULTILINE)


def look(path: Path | str, said: Said = NOTHING) -> Layout:
    """The layout of the file at `path`; nothing is allocated. Raises `FileProblem` as `detect`, naming the file."""
    return layout_of(inspect(path), said)


def layout_of(facts: Facts, said: Said) -> Layout:
    """As `look`, for a file that was inspected already."""
    beside = facts.path.with_suffix(".yaml")
    try:
        with beside.open(encoding="utf-8", errors="replace") as file:
            config = file.read(_CONFIG_SIZE)
    except OSError:
        config = ""
    with about(facts.path):
        return detect(facts.tensors, facts.metadata, said, config)


def detect(
    tensors: Tensors, metadata: Mapping[str, str] | None = None, said: Said = NOTHING, config: str = ""
) -> Layout:
    """The layout of a file with these tensors.

    `config`: the text of the `.yaml` that came with it. Raises `FileProblem` for files that are not of the family, by
    the name of what they are, and for those of it that are damaged or not run here.
    """
    metadata = metadata or {}
    told = said.over(_told(metadata))
    unet = _unet(tensors, told)
    autoencoder = _autoencoder(tensors, told)
    towers = towers_in(tensors)
    known = Layout("", None, unet, autoencoder, towers)
    loose = [name for name in tensors if not known.part_of(name)]
    extra = tuple(name for name in loose if not DROPPED.match(name))
    _check_known(known, extra, len(tensors))
    known = replace(
        known,
        zero_snr="ztsnr" in tensors,
        eight_bit=any(fact.dtype.startswith("F8") for fact in tensors.values()),
        extra=extra,
        dropped=len(loose) - len(extra),
    )
    return _named(known, tensors, metadata, told, config)


def layout_of_unet(
    config: UNetConfig, linear: bool, said: Said = NOTHING, metadata: Mapping[str, str] | None = None
) -> Layout:
    """The layout of a U-Net whose sizes are known, with nothing beside it: a part of a folder of diffusers.

    `linear`: its projections are linear layers. Raises `FileProblem` for one that is not run here.
    """
    heads = Said(head_dim=config.head_dim) if config.head_dim else Said(heads=config.heads)
    return _named(Layout("", unet=UNetLayout("", config, linear)), {}, metadata or {}, said.over(heads), "")


def _named(known: Layout, tensors: Tensors, metadata: Mapping[str, str], told: Said, config: str) -> Layout:
    """`known`, with the member of the family that its U-Net is, and what that predicts."""
    member, prediction, sure = None, "", False
    if known.unet is not None:
        c = known.unet.config
        member = member_of(c.tokens_dim, c.vector_dim, known.unet.linear, tensors)
        prediction, sure = _prediction(tensors, metadata, told, config, member)
    return replace(
        known,
        title=_title(known, member),
        member=member,
        prediction=prediction,
        predicted=sure,
        assumed=_assumed(known.unet, member, told, prediction, sure),
    )


def _told(metadata: Mapping[str, str]) -> Said:
    """What one of our own files says of itself."""
    try:
        return Said(**json.loads(metadata.get(UNTOLD, "{}")))
    except (ValueError, TypeError, RecursionError, UsageError):
        raise FileProblem(
            f"The metadata {UNTOLD!r} should be a table of counts, as this library writes it, found "
            f"{metadata[UNTOLD][:80]!r}. Write the file again."
        ) from None


def _unet(tensors: Tensors, told: Said) -> UNetLayout | None:
    prefix = unet_prefix(tensors)
    if prefix is None:
        return None
    names = Names(tensors, prefix, "U-Net")
    if "input_hint_block.0.weight" in names or "zero_convs.0.0.weight" in names:
        return None  # a ControlNet by itself
    linear = names.ndim("middle_block.1.proj_in.weight") == 2
    heads, dim = told.heads or 0, told.head_dim or 0
    if not heads and not dim:
        heads, dim = (0, LINEAR_HEAD_DIM) if linear else (CONV_HEADS, 0)
    config, linear = unet_sizes(names, Heads(heads, dim, told.groups or GROUPS))
    attending = {w for w, depth in zip(config.channels, config.attention, strict=True) if depth}
    wrong = [w for w in sorted(attending | {config.channels[-1]}) if w % (dim or heads)]
    if wrong:
        which = f"heads of width {dim}" if dim else f"{heads} heads"
        raise names.strange(f"{which} do not divide its width {wrong[0]}; say its `heads` or `head_dim` if you know")
    return UNetLayout(prefix, config, linear)


def _autoencoder(tensors: Tensors, told: Said) -> AutoencoderLayout | None:
    prefix = autoencoder_prefix(tensors)
    if prefix is None:
        return None
    names = Names(tensors, prefix, "autoencoder")
    if names.ndim("encoder.conv_in.weight") != 4 or "quantize.embedding.weight" in names:
        return None
    return AutoencoderLayout(prefix, *autoencoder_sizes(names, told.autoencoder_groups or GROUPS))


def towers_in(tensors: Tensors, rows: Sequence[TowerRow] = TOWERS) -> dict[str, TowerLayout]:
    """The text towers whose names begin as one of `rows` says, by part. Raises `FileProblem` for a damaged one."""
    found: dict[str, TowerLayout] = {}
    for row in rows:
        if row.root + row.inner + row.tokens in tensors and row.part not in found:
            found[row.part] = _tower(tensors, row)
    return found


def _tower(tensors: Tensors, row: TowerRow) -> TowerLayout:
    names = Names(tensors, row.root + row.inner, "text tower")
    vocabulary, dim = names.of(row.tokens, 2)
    layer = re.compile(re.escape(row.root + row.inner + row.layer) + r"(\d{1,3})\.")
    layers = {int(match[1]) for name in tensors if (match := layer.match(name))}
    if layers != set(range(len(layers))) or not layers:
        raise names.strange(f"its layers are numbered {sorted(layers)[:4]}")
    above, projection = Names(tensors, row.root, "text tower"), None
    if row.projection and row.projection in above:
        projection = above.of(row.projection, 2)[0 if row.spelling == "transformers" else 1]
    length = names.of(row.positions, 2)[0]
    hidden = names.of(f"{row.layer}0.{row.feed}", 2)[0] if row.feed else 0
    return TowerLayout(row.root, row.inner, row.spelling, vocabulary, dim, length, len(layers), hidden, projection)


def _check_known(known: Layout, loose: tuple[str, ...], count: int) -> None:
    """What is neither a part nor baggage decides what the file really is."""
    other = foreign(loose, known.unet is not None)
    if other is not None:
        raise FileProblem(f"This is {other.what}, not a Stable Diffusion 1, 2 or XL checkpoint. {other.advice}.")
    if known.towers and known.unet is None and known.autoencoder is None:
        raise FileProblem(
            "This holds text encoders alone, which read the prompt and paint nothing: give it with --text-encoder "
            "beside a U-Net."
        )
    if known.unet is None and known.autoencoder is None:
        some = f"none of its {count} tensors is named like theirs ({', '.join(loose[:3])}, ...)"
        raise FileProblem(
            "This should be a checkpoint of Stable Diffusion 1, 2 or XL, or a part of one, but "
            f"{some if count else 'it holds no tensors'}. It is of another kind: get another file."
        )


def _title(known: Layout, member: Member | None) -> str:
    if known.unet is None:
        return "an autoencoder by itself"
    if member is not None and member.refused:
        raise FileProblem(f"This is {member.name}, which is not run here: {member.refused}.")
    beside = known.unet.config.concat_channels
    if beside not in VARIANTS or known.unet.config.vector_layers == 1:
        raise FileProblem(
            f"This is a Stable Diffusion U-Net that sees {beside} channels beside the latents"
            f"{' and the level of their noise, an upscaler' if known.unet.config.vector_layers == 1 else ''}; it is "
            f"not run here. Known are {', '.join(f'{n} ({name})' for n, name in VARIANTS.items() if n)} and none."
        )
    name = member.name if member else f"a latent diffusion U-Net of widths {list(known.unet.config.channels)}"
    return f"{name} {VARIANTS[beside]}".strip()


def _prediction(
    tensors: Tensors, metadata: Mapping[str, str], told: Said, config: str, member: Member | None
) -> tuple[str, bool]:
    """(what the net predicts, whether something said so)."""
    if told.prediction:
        return told.prediction, True
    if "v_pred" in tensors:
        return "v", True
    stated = metadata.get("modelspec.prediction_type", "").lower()
    if stated in ("v", "v_prediction", "epsilon", "eps"):
        return ("v" if stated.startswith("v") else "epsilon"), True
    if metadata.get("modelspec.architecture", "").endswith("-v") or _V_PARAMETERS.search(config):
        return "v", True
    sure = bool(config) or not (member is None or member.unsure)
    return (member.prediction if member else "epsilon"), sure


def _assumed(
    unet: UNetLayout | None, member: Member | None, told: Said, prediction: str, sure: bool
) -> tuple[str, ...]:
    said: list[str] = []
    if unet and not sure:
        why = f" ({member.unsure})" if member else ""
        said.append(f"Nothing in the file says what the net predicts: taken as {prediction}{why}.")
    if unet and member is None and not (told.heads or told.head_dim):
        heads = f"heads of width {LINEAR_HEAD_DIM}" if unet.config.head_dim else f"{CONV_HEADS} heads"
        said.append(f"A net of these sizes is not in the table of the family: taken to have {heads} at every level.")
    return tuple(said)
