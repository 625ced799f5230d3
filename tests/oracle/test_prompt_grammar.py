"""The prompt language: printing gives the text back, schedules and weights are the web UI's, odd things pointed at."""

from __future__ import annotations

import math
import random

import pytest

from huggingvis.codecs.prompt_grammar import parse
from huggingvis.codecs.prompt_passes import in_second_pass
from huggingvis.codecs.prompt_problems import PromptProblem
from huggingvis.codecs.prompt_script import Reading, Span, Steps, script, weighed
from huggingvis.codecs.prompt_tree import Alternating, Break, Extra, Part, Prompt, Scheduled, Weighted, Words

LETTERS = (
    "a", "cat", " ", ", ", "(", ")", "[", "]", "(", ")", "[", "]", ":", ":0.5", ":3", ":1.2)", ":7]", "|", "\\(", "\\",
    " BREAK ", " AND ", "<lora:x:1>", "<", "AND", "猫", "（", ":c:", "\n", "{", "}",
)  # fmt: skip


def nested(chance: random.Random, depth: int) -> str:
    """A text in which every bracket has its other half."""
    kind = chance.random()
    if depth == 0 or kind < 0.3:
        return chance.choice(["a", "red fox", ", ", "x\\(y\\)", "一只猫", "b\\]", " BREAK ", "<lora:ink:0.8>", "fe"])
    if kind < 0.45:
        return nested(chance, depth - 1) + nested(chance, depth - 1)
    if kind < 0.6:
        return f"({nested(chance, depth - 1)}{chance.choice(['', ':1.2', ': 0.8 ', ':.5', ':-1'])})"
    if kind < 0.7:
        return f"[{nested(chance, depth - 1)}]"
    if kind < 0.85:
        before = chance.choice(["", ":", f"{nested(chance, depth - 1)}:"])
        return f"[{before}{nested(chance, depth - 1)}:{chance.choice(['3', '0.5', ' .25', '7 ', '99', '0', '1.0'])}]"
    return f"[{'|'.join(nested(chance, depth - 1) for _ in range(chance.randint(2, 4)))}]"


def test_what_is_printed_is_what_was_read() -> None:
    chance = random.Random(6)
    kinds = set()
    for _ in range(4000):
        text = " AND ".join(nested(chance, 4) for _ in range(chance.choice([1, 1, 2])))
        tree = parse(text)
        assert str(tree) == text and parse(str(tree)) == tree
        kinds |= {type(node) for node in script(text).nodes()}
    assert kinds == {Words, Weighted, Scheduled, Alternating, Break, Extra}
    for _ in range(4000):
        text = "".join(chance.choice(LETTERS) for _ in range(chance.randint(0, 14)))
        assert str(parse(text)) == text == str(parse(text, conjunctions=False))


def test_the_tree() -> None:
    a, b, c = ((Words(letter),) for letter in "abc")
    assert parse("a") == Prompt((Part(a),))
    found = parse("(a)[b](c:1.25)").parts[0].body
    assert found == (Weighted("(", a), Weighted("[", b), Weighted("(", c, ":1.25"))
    assert [node.weight for node in found] == [1.1, 1 / 1.1, 1.25]
    assert parse("[a:b:0.5][b:3][a::.5]").parts[0].body == (
        Scheduled(a, b, "0.5"), Scheduled(None, b, "3"), Scheduled(a, (), ".5"),
    )  # fmt: skip
    assert parse("[a|b|(c)]").parts[0].body == (Alternating((a, b, (Weighted("(", c),))),)
    assert parse("a :1.2 AND b") == Prompt((Part((Words("a"),), " :1.2", (Words(" "),)), Part((Words(" b"),))))
    assert [part.strength for part in parse("a :1.2 AND b:-.5 <lora:x:1>").parts] == [1.2, -0.5]
    assert parse("<lora:ink:0.8>").parts[0].body == (Extra("lora", "ink:0.8"),)
    assert parse("(a|b:c)").parts[0].body == (Weighted("(", (Words("a|b:c"),)),)
    assert parse("a AND b", conjunctions=False).parts[0].body == (Words("a AND b"),)


SCHEDULES = [  # of ten steps: until which step each text holds; the facts that the web UI's own examples state
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("a [{b|d{:.5] c", [(5, "a  c"), (10, "a {b|d{ c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a|(b:1.1)]", [(n, "a" if n % 2 else "(b:1.1)") for n in range(1, 11)]),
    ("[fe|]male", [(n, "female" if n % 2 else "male") for n in range(1, 11)]),
    ("[fe|||]male", [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")]),
    ("[a:b:1.0] [c:d:0] [e:f:99]", [(10, "a d e")]),
]


def held(text: str, steps: Steps) -> list[tuple[int, str]]:
    read = script(text)
    found: dict[int, str] = {}
    last = None
    for step in range(1, steps.total + 1):
        (now,) = read.texts(step, steps)
        if found and now == last:
            found.pop(step - 1)
        found[step], last = now, now
    return list(found.items())


@pytest.mark.parametrize(("text", "until"), SCHEDULES, ids=[text for text, _ in SCHEDULES])
def test_schedules_of_the_web_ui(text: str, until: list[tuple[int, str]]) -> None:
    assert held(text, Steps(10)) == until


def test_the_first_example_of_the_web_ui() -> None:
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
        "[ in background:0.25] [shoddy:masterful:0.5]"
    )
    start = "fantasy landscape with a"
    assert held(text, Steps(100)) == [
        (25, f"{start} mountain and an oak in foreground shoddy"),
        (50, f"{start} lake and an oak in foreground in background shoddy"),
        (60, f"{start} lake and an oak in foreground in background masterful"),
        (75, f"{start} lake and an oak in background masterful"),
        (100, f"{start} lake and a christmas tree in background masterful"),
    ]


def test_a_second_pass_goes_on_from_the_first() -> None:
    second = Steps(10, before=10)
    assert held("a [b:.5] c", second) == [(10, "a b c")]
    assert held("a [b:1.5] c", second) == [(5, "a  c"), (10, "a b c")]
    assert held("a [b:13] c", second) == [(3, "a  c"), (10, "a b c")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a [red:blue:0.5] fox", "a blue fox"),
        ("a [red:blue:1.5] fox", "a [red:blue:5] fox"),
        ("a [red:blue:15] (fox:1.2)", "a [red:blue:5] (fox:1.2)"),
        ("a [fox::0.3] [in snow:1.2] AND [old|[new:odd:7]] :0.5", "a  [in snow:1] AND [old|odd] :0.5"),
        ("a [red:blue:2.5] fox BREAK <lora:ink:1>", "a red fox BREAK <lora:ink:1>"),
        ("plain (words)", "plain (words)"),
    ],
)
def test_what_the_second_pass_reads_is_a_prompt_of_its_own(text: str, left: str) -> None:
    passes = Steps(10, before=10)
    assert in_second_pass(text, passes) == left
    for step in range(1, 11):
        assert [said.reading for said in script(left).at(step, Steps(10))] == [
            said.reading for said in script(text).at(step, passes)
        ]


WEIGHTS = [  # facts that the web UI's own examples state
    ("normal text", [("normal text", 1.0)]),
    ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    ("\\(literal\\]", [("(literal]", 1.0)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    ("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
     [("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
      ("sky", 1.4641), (".", 1.1)]),
    ("a) b]", [("a) b]", 1.0)]),
    ("(a: 2 )", [("a", 2.0)]),
    ("(a [b) c]", [("a ", 1.1), ("b", 1.0), (" c", 1 / 1.1)]),
    ("(a:-0.5)", [("a", -0.5)]),
    ("16:9", [("16:9", 1.0)]),
    ("（红色:1.3）(红色:1.3)", [("（红色:1.3）", 1.0), ("红色", 1.3)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "spans"), WEIGHTS, ids=[text for text, _ in WEIGHTS])
def test_weights_of_the_web_ui(text: str, spans: list[tuple[str, float]]) -> None:
    (section,) = weighed(text).sections
    assert [span.text for span in section] == [words for words, _ in spans]
    for span, (_, weight) in zip(section, spans, strict=True):
        assert math.isclose(span.weight, weight, rel_tol=1e-12)


def test_break_begins_a_section_in_brackets_too() -> None:
    one, two = weighed("a BREAK b").sections
    assert (one, two) == ((Span("a"),), (Span("b"),))
    one, two = weighed("(a BREAK b:1.5)").sections
    assert (one, two) == ((Span("a", 1.5),), (Span("b", 1.5),))
    assert weighed("a BREAK").sections == ((Span("a"),), (Span(""),))
    assert weighed("BREAKFAST") == Reading.of("BREAKFAST")


def test_what_steps_of_a_walk_read() -> None:
    steps, read = Steps(4), script("[a:b:0.5] AND [c|d] :0.5")
    walked = [[(s.reading.text.strip(), s.weight) for s in read.walked(i, steps)] for i in range(4)]
    assert walked == [
        [("a", 1.0), ("c", 0.5)], [("a", 1.0), ("c", 0.5)], [("a", 1.0), ("d", 0.5)], [("b", 1.0), ("c", 0.5)],
    ]  # fmt: skip
    changes = script("x [a:b:3]").changes(Steps(10))
    assert [(first, said[0].reading.text) for first, said in changes] == [(1, "x a"), (4, "x b")]


def test_tags_are_no_words() -> None:
    read = script("(a <lora:ink:0.8> fox:1.2) <lyco:x:1:0.5>")
    assert [(tag.kind, tag.name) for tag in read.extras] == [("lora", "ink"), ("lyco", "x")]
    assert read.at(1, Steps(1))[0].reading.sections == ((Span("a  fox", 1.2), Span(" ")),)
    assert parse("<lora:a AND b:1> c").parts[0].body[0] == Extra("lora", "a AND b:1")


def test_without_emphasis_brackets_are_letters() -> None:
    said = script("a (red:1.5) [x:y:0.5] BREAK", "none").at(5, Steps(4))
    assert said[0].reading == Reading.of("a (red:1.5) y BREAK")


def marked(note: str) -> str:
    """The letter that a note points at."""
    *_, shown, mark = note.splitlines()
    return shown[mark.index("^")]


@pytest.mark.parametrize(
    ("text", "letter", "words"),
    [
        ("a (fox", "(", "never closed: all that follows is weighted by 1.1"),
        ("a [fox:cat:0.5", "[", "never closed"),
        ("a fox)", ")", "closes nothing"),
        ("(a [b) c]", "(", "crosses another one"),
        ("a photo, 16:9", ":", "weighs the whole prompt"),
        ("a <lora:ink:0.8", "<", "has no end"),
        ("a [x:y:30]", "[", "never comes: there are 20 steps"),
        ("a [x:y:soon]", "[", "changes nothing: 'soon' is no number of steps"),
    ],
)
def test_odd_things_are_pointed_at(text: str, letter: str, words: str) -> None:
    notes = script(text).notes(Steps(20))
    assert words in notes[0] and marked(notes[0]) == letter


def test_what_comes_in_a_second_pass_is_not_called_never() -> None:
    first, again = Steps(20), Steps(10, before=20)
    assert script("a [x:y:1.5]").notes(first, again) == ()
    assert "there are 20 steps." in script("a [x:y:1.5]").notes(first)[0]
    assert "there are 20 steps and then 10 steps" in script("a [x:y:40]").notes(first, again)[0]


@pytest.mark.parametrize("text", ["a cat", "(a) [b] [c:d:.5] [e|f] \\( g <lora:x:1> h AND i :0.5", "a｜b （c）", ":)"])
def test_nothing_is_said_of_what_is_plain(text: str) -> None:
    notes = script(text).notes(Steps(20))
    assert not notes or text == ":)"


def test_what_has_no_reading_is_refused() -> None:
    with pytest.raises(PromptProblem, match=r"'1\.2\.3' was found") as refused:
        script("a (cat:1.2.3) dog")
    assert refused.value.at == 7 and marked(str(refused.value)) == "1"
    with pytest.raises(PromptProblem, match="more than 100 deep"):
        script("(" * 5000)
    assert script("(" * 100 + "a" + ")" * 100).at(1, Steps(1))[0].reading.sections[0][0].weight > 1e4


def test_the_mark_stands_under_wide_letters() -> None:
    *_, shown, mark = script("一只(红色的狐狸").notes()[0].splitlines()
    assert shown == "    一只(红色的狐狸" and mark == "        ^"
