"""Sprites: the shipped vocabulary, shapes, scaling, folders of pictures, and what happens without a font."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from huggingvis.core.errors import FileProblem, MissingExtra, UsageError
from huggingvis.data import artwork, emoji_sets
from huggingvis.data.artwork import Glyph, Look, colour_distance, premultiplied
from huggingvis.data.sprites import COLOURS, SpriteSet, contrast, from_folder, objects_v1, picture_look, shapes

needs_font = pytest.mark.skipif(
    artwork.emoji_font_path() is None, reason="no colour-emoji font installed (Debian: fonts-noto-color-emoji)"
)


def test_vocabulary_is_readable_without_a_font_and_complete() -> None:
    sprites = objects_v1()
    assert (len(sprites.pictures), len(sprites.shapes), len(COLOURS)) == (112, 8, 8)
    assert sprites.ids[0] == "fox" and sprites.index("cross") == 119
    for sprite in sprites.sprites:
        assert sprite.en.isascii() and all("\u4e00" <= c <= "\u9fff" or c == "T" for c in sprite.zh)
        assert len(sprite.measure) == 1 and sprite.plural and 0.4 < sprite.look.aspect < 2.5


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_name_belongs_to_two_sprites(language: str) -> None:
    names = [name.lower() for s in objects_v1().sprites for name in s.names(language)]
    assert len(names) == len(set(names))


def test_find_and_unknown_names() -> None:
    sprites = objects_v1()
    assert sprites.find("automobile") is sprites["car"] and sprites.find("比萨") is sprites["pizza"]
    assert sprites.find("unicorn") is None
    with pytest.raises(UsageError, match="'pizza'"):
        sprites["piza"]


def test_held_out_sprites_are_stable_and_near_the_fraction_asked() -> None:
    sprites = objects_v1()
    chosen = sprites.held_out(0.1)
    assert set(chosen) <= set(sprites.held_out(0.2)) and 5 <= len(chosen) <= 19
    assert len(sprites.without(chosen)) == 120 - len(chosen)
    assert sprites.only(chosen).ids == chosen


def test_a_set_refuses_one_id_twice() -> None:
    with pytest.raises(UsageError, match="circle"):
        SpriteSet("twice", (shapes()[0], shapes()[0]))


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", math.pi / 4),
        ("square", 1.0),
        ("triangle", 0.5),
        ("diamond", 0.5),
        ("cross", 5 / 9),
        ("ring", math.pi / 4 * (1 - artwork.RING_HOLE**2)),
    ],
)
def test_shapes_cover_their_exact_area(shape: str, area: float) -> None:
    drawn = artwork.Drawing(shape).alpha_or_rgba(64, 64)
    assert drawn.mean() / 255 == pytest.approx(area, abs=0.01)


def test_named_colours_are_far_apart() -> None:
    rgbs = [c.rgb for c in COLOURS.values()]
    least = min(colour_distance(a, b) for i, a in enumerate(rgbs) for b in rgbs[:i])
    assert least > 30  # 2.3 is just noticeable; blue and purple are the nearest
    assert contrast((((255, 0, 0), 0.5), ((0, 0, 255), 0.5)), ((255, 0, 0),)) == 0.5


def test_lab_knows_white_black_and_red() -> None:
    assert artwork.lab((255, 255, 255)) == pytest.approx((100, 0, 0), abs=0.02)
    assert artwork.lab((0, 0, 0)) == pytest.approx((0, 0, 0), abs=1e-6)
    assert artwork.lab((255, 0, 0)) == pytest.approx((53.24, 80.09, 67.20), abs=0.15)


@needs_font
def test_the_looks_table_agrees_with_the_font() -> None:
    for name in ("fox", "pizza", "giraffe", "cloud"):
        art = objects_v1()[name].art
        assert isinstance(art, artwork.Glyph)
        stored, measured = objects_v1()[name].look, picture_look(art)
        assert stored.aspect == pytest.approx(measured.aspect, rel=0.15)
        assert (stored.cells ^ measured.cells).bit_count() <= 12


@needs_font
def test_no_two_shipped_objects_look_alike() -> None:
    pictures = objects_v1().pictures
    assert len(emoji_sets.without_look_alikes(pictures)) == len(pictures)
    fox = objects_v1()["fox"]
    assert emoji_sets.without_look_alikes((fox, fox)) == (fox,)


@needs_font
def test_from_emoji_names_by_hand_first_then_by_the_package_and_drops_what_is_no_cell() -> None:
    found = emoji_sets.from_emoji(["🐱", "🦄", "👨‍👩‍👧x", "🐱"], "three")
    assert [(s.en, s.zh) for s in found.sprites] == [("cat", "猫"), ("unicorn", "独角兽")]


@needs_font
def test_scaling_keeps_colour_within_coverage() -> None:
    pixels = premultiplied(Glyph("🦊"), 24, 23, None)
    assert pixels.shape == (23, 24, 4) and pixels[..., 3].max() == 255
    assert int((pixels[..., :3].max(-1).astype(int) - pixels[..., 3]).max()) <= 1  # no fringe brighter than its alpha
    solid = pixels[pixels[..., 3] > 250][:, :3].mean(0)
    assert solid[0] > solid[1] > solid[2]  # a fox is orange


def test_without_a_font_names_work_and_drawing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artwork, "emoji_font_path", lambda: None)
    artwork.emoji_font.cache_clear()
    artwork._glyph.cache_clear()
    try:
        assert objects_v1()["fox"].zh == "狐狸"
        with pytest.raises(MissingExtra, match="fonts-noto-color-emoji"):
            premultiplied(Glyph("🦊"), 8, 8, None)
        assert premultiplied(artwork.Drawing("star"), 8, 8, (255, 0, 0)).shape == (8, 8, 4)
    finally:
        artwork.emoji_font.cache_clear()


def test_sprites_from_a_folder(tmp_path: Path) -> None:
    image = Image.new("RGBA", (40, 40))
    image.paste((200, 30, 30, 255), (10, 15, 30, 25))
    image.save(tmp_path / "red_bar.png")
    Image.new("L", (30, 20), 90).save(tmp_path / "slab.png")
    (tmp_path / "names.csv").write_text("name,en,zh\nslab,stone slab,石板\n", encoding="utf-8")
    found = from_folder(tmp_path)
    names = [(s.id, s.en, s.zh) for s in found.sprites]
    assert names == [("red_bar", "red bar", "red bar"), ("slab", "stone slab", "石板")]
    assert found["red_bar"].look.aspect == 2.0 and found["slab"].plural == "stone slabs"
    assert found["red_bar"].look.tones == (((200, 30, 30), 1.0),)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="found none"):
        from_folder(tmp_path)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(FileProblem, match=r"torn\.png"):
        from_folder(tmp_path)
    Image.new("RGBA", (4, 4)).save(tmp_path / "torn.png")
    with pytest.raises(FileProblem, match="transparent"):
        from_folder(tmp_path)


def test_cells_answer_where_a_sprite_is() -> None:
    look = Look(1.0, (), 1 << 63)
    assert look.covers(0.0, 0.0) and not look.covers(0.2, 0.0) and not look.covers(1.0, 0.0)
