"""Contact sheets: every picture in its place, labels and captions outside, letters of every language."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.export.grid import Sheet, contact_sheet
from huggingvis.export.image import save
from huggingvis.export.lettering import Lettering


def plain(value: int, size: int = 8) -> Picture:
    return Picture(np.full((size, size, 3), value, dtype=np.uint8))


def test_contact_sheet_puts_every_picture_in_its_place():
    sheet = contact_sheet([plain(v) for v in (10, 20, 30, 40, 50)], Sheet(columns=2, cell=16, gap=4))
    assert sheet.pixels.shape == (3 * 20 + 4, 2 * 20 + 4, 3)
    for i, value in enumerate((10, 20, 30, 40, 50)):
        y, x = 4 + 20 * (i // 2), 4 + 20 * (i % 2)
        assert (sheet.pixels[y : y + 16, x : x + 16] == value).all()
        assert (sheet.pixels[y - 1, x : x + 16] == 255).all()
    assert (sheet.pixels[44:60, 24:40] == 255).all()  # the sixth place is empty
    assert contact_sheet([plain(0)] * 9, Sheet(gap=0)).size == (24, 24)  # as square as possible
    clear = Picture(np.zeros((8, 8, 4), dtype=np.uint8))
    assert (contact_sheet([clear], Sheet()).pixels == 255).all()


def test_contact_sheet_labels_and_captions_are_drawn_outside_the_pictures(tmp_path):
    style = Sheet(cell=64, row_labels=("seed 1", "seed 2"), column_labels=("DDIM", "Heun"))
    captions = ["a fox to the left of a pizza", "", "两只狐狸", "x"]
    sheet = contact_sheet([plain(200)] * 4, style, captions)
    bare = contact_sheet([plain(200)] * 4, Sheet(cell=64, columns=2))
    assert (sheet.pixels == 200).all(axis=2).sum() >= (bare.pixels == 200).all(axis=2).sum() == 4 * 64 * 64
    assert (sheet.pixels < 100).any() and not (bare.pixels < 100).any()
    assert sheet.size[0] > bare.size[0] and sheet.size[1] >= bare.size[1] + 3 * 19  # a caption of several lines
    assert open_picture(save(sheet, tmp_path / "sheet.png")).size == sheet.size


@pytest.mark.parametrize(
    ("count", "style", "captions", "message"),
    [
        (0, Sheet(), (), "needs a picture"),
        (4, Sheet(columns=2, row_labels=("a",)), (), "takes 2 row labels; found 1"),
        (4, Sheet(columns=3, column_labels=("a", "b")), (), "takes 3 column labels; found 2"),
        (4, Sheet(), ("a",), "takes 4 captions; found 1"),
        (4, Sheet(cell=100_000), (), "smaller cell"),
    ],
)
def test_contact_sheets_that_cannot_be(count, style, captions, message):
    with pytest.raises(UsageError, match=message):
        contact_sheet([plain(0)] * count, style, captions)


def test_lettering_wraps_to_the_width_and_escapes_what_no_font_draws():
    letters = Lettering(14, fallbacks=(), most_lines=3)
    text = letters.set("a fox to the left of a pizza", 70)
    assert len(text.lines) >= 2 and text.width <= 70 and " ".join(text.lines) == "a fox to the left of a pizza"
    broken = letters.set("w" * 20, 50)
    assert broken.width <= 50 + 3 * 14 and broken.lines[-1].endswith("...") and len(broken.lines) == 3
    assert letters.drawable("狐 fox")[1] == "\\u72d0 fox"
    assert letters.drawable("\U0001f98a")[1] == "\\U0001f98a"


def test_lettering_uses_the_first_font_that_draws_everything():
    known = Lettering(14, fallbacks=("no such font.ttf", "DejaVuSans.ttf"))
    font, text = known.drawable("Жук")
    if text != "Жук":
        pytest.skip("the font DejaVu Sans is not installed")
    assert font.getname() == ("DejaVu Sans", "Book")
    assert known.drawable("fox")[0].getname() != ("DejaVu Sans", "Book")


def test_lettering_uses_an_installed_font_for_chinese(tmp_path: Path):
    font, text = Lettering(14).drawable("狐狸")
    if text != "狐狸":
        pytest.skip("no font with Chinese is installed")
    first, second = (bytes(font.getmask(character)) for character in text)
    assert first != second
