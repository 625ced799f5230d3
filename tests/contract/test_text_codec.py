"""The tokenizer that is learnt from captions: both scripts, padding, unknown signs, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from huggingvis.codecs.text import TextTokenizer
from huggingvis.core.errors import FileProblem

CAPTIONS = ["a fox to the left of a pizza", "a pizza above a fox", "一只狐狸在一块披萨的左边", "三个红色的圆形"] * 20


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.learn(CAPTIONS, vocabulary=300, length=12)


def test_frequent_words_are_one_id_and_chinese_signs_one_each(tokenizer: TextTokenizer) -> None:
    assert (tokenizer.ids(["fox"]) != 0).sum() == 1
    assert (tokenizer.ids(["披萨的左边"]) != 0).sum() == 5


def test_rows_are_padded_with_zero_and_cut_at_the_length(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.ids(["fox", "a pizza above a fox", ""])
    assert ids.shape == (3, 5)
    assert ids[0, 1:].tolist() == [0, 0, 0, 0] and ids[2].tolist() == [0] * 5
    long = "a fox " * 20
    assert tokenizer.ids([long]).shape == (1, 12) and not tokenizer.fits(long)
    assert tokenizer.ids([]).shape[0] == 0


def test_case_and_width_do_not_matter_and_unknown_signs_are_id_one(tokenizer: TextTokenizer) -> None:
    assert tokenizer.ids(["A FOX"]).tolist() == tokenizer.ids(["a fox"]).tolist()
    assert tokenizer.ids(["ａ ｆｏｘ"]).tolist() == tokenizer.ids(["a fox"]).tolist()
    assert tokenizer.ids(["龘"]).tolist() == [[1]]


def test_saved_and_loaded_it_says_the_same(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = TextTokenizer.load(tmp_path / "tokenizer.json", length=12)
    assert again.ids(CAPTIONS[:4]).tolist() == tokenizer.ids(CAPTIONS[:4]).tolist()
    assert again.vocabulary == tokenizer.vocabulary


def test_a_missing_or_damaged_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="There is no tokenizer"):
        TextTokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"half": ')
    with pytest.raises(FileProblem, match="is no tokenizer"):
        TextTokenizer.load(tmp_path / "tokenizer.json")


def test_the_same_captions_teach_the_same_tokenizer() -> None:
    """Ids in another order would make every training of a text encoder another one, whatever its seed."""
    learnt = {TextTokenizer.learn(CAPTIONS, vocabulary=300).engine.to_str() for _ in range(5)}
    assert len(learnt) == 1
