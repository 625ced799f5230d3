"""Text on pictures: a font that can draw it, and lines that fit a width.

Pillow's own font serves Latin text everywhere; what it cannot draw is tried in installed fonts with Chinese,
Japanese and Korean; what no font draws is written as escapes (`\\\\u72d0`), so nothing is silently lost.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from PIL import ImageFont

FALLBACK_FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "SourceHanSansSC-Regular.otf"),
    *("SourceHanSansCN-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc"),
    *("DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
    *("msyh.ttc", "simhei.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Light.ttc", "DejaVuSans.ttf"),
)
_UNASSIGNED = "\U0010ffff"
_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"  # scripts in which a line may break anywhere
_PIECES = re.compile(rf"[{_WIDE}]|[^\s{_WIDE}]+|\s+")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Lines:
    """Text ready to draw: one string per line, the font for all of them, and the line height in pixels."""

    lines: tuple[str, ...]
    font: Font
    line_height: int

    @property
    def height(self) -> int:
        return self.line_height * len(self.lines)

    @property
    def width(self) -> int:
        return max((round(self.font.getlength(line)) for line in self.lines), default=0)


@dataclass(frozen=True)
class Lettering:
    """How text is set: `size` in pixels, names of the `fallbacks` tried in order, `most_lines` before an ellipsis."""

    size: int = 14
    fallbacks: tuple[str, ...] = FALLBACK_FONTS
    most_lines: int = 6

    def set(self, text: str, width: int) -> Lines:
        """`text` in lines of at most `width` pixels."""
        font, text = self.drawable(text)
        lines: list[str] = []
        for paragraph in text.splitlines():
            lines += _wrap(paragraph, font, width)
        if len(lines) > self.most_lines:
            lines = [*lines[: self.most_lines - 1], f"{lines[self.most_lines - 1]}..."]
        return Lines(tuple(lines), font, round(self.size * 1.35))

    def drawable(self, text: str) -> tuple[Font, str]:
        """The first font that draws all of `text`; else Pillow's own, and the text with escapes."""
        own = _own_font(self.size)
        fonts = [own, *(font for name in self.fallbacks if (font := _installed(name, self.size)) is not None)]
        for font in fonts:
            if all(_draws(font, character) for character in set(text)):
                return font, text
        escaped = (c if _draws(own, c) else c.encode("unicode_escape").decode() for c in text)
        return own, "".join(escaped)


def _wrap(paragraph: str, font: Font, width: int) -> list[str]:
    lines, line = [], ""
    for piece in _PIECES.findall(paragraph):
        if font.getlength((line + piece).rstrip()) <= width:
            line += piece
            continue
        if line.strip():
            lines.append(line.rstrip())
        line = ""
        for character in piece.lstrip():  # a single word wider than the line is broken where it must be
            if line and font.getlength(line + character) > width:
                lines.append(line)
                line = ""
            line += character
    return [*lines, line.rstrip()] if line.strip() else lines


@functools.lru_cache(maxsize=8)
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=64)
def _installed(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _draws(font: Font, character: str) -> bool:
    """A font draws for a character it lacks what it draws for one that does not exist."""
    if character.isspace():
        return True
    glyph, nothing = font.getmask(character), font.getmask(_UNASSIGNED)
    return glyph.size != nothing.size or bytes(glyph) != bytes(nothing)
