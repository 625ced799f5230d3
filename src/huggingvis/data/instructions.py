"""Sentences that ask for an edit of a layout, in English and Chinese: 'move the fox to the left', '把狐狸向左移动'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import Edit, Layout, Thing, thing_at
from huggingvis.core.layout_edits import Add, ChangeBackground, Move, Recolour, Remove, Replace, Resize
from huggingvis.data.backgrounds import NAMED
from huggingvis.data.sprites import COLOURS, SpriteSet

RANKS = {"en": ("leftmost", "second", "third"), "zh": ("一", "二", "三")}


class Phrases(Protocol):
    """The part of the grammar that names things; `captions.Captions` is one."""

    @property
    def sprites(self) -> SpriteSet: ...

    def phrase(self, thing: Thing, language: str) -> str: ...


def sentence(words: Phrases, layout: Layout, op: Edit, language: str) -> str:
    """The sentence that asks for `op`. Raises `UsageError` for an edit without one."""
    return (_english if language == "en" else _chinese)(words, layout, op)


def _english(words: Phrases, layout: Layout, op: Edit) -> str:
    match op:
        case Recolour(index, colour):
            return f"make {_target_en(words, layout, index)} {colour}"
        case Replace(index, sprite, colour):
            new = words.phrase(Thing(sprite, thing_at(layout, index).box, colour), "en")
            return f"replace {_target_en(words, layout, index)} with {new}"
        case Remove(index):
            return f"remove {_target_en(words, layout, index)}"
        case Add(thing):
            return f"add {words.phrase(thing, 'en')} {_corner(thing)[0]}"
        case Move(index, dx, dy):
            return f"move {_target_en(words, layout, index)} {_way(dx, dy)[0]}"
        case Resize(index, scale):
            return f"make {_target_en(words, layout, index)} {'bigger' if scale > 1 else 'smaller'}"
        case ChangeBackground(background):
            return f"make the background {background.name}" if background.name else "change the background"
    raise _no_words(op)


def _chinese(words: Phrases, layout: Layout, op: Edit) -> str:
    match op:
        case Recolour(index, colour):
            return f"把{_target_zh(words, layout, index)}变成{COLOURS[colour].zh}"
        case Replace(index, sprite, colour):
            new = words.phrase(Thing(sprite, thing_at(layout, index).box, colour), "zh")
            return f"把{_target_zh(words, layout, index)}换成{new}"
        case Remove(index):
            return f"去掉{_target_zh(words, layout, index)}"
        case Add(thing):
            return f"{_corner(thing)[1]}加上{words.phrase(thing, 'zh')}"
        case Move(index, dx, dy):
            return f"把{_target_zh(words, layout, index)}{_way(dx, dy)[1]}"
        case Resize(index, scale):
            return f"把{_target_zh(words, layout, index)}变{'大' if scale > 1 else '小'}"
        case ChangeBackground(background):
            return f"把背景变成{NAMED[background.name][0]}" if background.name else "换一个背景"
    raise _no_words(op)


def _no_words(op: Edit) -> UsageError:
    return UsageError(
        f"The grammar has no sentence for the edit {type(op).__name__}. Use one of Recolour, Replace, "
        "Remove, Add, Move, Resize, ChangeBackground."
    )


def _rank(layout: Layout, index: int) -> tuple[int, int]:
    """Place from the left among the things called the same, and how many those are."""
    named = thing_at(layout, index)
    alike = [i for i, t in enumerate(layout.things) if (t.key, t.size_word) == (named.key, named.size_word)]
    row = sorted(alike, key=lambda i: layout.things[i].box.centre)
    return row.index(index), len(row)


def _target_en(words: Phrases, layout: Layout, index: int) -> str:
    rank, alike = _rank(layout, index)
    bare = words.phrase(thing_at(layout, index), "en").split(" ", 1)[1]
    if alike == 1:
        return f"the {bare}"
    if rank == alike - 1:
        return f"the rightmost {bare}"
    return f"the leftmost {bare}" if rank == 0 else f"the {RANKS['en'][rank]} {bare} from the left"


def _target_zh(words: Phrases, layout: Layout, index: int) -> str:
    rank, alike = _rank(layout, index)
    thing = thing_at(layout, index)
    measure = words.sprites[thing.sprite].measure
    bare = words.phrase(thing, "zh")[1 + len(measure) :]
    if alike == 1:
        return bare
    if rank in (0, alike - 1):
        return f"最{'左' if rank == 0 else '右'}边的{bare}"
    return f"左起第{RANKS['zh'][rank]}{measure}{bare}"


def _third(place: float, names: Sequence[str]) -> str:
    return names[min(2, max(0, int(place * 3)))]


def _corner(thing: Thing) -> tuple[str, str]:
    """Where a new thing stands: one of nine places."""
    x, y = thing.box.centre
    column, row = _third(x, ("left", "middle", "right")), _third(y, ("top", "middle", "bottom"))
    zh = {"left": "左", "right": "右", "top": "上", "bottom": "下"}
    if column == row:
        return "in the middle", "在中间"
    if "middle" in (column, row):
        side = row if column == "middle" else column
        return f"at the {side}" if side in ("top", "bottom") else f"on the {side}", f"在{zh[side]}边"
    return f"at the {row} {column}", f"在{zh[column]}{zh[row]}角"


def _way(dx: float, dy: float) -> tuple[str, str]:
    if abs(dx) >= abs(dy):
        return ("to the right", "向右移动") if dx > 0 else ("to the left", "向左移动")
    return ("down", "向下移动") if dy > 0 else ("up", "向上移动")
