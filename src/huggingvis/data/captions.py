"""Captions of layouts in English and Chinese: the grammar of the world.

`Captions.caption(layout, language, variant)` says what the layout states and nothing else: the things with their
colour and size words, their number, the relation, the background if it is a described one. Which facts are stated
is part of the layout, so both languages say the same; `variant` chooses a phrasing, 0 the canonical one:
form = variant mod 4, opening = (variant div 4) mod 4, further names of the things where variant div 16 is odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from huggingvis.core.errors import UsageError, unknown
from huggingvis.core.layout import Background, Edit, Layout, Thing
from huggingvis.data import instructions
from huggingvis.data.backgrounds import NAMED
from huggingvis.data.sprites import COLOURS, SpriteSet

LANGUAGES = ("en", "zh")
N_VARIANTS = 32
EN_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
ZH_NUMBERS = ("零", "一", "两", "三", "四", "五", "六", "七", "八")
OPENINGS = {
    "en": ("", "a picture of ", "a photo of ", "a drawing of "),
    "zh": ("", "一张图片：", "一张照片：", "一幅画："),
}
SIZES_ZH = {"small": "小", "big": "大"}

RELATION_FORMS = {  # {a} stands in the relation to {b}; form 0 is canonical
    "left": {
        "en": (
            "{a} to the left of {b}",
            "{b} with {a} on its left",
            "{a} on the left side of {b}",
            "{b} to the right of {a}",
        ),
        "zh": ("{a}在{b}的左边", "{b}的左边有{a}", "{a}位于{b}的左侧", "{b}在{a}的右边"),
    },
    "right": {
        "en": (
            "{a} to the right of {b}",
            "{b} with {a} on its right",
            "{a} on the right side of {b}",
            "{b} to the left of {a}",
        ),
        "zh": ("{a}在{b}的右边", "{b}的右边有{a}", "{a}位于{b}的右侧", "{b}在{a}的左边"),
    },
    "above": {
        "en": ("{a} above {b}", "{b} with {a} above it", "{a} over {b}", "{b} below {a}"),
        "zh": ("{a}在{b}的上面", "{b}的上面有{a}", "{a}位于{b}的上方", "{b}在{a}的下面"),
    },
    "below": {
        "en": ("{a} below {b}", "{b} with {a} below it", "{a} under {b}", "{b} above {a}"),
        "zh": ("{a}在{b}的下面", "{b}的下面有{a}", "{a}位于{b}的下方", "{b}在{a}的上面"),
    },
    "inside": {
        "en": ("{a} inside {b}", "{b} with {a} inside it", "{a} in {b}", "{b} around {a}"),
        "zh": ("{a}在{b}的里面", "{b}的里面有{a}", "{a}位于{b}的内部", "{b}围着{a}"),
    },
    "behind": {
        "en": ("{a} behind {b}", "{b} with {a} behind it", "{a} partly hidden by {b}", "{b} in front of {a}"),
        "zh": ("{a}在{b}的后面", "{b}的后面有{a}", "{a}被{b}挡住一部分", "{b}在{a}的前面"),
    },
}


@dataclass(frozen=True)
class _Group:
    """Things that one noun phrase names."""

    thing: Thing
    count: int


def check_language(language: str) -> None:
    """Raises `UsageError` unless captions exist in `language`."""
    if language not in LANGUAGES:
        raise unknown("caption language", language, LANGUAGES)


def article(phrase: str) -> str:
    """`a` or `an`, by the sound of the first word."""
    first = phrase.split()[0].lower()
    silent = first.startswith(("hour", "honest"))
    like_you = first.startswith(("uni", "eu", "ufo", "use"))
    return "an" if (first[0] in "aeiou" and not like_you) or silent else "a"


@dataclass(frozen=True)
class Captions:
    """The grammar over one vocabulary."""

    sprites: SpriteSet

    def phrase(
        self, thing: Thing, language: str, count: int = 1, other_name: bool = False, digits: bool = False
    ) -> str:
        """The noun phrase of `count` such things: 'a big red circle', 'three dogs', '一个红色的大圆形', '三只狗'."""
        return (self._en if language == "en" else self._zh)(thing, count, other_name, digits)

    def _en(self, thing: Thing, count: int, other_name: bool, digits: bool) -> str:
        sprite = self.sprites[thing.sprite]
        noun = sprite.en if count == 1 else sprite.plural
        if other_name and sprite.also_en and count == 1:
            noun = sprite.also_en[0]
        words = " ".join(word for word in (thing.size_word, thing.colour, noun) if word)
        number = str(count) if digits else EN_NUMBERS[count] if count < len(EN_NUMBERS) else str(count)
        return f"{article(words)} {words}" if count == 1 else f"{number} {words}"

    def _zh(self, thing: Thing, count: int, other_name: bool, digits: bool) -> str:
        sprite = self.sprites[thing.sprite]
        noun = sprite.also_zh[0] if other_name and sprite.also_zh else sprite.zh
        colour = f"{COLOURS[thing.colour].zh}的" if thing.colour else ""
        number = str(count) if digits and count > 1 else ZH_NUMBERS[count] if count < len(ZH_NUMBERS) else str(count)
        return f"{number}{sprite.measure}{colour}{SIZES_ZH.get(thing.size_word or '', '')}{noun}"

    def caption(self, layout: Layout, language: str, variant: int = 0) -> str:
        """One sentence about `layout`. Raises `UsageError` for an unknown language or a layout without things."""
        check_language(language)
        if not layout.things:
            raise UsageError("The layout holds no thing, so there is nothing to say. Add one.")
        form, opening, other = variant % 4, variant // 4 % 4, variant // 16 % 2 == 1
        body = self._body(layout, language, form, other)
        if language == "en":
            return OPENINGS["en"][opening] + body + _ground_en(layout.background, form)
        return OPENINGS["zh"][opening] + _ground_zh(layout.background, form, body)

    def _body(self, layout: Layout, language: str, form: int, other: bool) -> str:
        if layout.relation is None:
            return self._listing(_grouped(layout.things), language, form, other)
        r = layout.relation
        a, b = (self.phrase(layout.things[i], language, 1, other) for i in (r.subject, r.object))
        said = RELATION_FORMS[r.kind][language][form].format(a=a, b=b)
        rest = [t for i, t in enumerate(layout.things) if i not in (r.subject, r.object)]
        if not rest:
            return said
        more = self._listing(_grouped(rest), language, 0, other)
        return f"{said}, and {more}" if language == "en" else f"{said}，还有{more}"

    def _listing(self, groups: Sequence[_Group], language: str, form: int, other: bool) -> str:
        if len(groups) == 1:
            return self._alone(groups[0], language, form, other)
        turn = {1: 1, 3: len(groups) - 1}.get(form, 0) if len(groups) > 2 else form % 2
        groups = [*groups[turn:], *groups[:turn]]
        parts = [self.phrase(g.thing, language, g.count, other) for g in groups]
        if len(parts) == 2:
            joint = (" and ", " and ", " with ", " with ") if language == "en" else ("和", "和", "与", "与")
            return joint[form].join(parts)
        if language == "en":
            return " and ".join(parts) if form == 2 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        return "和".join(parts) if form == 2 else f"{'、'.join(parts[:-1])}和{parts[-1]}"

    def _alone(self, group: _Group, language: str, form: int, other: bool) -> str:
        said = self.phrase(group.thing, language, group.count, other, digits=form == 2)
        if group.count > 1:
            before = {1: ("a group of ", "一共"), 3: ("exactly ", "正好")}.get(form, ("", ""))
            return before[language == "zh"] + said
        if language == "zh":
            return {1: "仅有", 2: "单独", 3: "只有"}.get(form, "") + said
        bare = said.split(" ", 1)[1]
        return (said, f"one {bare}", f"a single {bare}", f"just {said}")[form]

    def instruction(self, layout: Layout, op: Edit, language: str) -> str:
        """The sentence that asks for the edit `op` of `layout`."""
        check_language(language)
        return instructions.sentence(self, layout, op, language)


def _grouped(things: Sequence[Thing]) -> list[_Group]:
    """Things that are called the same, counted, in order of first appearance."""
    counts: dict[tuple[str, str | None], int] = {}
    first: dict[tuple[str, str | None], Thing] = {}
    for thing in things:
        key = (thing.key, thing.size_word)
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, thing)
    return [_Group(first[key], n) for key, n in counts.items()]


def _ground_en(background: Background, form: int) -> str:
    if background.name is None:
        return ""
    ground = f"{article(background.name)} {background.name} background"
    return (f" on {ground}", f" against {ground}", f" on {ground}", f", {background.name} background")[form]


def _ground_zh(background: Background, form: int, body: str) -> str:
    if background.name is None:
        return body
    word = NAMED[background.name][0]
    return (f"在{word}背景上，{body}", f"{body}，背景是{word}的", f"{word}背景上，{body}", f"{body}，{word}背景")[form]
