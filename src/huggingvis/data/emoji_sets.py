"""Larger vocabularies straight from a colour-emoji font, named by the `emoji` package.

Kept are things one can point at: no faces, people, hands, flags, signs, clocks or plain geometric emoji (the drawn
shapes stand for those). Of two that look alike (PSNR of 20 dB or more at 40 pixels on grey) only the first stays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from huggingvis.core.errors import UsageError
from huggingvis.data.artwork import Glyph, is_one_cell, premultiplied
from huggingvis.data.sprites import Sprite, SpriteSet, look_to_row, objects_v1, picture_look, plural_of

LOOK_ALIKE_DB = 20.0
_FORBIDDEN = re.compile(
    "|".join(
        (
            r"face|person|people|man\b|men\b|woman|women|boy|girl|baby|child|hand|finger|thumb|fist|skin|family|couple",
            r"kiss|prince|santa|claus|mage|elf|fairy|vampire|zombie|genie|mer|dancer|guard|officer|detective|worker",
            r"hero|villain|angel|-no-evil|cat with|cat$|eye|nose|ear$|mouth|lip|tongue|leg|foot|arm|tooth|brain|lung",
            r"bone|flag|sign|button|arrow|o’clock|thirty|symbol|mark|zodiac|japanese|level|bars|mode|input|keycap",
            r"number|bubble|heart|square|circle|diamond|star\b|triangle|suit|cross|moon|sun with|dotted|six-pointed",
            r"dash|loop|infinity|aries|taurus|gemini|cancer|leo|virgo|libra|scorpio|sagittarius|capricorn|aquarius",
            r"pisces|ophiuchus|wheel of|om$|yin yang|asterisk|multiply|peace|menorah|place of worship|trade|copyright",
            r"registered|currency|exchange|banknote|chart|hundred|potable|litter|restroom|closet|no |non-|prohibited",
            r"warning|radioactive|biohazard|recycling|fleur|trident|baggage|customs|passport|left luggage|information",
            r"abc|zzz|pointing|raising|anger|speech|thought|collision|dizzy|sweat|hole|shaking|speaker|bell with",
            r"check box|placard|poo$|blood|silhouette|biceps|salute|gesture|head$|laughing|feeding|palms|ninja",
            r"wireless",
            r"swirl|nail polish|cigarette|construction$|oncoming|with pen|facing|headscarf|horse racing|sport utility",
        )
    )
)


def package_name(character: str, language: str) -> str:
    """The `emoji` package's name as plain words, without its marks."""
    import emoji

    if language == "zh":
        emoji.config.load_language("zh")
    name = emoji.EMOJI_DATA[character].get(language, "").strip(":").replace("_", " ")
    return re.sub(r"\s*\(.*?\)", "", name).strip()


def similarity(a: Sprite, b: Sprite, side: int = 40) -> float:
    """PSNR in dB between two pictures, each fitted into `side` pixels on grey."""
    error = float(np.mean((_on_grey(a, side) - _on_grey(b, side)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _on_grey(sprite: Sprite, side: int) -> np.ndarray:
    aspect = sprite.look.aspect
    w, h = max(1, round(side * min(1, aspect))), max(1, round(side * min(1, 1 / aspect)))
    pixels = premultiplied(sprite.art, w, h, (0, 0, 0)).astype(np.float64)  # [h, w, 4]
    canvas = np.full((side, side, 3), 128.0)
    x, y = (side - w) // 2, (side - h) // 2
    view = canvas[y : y + h, x : x + w]
    view *= 1 - pixels[..., 3:] / 255
    view += pixels[..., :3]
    return canvas


def without_look_alikes(sprites: Sequence[Sprite], least: float = LOOK_ALIKE_DB) -> tuple[Sprite, ...]:
    """`sprites` in order, leaving out each that is `least` dB or closer to an earlier one."""
    kept: list[Sprite] = []
    flat = np.empty((len(sprites), 40 * 40 * 3))
    limit = 255**2 / 10 ** (least / 10)
    for sprite in sprites:
        picture = _on_grey(sprite, 40).ravel()
        if not kept or ((flat[: len(kept)] - picture) ** 2).mean(1).min() > limit:
            flat[len(kept)] = picture
            kept.append(sprite)
    return tuple(kept)


def from_emoji(characters: Iterable[str], name: str) -> SpriteSet:
    """A set of the given emoji; names checked by hand in `objects_v1` come first, the package's otherwise.

    Characters the font cannot draw as one cell and look-alikes of earlier ones are left out. Needs a font.
    """
    checked = {s.art.emoji: s for s in objects_v1(with_shapes=False).sprites if isinstance(s.art, Glyph)}
    sprites: dict[str, Sprite] = {}
    for character in characters:
        if not is_one_cell(character):
            continue
        sprite = checked.get(character) or _named(character)
        sprites.setdefault(sprite.id, sprite)
    if not sprites:
        raise UsageError(
            f"None of the emoji asked for in {name!r} can be drawn by the installed font. "
            "Choose others or install a newer colour-emoji font."
        )
    return SpriteSet(name, without_look_alikes(tuple(sprites.values())))


def _named(character: str) -> Sprite:
    en, zh = package_name(character, "en"), package_name(character, "zh")
    art = Glyph(character)
    return Sprite(re.sub(r"\W+", "_", en.lower()).strip("_"), en, plural_of(en), zh or en, "个", art, picture_look(art))


@lru_cache(maxsize=4)
def emoji_objects(limit: int | None = None) -> SpriteSet:
    """The shipped objects first, then every further object the installed font can draw (several hundred)."""
    import emoji

    first = [s.art.emoji for s in objects_v1(with_shapes=False).sprites if isinstance(s.art, Glyph)]
    rest = [
        c
        for c, names in sorted(emoji.EMOJI_DATA.items())
        if names["status"] == emoji.STATUS["fully_qualified"]
        and len(c.rstrip("\ufe0f")) == 1
        and not _FORBIDDEN.search(package_name(c, "en").lower())
        and c not in first
    ]
    chosen = from_emoji([*first, *rest], "emoji_objects")
    return chosen if limit is None else SpriteSet(f"emoji_objects_{limit}", chosen.sprites[:limit])


def looks_rows(sprites: SpriteSet) -> list[dict[str, str]]:
    """What `objects_v1_looks.csv` holds, measured anew with the installed font (one row per picture)."""
    return [look_to_row(s.id, picture_look(s.art)) for s in sprites.pictures if isinstance(s.art, Glyph)]
