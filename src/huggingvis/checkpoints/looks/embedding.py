"""A textual inversion, in every form of `embedding_formats`: vectors for one or two text towers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from huggingvis.checkpoints.bases import Base, base_of
from huggingvis.checkpoints.embedding_names import BY_WIDTH, FILES, PARAM, TOWERS, is_table, vectors_in
from huggingvis.checkpoints.formats import Format
from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.report import listed
from huggingvis.checkpoints.training_notes import plain

_BASES = {("clip_l",): 768, ("clip_h",): 1024, ("clip_g", "clip_l"): 2048, ("clip_g",): 2048}
"""Text towers -> width of the text tokens of the base that has them."""


@final
@dataclass(frozen=True)
class _Word:
    """One embedding: its name, the word of its own that a file gives it, tower -> (vectors, width)."""

    name: str
    token: str
    towers: Mapping[str, tuple[int, int]]

    @property
    def base(self) -> Base | None:
        tokens = _BASES.get(tuple(sorted(self.towers)))
        return None if tokens is None else base_of(tokens)


@final
class _Embedding(Kind):
    name, title, rank, adapter = "embedding", "a textual inversion", 20, True

    def found(self, subject: Subject) -> bool:
        if subject.is_folder:
            return any(subject.has(f"{name}{suffix}") for name in FILES for suffix in (".safetensors", ".bin"))
        if subject.is_picture:
            from huggingvis.checkpoints.embedding_pictures import carries

            return carries(subject.path)
        return is_table(subject.tensors)

    def tell(self, subject: Subject) -> Told:
        words = _of_header(subject) if subject.format is Format.SAFETENSORS else _read(subject)
        bases = {word.base for word in words}
        base = bases.pop() if len(bases) == 1 else None
        sentences = [
            f"{plain(word.name)!r} is " + " and ".join(
                f"{n} vector{'s' * (n > 1)} of width {width} ({tower})" for tower, (n, width) in word.towers.items()
            ) + "."
            for word in words[:4]
        ]  # fmt: skip
        if len(words) > 4:
            sentences.append(f"There are {len(words) - 4} more.")
        calls = [word.token or word.name for word in words]
        sentences.append(f"Call it in a prompt by its name{'s' * (len(words) > 1)}: {plain(listed(calls))}.")
        facts = {
            "embeddings": {
                word.name: {
                    "token": word.token or None,
                    "vectors": {tower: {"count": n, "width": width} for tower, (n, width) in word.towers.items()},
                }
                for word in words
            }
        }
        title = "a textual inversion in a picture" if subject.is_picture else ""
        return Told(title, base, tuple(sentences), facts, tuple(dict.fromkeys(calls)))


def _of_header(subject: Subject) -> list[_Word]:
    """Of a safetensors file, without its numbers."""
    sizes, stem = vectors_in(subject.tensors), subject.path.stem
    if set(sizes) <= set(TOWERS):
        return [_Word(stem, "", sizes)]
    words = []
    for name, (n, width) in sizes.items():
        token = "" if name in ("emb_params", "") else name.removeprefix(f"{PARAM}.")
        called = stem if len(sizes) == 1 and stem not in FILES else token or stem
        words.append(_Word(called, "" if token == "*" else token, {BY_WIDTH.get(width, f"width {width}"): (n, width)}))
    return words


def _read(subject: Subject) -> list[_Word]:
    """Of all other forms, by reading them."""
    from huggingvis.checkpoints.embedding_formats import load_embeddings

    return [
        _Word(e.name, e.token, {tower: (x.shape[0], x.shape[1]) for tower, x in e.vectors.items()})
        for e in load_embeddings(subject.path)
    ]


KIND = _Embedding()
