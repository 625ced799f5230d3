"""Sentences as numbers of whole words come back as they were."""

from __future__ import annotations

import pytest
import torch

from huggingvis.codecs.text import TextTokenizer
from huggingvis.codecs.words import cut, learn_words, rows, sentences
from huggingvis.data.world import World


@pytest.mark.parametrize("language", ["en", "zh"])
def test_captions_come_back(language: str) -> None:
    world = World(size=32)
    texts = [world.caption(world.layout(i), language, i % 32) for i in range(300)]
    tokenizer = learn_words(texts, 4096, 40)
    ids = rows(tokenizer, texts)
    assert ids.shape == (300, 40) and int(ids.max()) < tokenizer.vocabulary < 400
    assert sentences(tokenizer, ids) == [text.lower() for text in texts]


def test_signs_stand_where_they_belong() -> None:
    texts = ["A well-known fox, isn't it?", "红色的圆，2只猫。", "route 66 has 25 dogs (big)"]
    tokenizer = learn_words(texts, 100, 20)
    assert sentences(tokenizer, rows(tokenizer, texts)) == [
        "a well-known fox, isn't it?",
        "红色的圆，2只猫。",
        "route 66 has 25 dogs (big)",
    ]


def test_a_sentence_ends_at_its_padding_and_what_is_rare_is_unknown() -> None:
    tokenizer = learn_words(["a fox", "a fox", "a cat"], 4, 5)
    assert tokenizer.vocabulary == 4  # padding, unknown, a, fox
    assert sentences(tokenizer, rows(tokenizer, ["a cat"])) == ["a [unk]"]
    assert sentences(tokenizer, torch.tensor([[2, 0, 3, 3, 3], [0, 2, 2, 2, 2]])) == ["a", ""]


def test_a_vocabulary_is_the_same_each_time_and_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    texts = [f"word{i % 7} word{i % 5}" for i in range(40)]
    one, two = learn_words(texts, 50, 4), learn_words(texts, 50, 4)
    path = tmp_path_factory.mktemp("words") / "words.json"
    one.save(path)
    again = TextTokenizer.load(path, 4)
    assert rows(one, texts).equal(rows(two, texts)) and rows(again, texts).equal(rows(one, texts))


def test_words_of_the_tokenizer_s_own_are_plain_words_in_a_text() -> None:
    tokenizer = learn_words(["a [pad] fox", "a [UNK]"], 10, 4)
    assert sentences(tokenizer, rows(tokenizer, ["a [pad] fox", "a [UNK]"])) == ["a pad fox", "a unk"]


def test_words_without_signs() -> None:
    assert cut("A fox, 25 dogs — 红色的圆！") == ["a", "fox", "25", "dogs", "红", "色", "的", "圆"]
