"""The world: stated facts are true of its layouts, in both languages, reproducibly, whatever is asked of it."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from huggingvis.core.errors import UsageError
from huggingvis.core.layout import Background, Box, Layout, Relation, Thing
from huggingvis.core.layout_edits import Remove
from huggingvis.data.artwork import emoji_font_path
from huggingvis.data.captions import LANGUAGES, N_VARIANTS, RELATION_FORMS, article
from huggingvis.data.compose import Mix
from huggingvis.data.draws import Draws
from huggingvis.data.sprites import COLOURS, SpriteSet, objects_v1, shapes
from huggingvis.data.vocabulary import counts_beside_others, things_named
from huggingvis.data.world import CATEGORIES, World, combined, held_out

needs_font = pytest.mark.skipif(
    emoji_font_path() is None, reason="no colour-emoji font installed (Debian: fonts-noto-color-emoji)"
)
SHAPES = SpriteSet("shapes", shapes())
N = 400


@pytest.fixture(scope="module")
def layouts() -> list[Layout]:
    world = World(seed=3)
    return [world.layout(i) for i in range(N)]


def test_draws_are_splitmix64() -> None:
    draws = Draws("x")
    draws._state = 1234567
    first = int(draws.unit() * 2**53)
    assert first == 6457827717110365317 >> 11  # the published first output for this state


def test_reproducible_by_seed_and_index_alone(layouts: list[Layout]) -> None:
    again = World(seed=3)
    assert [again.layout(i) for i in (300, 7, 7)] == [layouts[300], layouts[7], layouts[7]]
    assert World(seed=4).layout(7) != layouts[7] and World(seed=3, split="test").layout(7) != layouts[7]
    assert pickle.loads(pickle.dumps(again)).layout(300) == layouts[300]


def test_layouts_are_the_same_on_every_machine() -> None:
    world = World()
    text = "\n".join(world.caption(world.layout(i), code) for i in range(40) for code in LANGUAGES)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "d0651c6aa9c90532"


def test_json_round_trip_and_bad_json(layouts: list[Layout]) -> None:
    assert all(Layout.from_json(layout.to_json()) == layout for layout in layouts[:100])
    with pytest.raises(UsageError, match="Expected a layout"):
        Layout.from_json('{"size": 64}')


def test_the_mix_of_scenes_is_the_one_asked_for() -> None:
    world = World(split="all", seed=1)
    seen = Counter(world.layout(i).category for i in range(1200))
    share = {name: n / 1200 for name, n in seen.items()}
    for name, wanted in {"single": 0.25, "position": 0.38, "two": 0.10, "three": 0.12, "count": 0.15}.items():
        assert share[name] == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 1200) ** 0.5)


def test_stated_relations_are_true_and_plain(layouts: list[Layout]) -> None:
    stated = [layout for layout in layouts if layout.relation]
    assert len({layout.relation.kind for layout in stated}) == 6
    for layout in stated:
        assert layout.relation is not None and layout.holds(layout.relation)
        if layout.relation.kind in ("left", "right", "above", "below"):
            (ax, ay), (bx, by) = (thing.box.centre for thing in layout.things)
            far, near = sorted((abs(ax - bx), abs(ay - by)), reverse=True)
            assert far >= 0.3 and far > 1.5 * near
            assert {r.kind for r in layout.relations()} <= {"left", "right", "above", "below"}


def test_things_keep_inside_the_canvas_and_recognisable(layouts: list[Layout]) -> None:
    for layout in layouts:
        for thing in layout.things:
            box, side = thing.box, 64 * max(thing.box.width, thing.box.height)
            assert min(box.x0, box.y0) >= 0 and max(box.x1, box.y1) <= 1
            assert 16 <= side <= 56.01
            assert (thing.size_word == "big") <= (side >= 27) and (thing.size_word == "small") <= (side <= 26)


@needs_font
def test_nothing_is_hidden_unless_said(layouts: list[Layout]) -> None:
    world = World(seed=3)
    for i, layout in enumerate(layouts):
        kind = layout.relation.kind if layout.relation else ""
        if len(layout.things) > 1 and (i < 150 or kind in ("inside", "behind")):
            least = {"behind": 0.55, "inside": 0.75}.get(kind, 0.9)
            seen = world.render(layout).visible()
            assert seen.min() >= least
            assert kind != "behind" or seen[0] < 0.98


def test_shapes_never_lie_on_their_own_colour(layouts: list[Layout]) -> None:
    from huggingvis.data.artwork import colour_distance

    for layout in layouts:
        for thing in layout.things:
            if thing.colour and not (layout.relation and layout.relation.kind == "inside"):
                assert thing.colour != layout.background.name
                worst = min(colour_distance(COLOURS[thing.colour].rgb, ground) for ground in layout.background.colours)
                assert worst > 25


def test_train_and_test_share_no_combination() -> None:
    train, test = World(), World(split="test")
    seen = {c for i in range(500) for c in combined(train.layout(i))}
    assert not any(map(held_out, seen))
    for i in range(120):
        layout = test.layout(i)
        assert len(layout.things) == 1 or any(map(held_out, combined(layout)))
    rate = np.mean([held_out(("pair", f"a{i}", f"b{i}")) for i in range(4000)])
    assert rate == pytest.approx(0.1, abs=0.02)
    assert held_out(("pair", "cat", "fox")) == held_out(("pair", "fox", "cat"))
    pairs = [("colour", s.id, c) for s in shapes() for c in COLOURS]
    assert 2 <= sum(map(held_out, pairs)) <= 12


def test_prompts_are_of_their_category() -> None:
    world = World(split="test")
    for category in CATEGORIES:
        found = world.prompts(category, 24, seed=5)
        assert found == world.prompts(category, 24, seed=5) != world.prompts(category, 24, seed=6)
        wanted = {"colour": "two"}.get(category, category)
        assert {layout.category for layout in found} == {wanted}
    assert {layout.relation.kind for layout in world.prompts("position", 12)} == set(RELATION_FORMS)
    assert all(any(t.colour for t in layout.things) for layout in world.prompts("colour", 24))
    names = Counter(layout.things[0].sprite for layout in world.prompts("single", 360))
    assert len(names) > 100  # 360 uniform draws of 120 miss six on average
    with pytest.raises(UsageError, match="'colour'"):
        world.prompts("color", 1)


@pytest.mark.parametrize(
    ("things", "relation", "ground", "en", "zh"),
    [
        ([("fox",)], None, None, "a fox", "一只狐狸"),
        ([("elephant", None, "big")], None, None, "a big elephant", "一头大大象"),
        (
            [("circle", "red", "big")],
            None,
            "orange",
            "a big red circle on an orange background",
            "在橙色背景上，一个红色的大圆形",
        ),
        ([("fox",), ("pizza",)], "left", None, "a fox to the left of a pizza", "一只狐狸在一块披萨的左边"),
        ([("apple",), ("fox",), ("car",)], None, None, "an apple, a fox and a car", "一个苹果、一只狐狸和一辆汽车"),
        ([("circle", "red")] * 3, None, None, "three red circles", "三个红色的圆形"),
        ([("dog",)] * 2, None, None, "two dogs", "两只狗"),
        ([("dog",), ("dog",), ("rose",)], None, None, "two dogs and a rose", "两只狗和一朵玫瑰"),
        (
            [("flying_saucer",), ("tree",), ("car",)],
            "behind",
            None,
            "a flying saucer behind a tree, and a car",
            "一个飞碟在一棵树的后面，还有一辆汽车",
        ),
    ],
)
def test_canonical_captions(things: list, relation: str | None, ground: str | None, en: str, zh: str) -> None:
    row = tuple(Thing(t[0], Box(0, 0, 1, 1), *t[1:]) for t in things)
    layout = Layout(64, Background("plain", ((0, 0, 0),), ground), row, Relation(relation, 0, 1) if relation else None)
    world = World()
    assert (world.caption(layout, "en"), world.caption(layout, "zh")) == (en, zh)


def test_every_phrasing_says_the_same_in_both_languages(layouts: list[Layout]) -> None:
    """Each sprite, colour, size and background word occurs in English exactly when it does in Chinese."""
    world = World(seed=3)
    for layout in layouts[:60]:
        texts = {code: {world.caption(layout, code, v) for v in range(N_VARIANTS)} for code in LANGUAGES}
        assert min(map(len, texts.values())) >= 12
        for v in range(N_VARIANTS):
            en, zh = world.caption(layout, "en", v), world.caption(layout, "zh", v)
            for thing in layout.things:
                sprite = world.sprites[thing.sprite]
                assert any(name in en for name in (*sprite.names("en"), sprite.plural))
                assert any(name in zh for name in sprite.names("zh"))
                assert thing.colour is None or (thing.colour in en and COLOURS[thing.colour].zh in zh)
                size = thing.size_word
                assert size is None or (size in en and {"small": "小", "big": "大"}[size] in zh)
            assert ("background" in en) == ("背景" in zh) == (layout.background.name is not None)


def test_forms_pair_up_and_articles_are_right() -> None:
    assert all(len(forms[code]) == 4 for forms in RELATION_FORMS.values() for code in LANGUAGES)
    spoken = {"apple": "an", "UFO": "a", "umbrella": "an", "owl": "an", "unicorn": "a", "hour": "an"}
    assert {word: article(word) for word in spoken} == spoken


def test_unknown_words_are_found_and_known_ones_are_not(layouts: list[Layout]) -> None:
    world = World(seed=3)
    for i, layout in enumerate(layouts):
        for code in LANGUAGES:
            assert world.unknown_words(world.caption(layout, code, i % N_VARIANTS)) == []
    assert world.unknown_words("a unicorn to the left of a pizza") == [("unicorn", ("horse", "zebra"))]
    assert world.unknown_words("一只独角兽在一块披萨的左边") == [("独角兽", ("马", "斑马"))]
    assert world.unknown_words("two foxs")[0][1][:2] == ("foxes", "fox")
    for typed, meant in (("dgo", "dog"), ("cta", "cat"), ("rde", "red"), ("dg", "dog"), ("pug", "pig"), ("tow", "two"),
                         ("abov", "above"), ("lft", "left"), ("thre", "three")):  # fmt: skip
        assert world.unknown_words(f"a {typed}")[0][1][0] == meant
    for typed in ("night", "bright", "witch", "these", "ok", "zz", "men"):
        assert world.unknown_words(typed) == [(typed, ())]
    assert world.unknown_words("asdf 嗄嗄") == [("asdf", ()), ("嗄嗄", ())]
    assert world.unknown_words("a unicorn 独角兽", "zh") == [("独角兽", ("马", "斑马"))]
    assert {"fox", "foxes", "behind", "red"} <= world.vocabulary_words("en") and "狐狸" in world.vocabulary_words("zh")


def test_things_that_a_sentence_names_and_counts_beside_others(layouts: list[Layout]) -> None:
    sprites = objects_v1()
    for i, layout in enumerate(layouts):
        for code in LANGUAGES:
            said = World(seed=3).caption(layout, code, i % N_VARIANTS)
            assert set(things_named(sprites, said)) == {thing.sprite for thing in layout.things}
            assert not counts_beside_others(sprites, said)
    for text in ("two cats and a dog", "2 dogs beside a cat", "两只猫和一只狗", "三个圆形在一只狗的左边",
                 "two red circles and a blue circle", "five dogs and a cat"):  # fmt: skip
        assert counts_beside_others(sprites, text)
    for text in ("two cats", "a cat and a dog", "一个三角形和一只狗", "三角形"):
        assert not counts_beside_others(sprites, text)


def test_small_vocabularies_draw_what_they_can() -> None:
    one = objects_v1().only(["fox"])
    world = World(sprites=one, split="all")
    assert {world.layout(i).category for i in range(40)} == {"single", "count"}
    with pytest.raises(UsageError, match="hardly any combination"):
        two = objects_v1().only(["fox", "cat"])
        World(sprites=two, split=_other("fox", "cat"), mix=Mix(0, 0, 1, 0, 0, 0, 0)).layout(0)


def _other(a: str, b: str) -> str:
    """The split that can never hold this pair."""
    return "train" if held_out(("pair", a, b)) else "test"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: World(split="validation"), "split"),
        (lambda: World(size=4), "16 to 2048"),
        (lambda: World().caption(World().layout(0), "fr"), "caption language"),
        (lambda: World(sprites=SHAPES).render(World(sprites=SHAPES).layout(0), 100_000), "16 to 2048"),
        (lambda: Relation("near", 0, 1), "relation"),
        (lambda: World().edit(World().layout(0), Remove(9)), "no thing 9"),
        (
            lambda: World(sprites=SHAPES).render(
                Layout(64, Background("plain", ((0, 0, 0),)), (Thing("star", Box(0, 0, 1, 1), "teal"),))
            ),
            "teal",
        ),
        (lambda: World(sprites=SHAPES).render(Layout(64, Background("plaid", ((0, 0, 0),)), ())), "background pattern"),
    ],
)
def test_mistakes_are_explained(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("lattice", [16, 8])
def test_on_a_lattice_corners_are_whole_and_sizes_few(lattice: int) -> None:
    world = World(lattice=lattice)
    layouts = [world.layout(i) for i in range(300)]
    boxes = [thing.box for layout in layouts for thing in layout.things]
    assert all((box.x0 * lattice).is_integer() and (box.y0 * lattice).is_integer() for box in boxes)
    assert all(box.x1 <= 1 + 1e-9 and box.y1 <= 1 + 1e-9 for box in boxes)
    assert len({round(max(box.width, box.height), 6) for box in boxes}) <= 8
    assert all(layout.holds(layout.relation) for layout in layouts if layout.relation)
    assert World().layout(5) != world.layout(5)  # the plain world stays as it was
    apart = [lay.things for lay in layouts if lay.relation is None or lay.relation.kind not in ("inside", "behind")]
    assert all(a.box.overlap(b.box) == 0 for things in apart for a, b in combinations(things, 2))
