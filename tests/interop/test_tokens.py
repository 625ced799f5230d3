"""Tokenizers against the ids of the original programs and against transformers, over texts of every kind."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch
import transformers

from huggingvis.codecs.bert_tokens import BERTTokens
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.codecs.t5_tokens import T5Tokens
from huggingvis.core.errors import FileProblem

DATA = Path(os.environ.get("HUGGINGVIS_TESTDATA", "/nowhere")) / "tokenizers"
has_data = pytest.mark.skipif(not DATA.is_dir(), reason="HUGGINGVIS_TESTDATA is not set: no tokenizer files")
LETTERS = (
    "abc XYZ 's 't 're  ,.!?-_()[]<>#@", "猫犬写真的大きな 한국어", "éèêëñçøåßİıſǅ", "😀🐱👩‍👩‍👧‍👦🏳️‍🌈", "0123456789½²٣",
    "\t\n\r\x00\x07\x1b\x85\u00a0\u2003\u200b\u3000\ufeff", "\u0301\u0308e\u0301a\u030a", "’“”–—…™", "مرحبا שלום नमस्ते",
)  # fmt: skip
WORDS = (
    "<|endoftext|>",
    "<|startoftext|>",
    "<|EndOfText|>",
    "'LL",
    "don't",
    "I'M",
    "photo of a cat",
    "https://a.b/c_1.png",
)


def texts(n: int) -> list[str]:
    """Empty, very long, and `n` random ones of letters that tokenizers disagree about."""
    rng = random.Random(0)
    pick = lambda: rng.choice(WORDS) if rng.random() < 0.05 else rng.choice(rng.choice(LETTERS))  # noqa: E731
    mixed = ["".join(pick() for _ in range(rng.randrange(40))) for _ in range(n)]
    return ["", " ", "\x00", "a " * 3000, "a" * 3000, "猫" * 300, "😀" * 200, *mixed]


def expected(folder: str) -> list[tuple[str, list[int]]]:
    return [(row["text"], row["ids"]) for row in json.loads((DATA / folder / "expected_ids.json").read_text())]


@pytest.fixture(scope="module")
def bundled() -> CLIPTokens:
    return CLIPTokens.bundled()


@has_data
def test_clip_ids_are_those_of_the_original(bundled):
    of_folder = CLIPTokens.load(DATA / "clip" / "hf")
    assert (of_folder.start, of_folder.end, of_folder.pad, of_folder.length) == (49406, 49407, 49407, 77)
    for text, ids in expected("clip"):
        assert bundled.pieces(text) == ids == of_folder.pieces(text), text


@has_data
def test_the_bundled_vocabulary_is_that_of_the_folder(bundled):
    of_folder = CLIPTokens.load(DATA / "clip" / "hf")
    assert bundled.vocabulary.ids == of_folder.vocabulary.ids
    assert bundled.vocabulary.merges == of_folder.vocabulary.merges
    assert (bundled.size, len(bundled.vocabulary.merges)) == (49408, 48894)


@has_data
def test_clip_ids_equal_transformers(bundled):
    theirs = transformers.CLIPTokenizer.from_pretrained(str(DATA / "clip" / "hf"))
    all_texts = texts(600)
    want = theirs(all_texts, add_special_tokens=False)["input_ids"]
    assert [text for text, ids in zip(all_texts, want) if bundled.pieces(text) != ids] == []
    rows = theirs(all_texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")["input_ids"]
    assert torch.equal(bundled.ids(all_texts), rows)


def test_openclip_pads_with_zero_and_reads_an_exclamation_mark(tmp_path, bundled):
    tokens = CLIPTokens.bundled(pad="!")
    row = tokens.ids(["a cat!"])[0].tolist()
    assert row == [49406, 320, 2368, 256, 49407, *[0] * 72]
    again = CLIPTokens.load(tokens.save(tmp_path))
    assert again.pad == 0 and again.ids(["a cat!"])[0].tolist() == row
    assert bundled.ids(["a cat!"])[0].tolist() == row[:5] + [49407] * 72


def test_transformers_reads_a_written_folder_and_its_tokenizer_json_is_read(tmp_path, bundled):
    bundled.save(tmp_path / "ours")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path / "ours"))
    sample = texts(50)
    assert theirs(sample, add_special_tokens=False)["input_ids"] == [bundled.pieces(text) for text in sample]
    theirs.add_tokens(["<cat-toy>"])
    theirs.save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs" / "vocab.json").exists()
    again = CLIPTokens.load(tmp_path / "theirs")
    assert again.vocabulary == bundled.vocabulary and again.words == {"<cat-toy>": (49408,)} and again.size == 49409
    text = "a photo of <cat-toy>, on a table"
    assert again.pieces(text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_what_is_cut_off_is_told(bundled):
    assert bundled.fits("cat " * 75) and bundled.overflow("cat " * 75) == ""
    assert not bundled.fits("cat " * 76) and bundled.overflow("cat " * 75 + "dog, red") == "dog, red"
    assert bundled.overflow("cat " * 74 + "supercalifragilistic end") == "supercalifragilistic end"
    assert bundled.overflow("a" * 3000) == "a" * 3000
    assert bundled.ids(["cat " * 90])[0].tolist() == [49406, *[2368] * 75, 49407]


def test_words_of_their_own_stand_alone(bundled):
    tokens = bundled.with_words({"Sks Style": (50000, 50001), "sks": (50002,), "<x>": (50003,), "straße": (50004,)})
    assert tokens.pieces("sks style, SKS skss <X><x>") == [
        50000,
        50001,
        267,
        50002,
        *bundled.pieces("skss"),
        50003,
        50003,
    ]
    assert tokens.pieces("Straße sKs") == [50004, 50002] and tokens.size == 50005
    assert tokens.pieces("masks sks_1") == bundled.pieces("masks sks_1")


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({}, "no vocab.json"),
        ({"vocab.json": "{", "merges.txt": ""}, "should be JSON"),
        ({"vocab.json": "[]", "merges.txt": ""}, "JSON table"),
        ({"vocab.json": '{"a": 0}'}, "no merges.txt"),
        ({"vocab.json": '{"a": 0}', "merges.txt": ""}, "startoftext"),
        ({"vocab.json": '{"a": "0"}', "merges.txt": ""}, "an id that is no number"),
        ({"vocab.json": '{"<|startoftext|>": 0, "<|endoftext|>": 1}', "merges.txt": "a b c"}, "two pieces"),
        ({"vocab.json": '{"<|startoftext|>": 0, "<|endoftext|>": 1}', "merges.txt": "a b"}, "do not belong"),
        ({"tokenizer.json": "{}", "vocab.json": "\udcff"}, "UTF-8"),
        ({"tokenizer.json": '{"model": 3}'}, "not what they should be"),
        ({"tokenizer.json": '{"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}'}, "not what they should be"),
        ({"tokenizer.json": "[" * 100_000}, "should be JSON"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused_in_words(tmp_path, files, word):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FileProblem, match=word) as caught:
        CLIPTokens.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@has_data
def test_t5_ids_are_those_of_sentencepiece():
    tokens = T5Tokens.load(DATA / "t5")
    for text, pieces in expected("t5"):
        assert tokens.pieces(text) == pieces, text
    ids, mask = tokens.ids(["a cat", "", "cat " * 90], 8)
    cat = tokens.pieces("cat")
    assert ids.tolist() == [[3, 9, 1712, 1, 0, 0, 0, 0], [1, *[0] * 7], [*(cat * 9)[:7], 1]]
    assert mask.sum(1).tolist() == [4, 1, 8] and mask.dtype == torch.bool
    assert tokens.fits("cat " * 7, 8) and tokens.overflow("cat " * 7, 8) == ""
    assert not tokens.fits("cat " * 8, 8) and tokens.overflow("cat " * 7 + "fox", 8) == "fox"


@has_data
def test_t5_ids_equal_transformers_and_its_tokenizer_json_is_read(tmp_path):
    theirs = transformers.T5Tokenizer.from_pretrained(str(DATA / "t5"))
    theirs.save_pretrained(tmp_path)
    tokens, fast = T5Tokens.load(DATA / "t5"), T5Tokens.load(tmp_path)
    sample = [text for text in texts(400) if "<|" not in text]
    want = theirs(sample, add_special_tokens=False)["input_ids"]
    assert [text for text, ids in zip(sample, want) if fast.pieces(text) != ids] == []
    # The reference is SentencePiece; transformers' own program takes U+0085 for a space and loses some bare accents.
    alike = [(text, ids) for text, ids in zip(sample, want) if not {"\x85", "\u0301", "\u0308", "\u030a"} & {*text}]
    assert len(alike) > 100
    assert [text for text, ids in alike if tokens.pieces(text) != ids] == []


def test_bert_ids_equal_transformers(tmp_path):
    letters = sorted({letter for text in texts(200) for letter in text.lower() if letter.isalnum()})
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *",.!?-_()[]<>#@'",
        "photo",
        "##s",
        "of",
        "cat",
        *letters,
    ]
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabulary, *(f"##{letter}" for letter in letters)]) + "\n")
    ours, theirs = BERTTokens.load(tmp_path), transformers.BertTokenizer.from_pretrained(str(tmp_path))
    sample = [*texts(300), "Photos of CATS, [MASK] and [SEP]"]
    want = theirs(sample, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    ids, mask = ours.ids(sample)
    assert torch.equal(ids, want["input_ids"]) and torch.equal(mask, want["attention_mask"].bool())
    assert ours.overflow("cat " * 75 + "photo") == "photo" and ours.fits("cat " * 75)


@pytest.mark.parametrize(
    ("tokens", "name", "content", "word"),
    [
        (T5Tokens, "spiece.model", b"", "no SentencePiece model"),
        (T5Tokens, "spiece.model", b"\x00garbage" * 50, "no SentencePiece model"),
        (T5Tokens, "tokenizer.json", b"{}", "no tokenizer"),
        (T5Tokens, "tokenizer.json", b"\xff", "no tokenizer"),
        (T5Tokens, "readme.md", b"", "no T5 tokenizer in"),
        (BERTTokens, "vocab.txt", b"[PAD]\n[UNK]\n", "CLS"),
        (BERTTokens, "vocab.txt", b"\xff\xfe", "should be text"),
        (BERTTokens, "readme.md", b"", "no BERT vocabulary"),
    ],
)
def test_damaged_t5_and_bert_files_are_refused_in_words(tmp_path, tokens, name, content, word):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileProblem, match=word):
        tokens.load(tmp_path)


@has_data
def test_a_cut_sentencepiece_model_is_refused(tmp_path):
    (tmp_path / "spiece.model").write_bytes((DATA / "t5" / "spiece.model").read_bytes()[:5000])
    with pytest.raises(FileProblem, match="no SentencePiece model|no T5 tokenizer"):
        T5Tokens.load(tmp_path)


def test_the_tokenizer_of_another_model_is_refused_as_t5(tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(FileProblem, match="belongs to another kind of model"):
        T5Tokens.load(tmp_path)
