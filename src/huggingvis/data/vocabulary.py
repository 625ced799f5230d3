"""Which words the world's captions can contain, their list, and which words of a prompt they cannot.

English is split at spaces; Chinese, which has none, by longest match against all words of the grammar. For an
unknown word the nearest known ones are offered: by a small table of meanings, by spelling, by kinship of the emoji
that bears the name (emoji of one kind stand side by side in Unicode), or as a slip of the fingers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from huggingvis.data import captions as grammar
from huggingvis.data.artwork import Glyph
from huggingvis.data.backgrounds import NAMED
from huggingvis.data.sprites import COLOURS, SpriteSet, table

EN_STOP = frozenset((
    "a", "an", "the", "one", "single", "just", "and", "with", "of", "on", "in", "at", "to", "it", "its", "is", "are",
    "there", "some", "group", "exactly", "against", "background", "picture", "photo", "drawing", "image", "painting",
    "please", "draw", "paint", "show", "make", "me", "i", "want", "both", "together", "by", "small", "little", "tiny",
    "big", "large", "side", "left", "right", "above", "over", "below", "under", "underneath", "inside", "around",
    "behind", "front", "partly", "hidden", "beneath", "grey", "gray", "his", "her", "their", "this", "that", "next",
))  # fmt: skip
ZH_STOP = (
    "一张图片", "一张照片", "一幅画", "图片", "照片", "画", "图", "请", "我", "想要", "想", "要", "给", "里", "中",
    "上", "下", "左", "右", "左边", "右边", "左侧", "右侧", "左面", "右面", "上面", "下面", "上方", "下方", "里面",
    "内部", "后面", "前面", "后方", "前方", "旁边", "位于", "围着", "被", "挡住", "一部分", "在", "有", "的", "和",
    "与", "以及", "还有", "还", "是", "仅有", "单独", "只有", "正好", "一共", "共", "背景", "背景是", "背景上", "小",
    "大", "张", "幅", "副", "色", "了", "着", "两", "二", "零", "一", "三", "四", "五", "六", "七", "八", "个", "只",
    "一些", "并", "放", "之",
)  # fmt: skip
_VOWELS = frozenset("aeiouy")
_HAN = re.compile(r"[\u4e00-\u9fff]+")
_LATIN = re.compile(r"[a-z]+(?:['’-][a-z]+)*")


def vocabulary_words(sprites: SpriteSet, language: str) -> frozenset[str]:
    """Every word that a prompt about `sprites` may hold: names, colours, numbers, sizes and the grammar's own words."""
    grammar.check_language(language)
    return _english(sprites) if language == "en" else _chinese(sprites)


@lru_cache(maxsize=16)
def _english(sprites: SpriteSet) -> frozenset[str]:
    phrases = [name for s in sprites.sprites for name in (*s.names("en"), s.plural)]
    phrases += [*COLOURS, *NAMED, *grammar.EN_NUMBERS]
    return frozenset(word for phrase in phrases for word in _LATIN.findall(phrase.lower())) | EN_STOP


@lru_cache(maxsize=16)
def _chinese(sprites: SpriteSet) -> frozenset[str]:
    colours = [c.zh for c in COLOURS.values()] + [zh for zh, _ in NAMED.values()]
    words = {name for s in sprites.sprites for name in (*s.names("zh"), s.measure)}
    words |= {*colours, *(c.removesuffix("色") for c in colours), *ZH_STOP, *grammar.ZH_NUMBERS}
    return frozenset(part for word in words for part in _HAN.findall(word)) | {"T恤"}


MOST = 4
"""Things of one kind that a layout holds at most."""
TYPED = (*grammar.EN_NUMBERS[1 : MOST + 1], "left", "right", "above", "below", "inside", "behind", "small", "big",
         "background")  # fmt: skip
"""Words of the grammar that slips of the fingers are looked for among, beside the names."""


def word_list(sprites: SpriteSet) -> list[dict[str, Any]]:
    """What prompts about `sprites` are made of: a record for each thing, colour, background, number, size and relation.

    `en` and `zh` are its names, the first the one that captions prefer; of a relation, how sentences say it of A and B.
    `kind` of a thing is its group: animal, food, ..., shape.
    """
    things = sorted(sprites.sprites, key=lambda sprite: sprite.group)
    numbers = range(1, MOST + 1)
    return [
        *({**_row(s.group, s.id, s.names("en"), s.names("zh")), "plural": s.plural} for s in things),
        *(_row("colour", c.name, [c.name], [c.zh]) for c in COLOURS.values()),
        *(_row("background", en, [en], [zh]) for en, (zh, _) in NAMED.items()),
        *(_row("number", str(n), [grammar.EN_NUMBERS[n]], [grammar.ZH_NUMBERS[n]]) for n in numbers),
        *(_row("size", en, [en], [zh]) for en, zh in grammar.SIZES_ZH.items()),
        *(_row("relation", kind, _of_a_and_b(said["en"]), _of_a_and_b(said["zh"]))
          for kind, said in grammar.RELATION_FORMS.items()),
    ]  # fmt: skip


def _row(kind: str, name: str, en: Iterable[str], zh: Iterable[str]) -> dict[str, Any]:
    return {"kind": kind, "id": name, "en": [*en], "zh": [*zh]}


def _of_a_and_b(forms: Iterable[str]) -> list[str]:
    return [form.format(a="A", b="B") for form in forms]


def unknown_words(sprites: SpriteSet, text: str, language: str | None = None) -> list[tuple[str, tuple[str, ...]]]:
    """The words of `text` that no caption could contain, each with up to three known ones near it.

    `language` limits the search to 'en' or 'zh' words; None looks at both, as their scripts do not mix.
    """
    if language is not None:
        grammar.check_language(language)
    found: dict[str, tuple[str, ...]] = {}
    if language != "zh":
        known = vocabulary_words(sprites, "en")
        for word in _LATIN.findall(text.lower()):
            if word not in known and not (word == "t" and "T恤" in text):
                found.setdefault(word, _near_english(sprites, word))
    if language != "en":
        known = vocabulary_words(sprites, "zh")
        for run in _HAN.findall(text):
            for word in _unmatched(run, known):
                found.setdefault(word, _near_chinese(sprites, word))
    return list(found.items())


def counts_beside_others(sprites: SpriteSet, text: str) -> bool:
    """Whether `text` asks for several of one thing beside another one: captions count only what stands alone."""
    measures = "|".join(sorted({s.measure for s in sprites.sprites}))
    english, chinese = ("|".join(words[2:]) for words in (grammar.EN_NUMBERS, grammar.ZH_NUMBERS))
    several = rf"\b(?:{english}|[2-9])\b|(?:{chinese}|[2-9])(?:{measures})"
    return len(things_named(sprites, text)) > 1 and re.search(several, text.lower()) is not None


def things_named(sprites: SpriteSet, text: str) -> list[str]:
    """Ids of the things whose names, the longest that fit, stand in `text`: 熊猫, a panda, is no 猫, a cat."""
    names = {name.lower(): s.id for s in sprites.sprites for name in (*s.names("en"), s.plural, *s.names("zh"))}
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return [names[name] for name in re.findall(rf"(?<![a-z])(?:{either})(?![a-z])", text.lower())]


def _unmatched(run: str, known: frozenset[str]) -> list[str]:
    """Stretches of `run` that no known word covers, when as few characters as possible are left over."""
    longest = max(map(len, known))
    best: list[tuple[int, int]] = [(0, 0)]  # characters left over and words used up to here
    back = [0]
    for end in range(1, len(run) + 1):
        options = [((best[end - 1][0] + 1, best[end - 1][1]), end - 1, False)]
        for start in range(max(0, end - longest), end):
            if run[start:end] in known:
                options.append(((best[start][0], best[start][1] + 1), start, True))
        cost, start, matched = min(options)
        best.append(cost)
        back.append(start if matched else -1)
    covered, end = [False] * len(run), len(run)
    while end > 0:
        if back[end] >= 0:
            covered[back[end] : end] = [True] * (end - back[end])
            end = back[end]
        else:
            end -= 1
    marked = "".join(" " if hit else c for c, hit in zip(run, covered, strict=True))
    return marked.split()


@lru_cache(maxsize=1)
def _hand_picked() -> dict[str, tuple[str, ...]]:
    """Words people use that are no sprite here, and the sprites nearest in meaning (kin.csv)."""
    rows = table("kin.csv")
    return {row[code]: tuple(row["near"].split()) for row in rows for code in ("en", "zh")}


def _near_english(sprites: SpriteSet, word: str) -> tuple[str, ...]:
    names = {name.lower(): name for s in sprites.sprites for name in (*s.names("en"), s.plural)}
    names |= {c: c for c in (*COLOURS, *NAMED)}
    slips = _slips(word, names | {w: w for w in TYPED})
    picked = _hand_picked().get(word) or _hand_picked().get(word.removesuffix("s"))
    known = tuple(sprites[name].en for name in picked or () if name in sprites)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.75)
    if known:
        return known
    if close:
        return tuple(dict.fromkeys((*slips, *(names[key] for key in close))))[:3]
    return _kin(sprites, word, "en") or slips[:3]


def _slips(word: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The `known` words that are typed as `word` by one slip: two letters swapped, one left out, a vowel mistaken.

    In a word of three letters one slip is a third of it, which a ratio of letters in common does not forgive.
    """
    return tuple(name for key, name in known.items() if len(word) > 1 and _slipped(key, word))


def _slipped(meant: str, typed: str) -> bool:
    if len(meant) == len(typed) + 1:
        return any(meant[:i] + meant[i + 1 :] == typed for i in range(len(meant)))
    apart = [i for i, (a, b) in enumerate(zip(meant, typed, strict=False)) if a != b]
    if len(meant) != len(typed) or not apart or len(apart) > 2:
        return False
    i, j = apart[0], apart[-1]
    if len(apart) == 2:
        return j == i + 1 and (meant[i], meant[j]) == (typed[j], typed[i])
    return len(typed) > 2 and {meant[i], typed[i]} <= _VOWELS


def _near_chinese(sprites: SpriteSet, word: str) -> tuple[str, ...]:
    picked = next((near for name, near in _hand_picked().items() if name in word), ())
    kin = tuple(sprites[name].zh for name in picked if name in sprites) or _kin(sprites, word, "zh")
    if kin:
        return kin
    names = [name for s in sprites.sprites for name in s.names("zh")]
    return tuple(difflib.get_close_matches(word, names, n=3, cutoff=0.5))


def _kin(sprites: SpriteSet, word: str, language: str) -> tuple[str, ...]:
    """Known sprites whose emoji stand next, within one block, to an emoji that is called `word`."""
    import emoji  # a big table, wanted only once a word is not known

    if language == "zh":
        emoji.config.load_language("zh")
    place = None
    for character, names in emoji.EMOJI_DATA.items():
        name = names.get(language, "").strip(":").lower().replace("_", " ")
        if len(character) <= 2 and (name == word or (place is None and name.removesuffix(" face") == word)):
            place = ord(character[0])
            break
    if place is None:
        return ()
    drawn = [(abs(ord(s.art.emoji[0]) - place), s) for s in sprites.sprites if isinstance(s.art, Glyph)]
    nearest = sorted((pair for pair in drawn if pair[0] <= 16), key=lambda pair: pair[0])[:3]
    return tuple(s.en if language == "en" else s.zh for _, s in nearest)
