"""Sprites: the things that layouts are made of, with their names in English and Chinese.

The shipped vocabulary `objects_v1` is 112 colour emoji and 8 geometric shapes. Its names (from the `emoji` package,
each checked by hand) and what layouts must know of the artwork (`Look`) are two tables in this folder, so names,
layouts and captions need no font; only pixels do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.data.artwork import RGB, Art, Drawing, Glyph, Look, Picture, colour_distance, measure
from huggingvis.data.draws import stable_hash


@dataclass(frozen=True)
class Colour:
    """A named colour of shapes; `zh` is the adjective without 的."""

    name: str
    zh: str
    rgb: RGB


COLOURS: Mapping[str, Colour] = {
    c.name: c
    for c in (
        Colour("red", "红色", (222, 36, 40)),
        Colour("orange", "橙色", (255, 138, 15)),
        Colour("yellow", "黄色", (252, 220, 40)),
        Colour("green", "绿色", (36, 160, 66)),
        Colour("blue", "蓝色", (36, 92, 224)),
        Colour("purple", "紫色", (134, 52, 190)),
        Colour("black", "黑色", (24, 24, 28)),
        Colour("white", "白色", (250, 250, 250)),
    )
}


@dataclass(frozen=True)
class Sprite:
    """One word of the vocabulary. `measure` is the Chinese measure word; `also_*` are further names."""

    id: str
    en: str
    plural: str
    zh: str
    measure: str
    art: Art
    look: Look
    also_en: tuple[str, ...] = ()
    also_zh: tuple[str, ...] = ()
    group: str = "thing"
    container: bool = False

    def __hash__(self) -> int:
        return hash(self.id)  # enough to tell sprites apart, and asked for often

    @property
    def is_shape(self) -> bool:
        """Whether the sprite is a shape, which takes a colour word; a picture has its own colours."""
        return self.art.tinted

    def names(self, language: str) -> tuple[str, ...]:
        return (self.en, *self.also_en) if language == "en" else (self.zh, *self.also_zh)

    def tones(self, colour: str | None) -> tuple[tuple[RGB, float], ...]:
        """Main colours with their share of the area, given the colour word of a shape."""
        return self.look.tones if colour is None else ((COLOURS[colour].rgb, 1.0),)


_SHAPES = (  # id, plural, zh, measure word, further zh names, can hold another thing
    ("circle", "circles", "圆形", "个", ("圆", "圆圈"), True),
    ("square", "squares", "正方形", "个", ("方块", "方形"), True),
    ("triangle", "triangles", "三角形", "个", (), False),
    ("star", "stars", "星星", "颗", ("五角星",), False),
    ("heart", "hearts", "心形", "个", ("爱心",), False),
    ("diamond", "diamonds", "菱形", "个", (), False),
    ("ring", "rings", "圆环", "个", (), True),
    ("cross", "crosses", "十字", "个", ("十字形",), False),
)


@lru_cache(maxsize=1)
def shapes() -> tuple[Sprite, ...]:
    """The eight geometric shapes; they need no font."""
    out = []
    for name, plural, zh, word, also, container in _SHAPES:
        art = Drawing(name)
        look = measure(art, art.aspect)
        out.append(Sprite(name, name, plural, zh, word, art, look, (), also, "shape", container))
    return tuple(out)


@dataclass(frozen=True)
class SpriteSet:
    """An ordered vocabulary. Its order numbers the classes of judges, so it must never change under one name."""

    name: str
    sprites: tuple[Sprite, ...]

    def __post_init__(self) -> None:
        ids = [sprite.id for sprite in self.sprites]
        twice = sorted({x for x in ids if ids.count(x) > 1})
        if twice:
            raise UsageError(
                f"The sprite set {self.name!r} holds {', '.join(twice)} more than once; give each sprite its own id."
            )

    def __hash__(self) -> int:
        return hash((self.name, self.ids))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(sprite.id for sprite in self.sprites)

    @cached_property
    def _by_id(self) -> dict[str, Sprite]:
        return {sprite.id: sprite for sprite in self.sprites}

    @cached_property
    def pictures(self) -> tuple[Sprite, ...]:
        return tuple(sprite for sprite in self.sprites if not sprite.is_shape)

    @cached_property
    def shapes(self) -> tuple[Sprite, ...]:
        return tuple(sprite for sprite in self.sprites if sprite.is_shape)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The kinds of things, in the order in which the vocabulary comes to them."""
        return tuple(dict.fromkeys(sprite.group for sprite in self.sprites))

    def __getitem__(self, name: str) -> Sprite:
        """The sprite with this id. Raises `UsageError` with the nearest ids when there is none."""
        try:
            return self._by_id[name]
        except KeyError:
            raise unknown("sprite", name, self.ids) from None

    def __contains__(self, name: str) -> bool:
        return name in self._by_id

    def __len__(self) -> int:
        return len(self.sprites)

    def index(self, name: str) -> int:
        """The place of sprite `name` in the vocabulary: its class number."""
        return self.ids.index(self[name].id)

    def find(self, word: str) -> Sprite | None:
        """The sprite that has `word` among its names in either language, or None."""
        plain = word.strip().lower()
        for sprite in self.sprites:
            known = {name.lower() for name in (*sprite.names("en"), *sprite.names("zh"), sprite.plural, sprite.id)}
            if plain in known:
                return sprite
        return None

    def held_out(self, fraction: float) -> tuple[str, ...]:
        """About `fraction` of the pictures' ids, chosen by hash: concepts kept from training for later learning."""
        limit = int(fraction * 10_000)
        return tuple(s.id for s in self.pictures if stable_hash("held-out sprite", s.id) % 10_000 < limit)

    def without(self, ids: Iterable[str]) -> SpriteSet:
        gone = set(ids)
        kept = tuple(s for s in self.sprites if s.id not in gone)
        return replace(self, name=f"{self.name}-{len(gone)}", sprites=kept)

    def only(self, ids: Iterable[str]) -> SpriteSet:
        """The named sprites, in this set's order."""
        kept = {self[name].id for name in ids}
        return replace(self, name=f"{self.name}={len(kept)}", sprites=tuple(s for s in self.sprites if s.id in kept))

    def __add__(self, other: SpriteSet) -> SpriteSet:
        return SpriteSet(f"{self.name}+{other.name}", (*self.sprites, *other.sprites))


def table(name: str) -> list[dict[str, str]]:
    """The rows of a table that ships in this folder."""
    text = files("huggingvis.data").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _many(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split("|") if part)


@lru_cache(maxsize=4)
def objects_v1(with_shapes: bool = True) -> SpriteSet:
    """The shipped vocabulary: 112 emoji and, unless refused, the 8 shapes."""
    looks = {row["id"]: row for row in table("objects_v1_looks.csv")}
    sprites = []
    for row in table("objects_v1.csv"):
        sprites.append(
            Sprite(
                row["id"],
                row["en"],
                row["plural"],
                row["zh"],
                row["measure"],
                Glyph(row["emoji"]),
                look_from_row(looks[row["id"]]),
                _many(row["also_en"]),
                _many(row["also_zh"]),
                row["group"],
            )
        )
    return SpriteSet("objects_v1", (*sprites, *(shapes() if with_shapes else ())))


def look_from_row(row: Mapping[str, str]) -> Look:
    """A `Look` from one row of the looks table."""
    tones = []
    for part in row["tones"].split():
        code, share = part.split(":")
        tones.append(((int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)), float(share)))
    return Look(float(row["aspect"]), tuple(tones), int(row["cells"], 16))


def look_to_row(name: str, look: Look) -> dict[str, str]:
    """The inverse of `look_from_row`."""
    tones = " ".join(f"{r:02x}{g:02x}{b:02x}:{share:.2f}" for (r, g, b), share in look.tones)
    return {"id": name, "aspect": f"{look.aspect:.3f}", "tones": tones, "cells": f"{look.cells:016x}"}


def picture_look(art: Glyph | Picture) -> Look:
    """The look of artwork that has its own outline."""
    image = art.master()
    return measure(art, image.width / image.height)


def contrast(tones: Sequence[tuple[RGB, float]], ground: Sequence[RGB], least: float = 22.0) -> float:
    """The share of a sprite's area whose colour is at least `least` (CIE Lab) away from every colour of `ground`."""
    total = sum(share for _, share in tones) or 1.0
    return sum(share for tone, share in tones if all(colour_distance(tone, g) >= least for g in ground)) / total


PICTURE_ENDINGS = (".png", ".webp", ".gif", ".jpg", ".jpeg", ".bmp")


def from_folder(folder: str | Path) -> SpriteSet:
    """Sprites from the pictures in `folder`: the file's stem is the name, unless names.csv or names.tsv
    (columns name, en, zh and optionally plural, measure) says otherwise. Raises `FileProblem`.
    """
    root = Path(folder)
    found = sorted(p for p in root.glob("*") if p.suffix.lower() in PICTURE_ENDINGS) if root.is_dir() else []
    if not found:
        raise FileProblem(
            f"Expected a folder with pictures ({', '.join(PICTURE_ENDINGS)}) at {root}; found none. "
            "Put one picture per sprite there, named after what it shows."
        )
    names = _folder_names(root)
    sprites = []
    for path in found:
        row = names.get(path.stem, {})
        en = row.get("en") or path.stem.replace("_", " ").replace("-", " ").strip()
        art = Picture(str(path))
        sprites.append(
            Sprite(
                path.stem,
                en,
                row.get("plural") or plural_of(en),
                row.get("zh") or en,
                row.get("measure") or "个",
                art,
                picture_look(art),
            )
        )
    return SpriteSet(root.name, tuple(sprites))


def _folder_names(root: Path) -> dict[str, dict[str, str]]:
    for name, mark in (("names.csv", ","), ("names.tsv", "\t")):
        if (root / name).exists():
            with (root / name).open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file, delimiter=mark))
            if rows and "name" not in rows[0]:
                raise FileProblem(
                    f"Expected the columns name, en, zh in {root / name}; found {', '.join(rows[0])}. "
                    "Write them into its first line."
                )
            return {row["name"]: row for row in rows}
    return {}


def plural_of(noun: str) -> str:
    """The regular English plural; irregular ones stand in the tables."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
