"""The text towers that a U-Net of the Stable Diffusion family reads by: its model's own, or others in their place.

`--text-encoder` names files and folders that hold such towers, alone or in whole models. Which of them a net reads by
its width tells: those, given or the model's own, that side by side are as wide as the tokens it looks at, so that one
tower of XL's two may be replaced alone. Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from huggingvis.checkpoints.text_encoder_files import read_towers
from huggingvis.checkpoints.text_towers import from_transformers
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.clip_vocabulary import END
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.nets.clip_text import CLIPText
from huggingvis.nets.encoder_layer import quick_gelu
from huggingvis.nets.unet import UNet
from huggingvis.systems.pipelines import How
from huggingvis.systems.prompt_reading import ClipReader

TOWERS = ("text_encoder", "text_encoder_2")
"""What files call them, and in which order they are read side by side."""
_L, _H, _G = "CLIP ViT-L/14 (768 wide)", "OpenCLIP ViT-H/14 (1024 wide)", "OpenCLIP ViT-bigG/14 (1280 wide)"
_READ_BY = {
    768: f"{_L}, as any Stable Diffusion 1 has it",
    1024: f"{_H}, as any Stable Diffusion 2 has it",
    1280: f"{_G}, as any Stable Diffusion XL has it",
    2048: f"{_L} and {_G}, as any Stable Diffusion XL has them, in one file or by the flag given twice",
}


def read_by(width: int) -> str:
    """What a net that looks at tokens of this width reads by, for those who have to find it."""
    return _READ_BY.get(width, f"text towers that are together {width} wide")


def clip_reader(name: str, tower: CLIPText, tokens: CLIPTokens | None, sizes: bool) -> ClipReader:
    """A tower as the family reads it, from which layer and whether through the final norm.

    CLIP's last, OpenCLIP's last but one, which some files have for the last; without norm for nets that are told
    `sizes`, XL's. `tokens`: None for those that its makers had.
    """
    openai, c = tower.config.activation is quick_gelu, tower.config
    if tokens is None:
        tokens = CLIPTokens.bundled(pad=END if openai else "!", length=c.length)
    whole = not openai and c.depth % 2 == 0
    return ClipReader(name, tokens, tower, skip=2 if sizes or whole else 1, normed=not sizes)


def clip_tower(folder: Path, how: How) -> CLIPText:
    """The tower in a folder of transformers. Raises `FileProblem`, also for one of another family."""
    tower = from_transformers(folder, how.dtype)
    if not isinstance(tower, CLIPText):
        raise FileProblem(f"{folder} holds a {type(tower).__name__}; Stable Diffusion reads by CLIP's text towers.")
    return tower.to(how.device)


def with_given(own: Sequence[ClipReader], unet: UNet, how: How) -> list[ClipReader]:
    """The readers of a model, with those that `how` gives in the place of its own.

    Raises `FileProblem` where these cannot be read by this net, or are not all needed.
    """
    if not how.text_encoders:
        return list(own)
    width, sizes = unet.config.tokens_dim, unet.config.vector_dim > 0
    given = {path: _readers(path, sizes, how) for path in how.text_encoders}
    chosen = _fitting([*(reader for readers in given.values() for reader in readers), *own], width)
    if not all(any(reader in chosen for reader in readers) for readers in given.values()):
        widths = [
            f"{path} ({' and '.join(str(r.tower.config.dim) for r in some)} wide)" for path, some in given.items()
        ]
        raise FileProblem(
            f"The text encoder {', '.join(widths)} does not fit this model, whose net looks at tokens {width} wide. "
            f"Give with --text-encoder what it reads by: {read_by(width)}."
        )
    if sizes and chosen[-1].tower.config.projection is None:
        raise FileProblem(
            "The text encoder given with --text-encoder has no projection (`text_projection`), whose state this net is "
            "told. Give one that was saved with it, as any Stable Diffusion XL has it."
        )
    return chosen


def only_folder(how: How, tower: str) -> Path | None:
    """The folder given with --text-encoder to a model that reads by one `tower`; None for none.

    Raises `UsageError` for anything else.
    """
    if not how.text_encoders:
        return None
    folder = how.text_encoders[0]
    if len(how.text_encoders) > 1 or not folder.is_dir():
        told = ", ".join(map(str, how.text_encoders))
        raise UsageError(f"This model reads by {tower}: --text-encoder takes its folder, once. Found {told}.")
    return folder / TOWERS[0] if (folder / TOWERS[0]).is_dir() else folder


def _fitting(readers: Sequence[ClipReader], width: int) -> list[ClipReader]:
    """The first reader, or pair of two kinds, that is `width` wide; none where there is none."""
    for many in (1, 2):
        for some in combinations(readers, many):
            if sum(r.tower.config.dim for r in some) == width and len({r.name for r in some}) == many:
                return sorted(some, key=lambda reader: reader.name)
    return []


def _readers(path: Path, sizes: bool, how: How) -> list[ClipReader]:
    """The towers in a file, in a model's folder, or in one of their own; those of OpenCLIP are XL's second."""
    found: list[tuple[CLIPText, CLIPTokens | None]]
    if path.is_file():
        found = [(tower.to(how.device), None) for tower in read_towers(path, how.dtype)]
    else:
        places = [path / name for name in TOWERS if (path / name).is_dir()] or [path]
        found = [(clip_tower(place, how), _tokenizer(place)) for place in places]
    return [clip_reader(_name(tower, sizes), tower, tokens, sizes) for tower, tokens in found]


def _name(tower: CLIPText, sizes: bool) -> str:
    return TOWERS[sizes and tower.config.activation is not quick_gelu]


def _tokenizer(tower: Path) -> CLIPTokens | None:
    """The tokenizer in a tower's folder or beside it, None where there is none."""
    whole = tower.absolute()
    beside = whole.parent / whole.name.replace("text_encoder", "tokenizer")
    places = (
        place for place in (tower, beside) if (place / "vocab.json").is_file() or (place / "tokenizer.json").is_file()
    )
    return next((CLIPTokens.load(place) for place in places), None)
