"""Textual inversions: every form is read, hostile files are refused, and a prompt is read as diffusers reads it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from diffusers.loaders import TextualInversionLoaderMixin
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from huggingvis.adapters.textual_inversion import Embedding, TextualInversions, misfit
from huggingvis.checkpoints.embedding_formats import (
    bundled_embeddings,
    load_embeddings,
    save_diffusers,
    save_kohya,
)
from huggingvis.checkpoints.embedding_pictures import scramble
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.core.errors import FileProblem, NumericalTrouble, UsageError

DATA = Path(os.environ.get("HUGGINGVIS_TESTDATA", "/nowhere")) / "weights" / "textual_inversion"
has_data = pytest.mark.skipif(not DATA.is_dir(), reason="HUGGINGVIS_TESTDATA is not set: no embeddings of others")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Tower(nn.Module):
    """The part of a text tower that is asked."""

    def __init__(self, width: int, seed: int = 0):
        super().__init__()
        self.token = nn.Embedding.from_pretrained(numbers(49408, width, seed=seed))

    def embed(self, ids: Tensor) -> Tensor:
        return self.token(ids)


@pytest.fixture(scope="module")
def tokens() -> CLIPTokens:
    return CLIPTokens.bundled()


def a1111(vectors: Tensor, word: str = "*", **more: Any) -> dict[str, Any]:
    return {
        "string_to_token": {word: 265}, "string_to_param": {word: vectors}, "name": "inside", "step": 500,
        "sd_checkpoint": "abcdef12", "sd_checkpoint_name": None, **more,
    }  # fmt: skip


def as_json(table: dict[str, Any]) -> bytes:
    return json.dumps(table, default=lambda tensor: {"TORCHTENSOR": tensor.tolist()}).encode()


def chunk_card(path: Path, table: dict[str, Any]) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(as_json(table)).decode())
    Image.new("RGB", (64, 64), (200, 100, 50)).save(path, pnginfo=info)


def scrambled(count: int) -> list[int]:
    x, out = 0, []
    for _ in range(count):
        x = (1664525 * x + 1013904223) % 2**32
        out.append(x % 255 & 15)
    return out


def pixel_card(path: Path, table: dict[str, Any], height: int = 64) -> None:
    """A card as A1111 draws it, number by number; the pattern it prints over the high bits is stood in for by noise."""
    data = np.frombuffer(zlib.compress(as_json(table), 9), np.uint8)
    data = np.resize(data, -(-len(data) // (3 * height)) * 3 * height)  # filled up by repeating
    noise = np.random.default_rng(0).integers(1, 16, data.shape, dtype=np.uint8) << 4
    stream = np.array(scrambled(len(data)), np.uint8)
    low, high = ((part ^ stream | noise).reshape(height, -1, 3) for part in (data & 15, data >> 4))
    picture = np.random.default_rng(1).integers(1, 256, (height, 40, 3), dtype=np.uint8)
    black = np.zeros((height, 1, 3), np.uint8)
    Image.fromarray(np.concatenate([low, black, picture, black, high], axis=1)).save(path)


def diffusers_bin(path: Path, vectors: Tensor) -> None:
    torch.save({"<cat-toy>": vectors}, path)


def first_program(path: Path, vectors: Tensor) -> None:
    table = nn.ParameterDict({"*": nn.Parameter(vectors)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": table}, path)


def old_layout(path: Path, vectors: Tensor) -> None:
    torch.save(a1111(vectors), path, _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[Path, Tensor], object]] = {
    "a1111.pt": lambda path, v: torch.save(a1111(v), path),
    "a1111_old.pt": old_layout,
    "a1111_trained.pt": lambda path, v: torch.save(a1111(nn.Parameter(v)), path),
    "first_program.pt": first_program,
    "chunk.png": lambda path, v: chunk_card(path, a1111(v)),
    "pixels.png": lambda path, v: pixel_card(path, a1111(v)),
    "kohya.safetensors": lambda path, v: save_file({"emb_params": v}, path),
    "kohya.pt": lambda path, v: torch.save({"emb_params": v}, path),
    "diffusers.bin": diffusers_bin,
    "diffusers.safetensors": lambda path, v: save_file({"<cat-toy>": v}, path),
    "flat.safetensors": lambda path, v: save_file({"string_to_param.*": v}, path),
    "bare.pt": lambda path, v: torch.save(v, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_is_read_as_what_was_written(tmp_path, name):
    vectors = numbers(3, 16)
    WRITERS[name](tmp_path / name, vectors)
    (found,) = load_embeddings(tmp_path / name)
    assert list(found.vectors) == ["width_16"] and torch.equal(found.vectors["width_16"], vectors)
    assert not found.vectors["width_16"].requires_grad
    assert found.name == ("inside" if name.endswith("png") else name.split(".")[0]) and found.length == 3
    assert found.token == ("<cat-toy>" if name.startswith("diffusers") else "")
    if name.startswith("a1111"):
        assert found.metadata == {"name": "inside", "step": "500", "sd_checkpoint": "abcdef12"}


def test_widths_tell_the_tower_and_the_base(tmp_path):
    for width, tower, base in ((768, "clip_l", "Stable Diffusion 1"), (1024, "clip_h", "Stable Diffusion 2")):
        save_file({"emb_params": numbers(2, width)}, tmp_path / "e.safetensors")
        (found,) = load_embeddings(tmp_path / "e.safetensors")
        assert found.widths == {tower: width} and found.base == base
    save_file({"clip_g": numbers(2, 1280), "clip_l": numbers(2, 768)}, tmp_path / "e.safetensors", {"step": "7"})
    (found,) = load_embeddings(tmp_path / "e.safetensors")
    assert found.widths == {"clip_l": 768, "clip_g": 1280} and found.base == "Stable Diffusion XL"
    assert found.metadata == {"step": "7"}


def test_several_words_of_one_file_and_embeddings_of_a_lora(tmp_path):
    torch.save({"<a>": numbers(16), "<b>": numbers(2, 16)}, tmp_path / "two.bin")
    two = load_embeddings(tmp_path / "two.bin")
    assert [(e.name, e.token, e.length) for e in two] == [("<a>", "<a>", 1), ("<b>", "<b>", 2)]
    lora = {
        "lora_unet_x.lora_up.weight": numbers(4, 4),
        "bundle_emb.old.string_to_param.*": numbers(2, 768),
        "bundle_emb.pair.clip_l": numbers(3, 768),
        "bundle_emb.pair.clip_g": numbers(3, 1280),
        "bundle_emb.kohya.emb_params": numbers(1, 768),
        "bundle_emb.word.<w>": numbers(1, 768),
    }
    save_file(lora, tmp_path / "lora.safetensors")
    read = load_embeddings(tmp_path / "lora.safetensors")
    assert {e.name: (e.length, e.token, e.base) for e in read} == {
        "old": (2, "", "Stable Diffusion 1"),
        "pair": (3, "", "Stable Diffusion XL"),
        "kohya": (1, "", "Stable Diffusion 1"),
        "word": (1, "<w>", "Stable Diffusion 1"),
    }
    again = bundled_embeddings(tmp_path / "lora.safetensors", lora)
    assert {e.name for e in again} == {e.name for e in read}
    assert bundled_embeddings(tmp_path / "x", {"lora_unet_x.lora_up.weight": numbers(4, 4)}) == ()


@has_data
def test_real_embeddings(tmp_path):
    (style,) = load_embeddings(DATA / "midjourney-style.bin")
    assert (style.name, style.token) == ("midjourney-style", "<midjourney-style>")
    assert style.widths == {"clip_h": 1024} and style.length == 1
    (kohya,) = load_embeddings(DATA / "test_embedding.safetensors")
    assert (kohya.name, kohya.token, kohya.widths, kohya.length) == ("test_embedding", "", {"clip_l": 768}, 5)
    assert load_file(DATA / "test_embedding.safetensors")["emb_params"].equal(kohya.vectors["clip_l"])
    cut = (DATA / "midjourney-style.bin").read_bytes()[:3000]
    (tmp_path / "cut.bin").write_bytes(cut)
    with pytest.raises(FileProblem, match="cut short"):
        load_embeddings(tmp_path / "cut.bin")


def test_written_and_read_again_is_the_same(tmp_path):
    one = Embedding("one", {"clip_l": numbers(2, 768)}, "<one>", {"step": "3"})
    pair = Embedding("pair", {"clip_l": numbers(2, 768), "clip_g": numbers(2, 1280)}, "<pair>", {"step": "3"})
    for embedding in (one, pair):
        (kohya,) = load_embeddings(save_kohya(tmp_path / f"{embedding.name}.safetensors", embedding))
        files = save_diffusers(tmp_path / embedding.name, embedding)
        (folder,) = load_embeddings(tmp_path / embedding.name)
        assert len(files) == len(embedding.vectors) and (kohya.token, folder.token) == ("", embedding.token)
        assert kohya.name == embedding.name and folder.name == embedding.token
        for found in (kohya, folder):
            assert found.metadata == embedding.metadata and list(found.vectors) == list(embedding.vectors)
            assert all(torch.equal(found.vectors[tower], v) for tower, v in embedding.vectors.items())
    with pytest.raises(UsageError, match="room for one tower"):
        save_kohya(tmp_path / "x.safetensors", Embedding("x", {"clip_l": numbers(1, 768), "width_4": numbers(1, 4)}))


def test_the_scrambling_stream():
    assert scramble(1000).tolist() == scrambled(1000)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def torch_file(content: object) -> Callable[[Path], object]:
    return lambda path: torch.save(content, path)


def card(table: dict[str, Any], cut: int | None = None, chunk: str | None = None) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_text("sd-ti-embedding", base64.b64encode(as_json(table)).decode() if chunk is None else chunk)
        Image.new("RGB", (8, 8)).save(path, pnginfo=info)
        path.write_bytes(path.read_bytes()[:cut])

    return write


def scaled_card(path: Path) -> None:
    pixel_card(path, a1111(numbers(2, 16)))
    with Image.open(path) as image:
        image.resize((image.width // 2, image.height // 2)).save(path)


def zip_of_the_future(path: Path) -> None:
    torch.save({"<x>": numbers(4)}, path)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 6] = 250  # the version that is needed to unpack it
    path.write_bytes(data)


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "program": ("e.pt", torch_file({"string_to_param": {"*": Evil()}}), "nothing in it was executed"),
    "plain pickle": ("e.pt", lambda p: p.write_bytes(pickle.dumps(Evil())), "nothing in it was executed"),
    "renamed": ("e.safetensors", torch_file(["a"]), "Somebody renamed it"),
    "list": ("e.pt", torch_file(["a"]), "it holds a list"),
    "empty": ("e.pt", lambda p: p.write_bytes(b""), "empty"),
    "web page": ("e.pt", lambda p: p.write_bytes(b"<html>not found"), "web page"),
    "empty table": ("e.pt", torch_file({}), "holds nothing"),
    "zip": ("e.pt", zip_of_the_future, "damaged"),
    "text": ("e.pt", torch_file({"name": "x"}), "it holds 'name'"),
    "no vectors": ("e.pt", torch_file({"string_to_param": {}}), "no table of vectors"),
    "no table": ("e.pt", torch_file({"string_to_param": 3}), "no table of vectors"),
    "words": ("e.pt", torch_file(a1111("x")), "tensor of floating numbers"),  # type: ignore[arg-type]
    "integers": ("e.pt", torch_file({"<x>": torch.ones(4, dtype=torch.int64)}), "tensor of floating numbers"),
    "picture": ("e.pt", torch_file({"<x>": numbers(2, 3, 4)}), "vectors \\[N, D\\]"),
    "nothing": ("e.pt", torch_file({"<x>": numbers(0, 4)}), "vectors \\[N, D\\]"),
    "nan": ("e.pt", torch_file({"<x>": torch.tensor([1.0, float("nan")])}), "NaN"),
    "lora": ("e.safetensors", lambda p: save_file({"lora_unet_a.lora_up.weight": numbers(2, 2)}, p), "lora_unet_a"),
    "model": ("e.pt", torch_file({"a.weight": numbers(2, 2), "a.bias": numbers(2)}), "no textual inversion"),
    "unlike": ("e.safetensors", lambda p: save_file({"clip_l": numbers(2, 4), "clip_g": numbers(3, 4)}, p), "as many"),
    "unnamed": ("e.safetensors", lambda p: save_file({"bundle_emb.x": numbers(2, 4)}, p), "without a name"),
    "no picture": ("e.png", lambda p: Image.new("RGB", (8, 8), (9, 9, 9)).save(p), "picture without an embedding"),
    "black": ("e.png", lambda p: Image.new("RGB", (8, 8)).save(p), "picture without an embedding"),
    "cut card": ("e.png", card(a1111(numbers(2, 16)), cut=300), "picture"),
    "no base64": ("e.png", card({}, chunk="%%%"), "embedding is damaged"),
    "no JSON": ("e.png", card({}, chunk=b64("{")), "embedding is damaged"),
    "no text": ("e.png", card({}, chunk=b64(b"\xff\xfe{}")), "embedding is damaged"),
    "deep JSON": ("e.png", card({}, chunk=b64("[" * 99_999)), "embedding is damaged"),
    "JSON list": ("e.png", card({}, chunk=b64("[]")), "should be a table"),
    "ragged": ("e.png", card({}, chunk=b64('{"a": {"TORCHTENSOR": [[1], [1, 2]]}}')), "embedding is damaged"),
    "scaled": ("e.png", scaled_card, "embedding"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", BAD)
def test_hostile_and_damaged_files_are_refused_in_words(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    name, write, words = BAD[kind]
    write(tmp_path / name)
    with pytest.raises((FileProblem, NumericalTrouble), match=words):
        load_embeddings(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_absent_files_are_told(tmp_path):
    with pytest.raises(FileProblem, match="There is no file"):
        load_embeddings(tmp_path / "none.pt")
    with pytest.raises(FileProblem, match="holds no embedding"):
        load_embeddings(tmp_path)


def test_a_bomb_in_the_pixels_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingvis.checkpoints.embedding_pictures._LARGEST", 100_000)
    pixel_card(tmp_path / "bomb.png", {"string_to_param": {"*": "0" * 10_000_000}})
    with pytest.raises(FileProblem, match="embedding is damaged"):
        load_embeddings(tmp_path / "bomb.png")


def test_triggers_become_ids_and_ids_vectors(tokens):
    towers = {"clip_l": Tower(8), "clip_g": Tower(12, seed=1)}
    before = {name: tower.token.weight.clone() for name, tower in towers.items()}
    pair = Embedding("My Style", {"clip_l": numbers(3, 8), "clip_g": numbers(3, 12)}, "<style>")
    one = Embedding("easynegative", {"clip_l": numbers(1, 8, seed=1), "clip_g": numbers(1, 12, seed=1)})
    ti = TextualInversions(tokens, towers, [pair, one])
    text = "a cat, my style, EasyNegative; embedding:easynegative, embedding:easynegative.pt <style>"
    new, single = [49408, 49409, 49410], 49411
    assert ti.pieces(text) == [320, 2368, 267, *new, 267, single, 282, single, 267, single, *new]
    assert ti.pieces("easynegatives my styles") == tokens.pieces("easynegatives my styles")
    assert ti.used(text) == ("My Style", "easynegative") and ti.used("a cat") == ()
    second = CLIPTokens.bundled(pad="!").with_words(ti.words)
    assert second.ids([text])[0, 1:18].tolist() == [*ti.pieces(text), 49407, 0, 0][:17]
    ids = ti.tokens.ids([text, "a cat"])
    for name, tower in towers.items():
        x = ti.embed(name, ids)  # [B, L, D]
        assert torch.equal(x[0, 4:7], pair.vectors[name]) and torch.equal(x[0, 8:9], one.vectors[name])
        assert torch.equal(x[1], tower.embed(ids[1]))
        assert torch.equal(x[0, ids[0] < 49408], tower.embed(ids[0, ids[0] < 49408]))
        assert torch.equal(tower.token.weight, before[name])
    assert ti.tokens.fits("cat " * 72 + "my style") and not tokens.fits("cat " * 72 + "my style, too long")
    assert ti.tokens.overflow("cat " * 72 + "my style end") == "end"
    none = TextualInversions(tokens, towers, [])
    assert torch.equal(none.embed("clip_l", ids[1:]), towers["clip_l"].embed(ids[1:]))
    with pytest.raises(UsageError, match="clip_l"):
        ti.embed("clip_1", ids)


def test_vectors_take_the_dtype_of_the_tower(tokens):
    tower = Tower(8).to(torch.bfloat16)
    ti = TextualInversions(tokens, {"clip_l": tower}, [Embedding("sks", {"clip_l": numbers(1, 8)})])
    x = ti.embed("clip_l", ti.tokens.ids(["sks"]))
    assert x.dtype == torch.bfloat16 and torch.equal(x[0, 1], numbers(1, 8)[0].bfloat16())


def test_an_embedding_for_another_base_is_refused_before_anything_runs(tokens):
    sd1, sd2 = Embedding("a", {"clip_l": torch.zeros(1, 768)}), Embedding("b", {"clip_h": torch.zeros(1, 1024)})
    xl = Embedding("c", {"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)})
    both = {"clip_l": 768, "clip_g": 1280}
    models = {"1": {"clip_l": 768}, "2": {"clip_h": 1024}, "XL": both, "refiner": {"clip_g": 1280}}
    fits = {(e.name, m) for e in (sd1, sd2, xl) for m, widths in models.items() if misfit(e, widths) is None}
    assert fits == {("a", "1"), ("b", "2"), ("c", "XL"), ("c", "refiner")}
    tower = Tower(4)
    tower.token = nn.Embedding(1, 1024)
    with pytest.raises(UsageError) as refusal:
        TextualInversions(tokens, {"text": tower}, [sd1])
    assert "'a' is for Stable Diffusion 1 (vectors of width 768)" in str(refusal.value)
    assert "this model, Stable Diffusion 2, have width 1024" in str(refusal.value)


def test_two_embeddings_of_one_word_are_refused(tokens):
    with pytest.raises(UsageError, match="Two embeddings are called by the word 'Sks'"):
        words = [Embedding("sks", {"clip_l": numbers(1, 8)}), Embedding("Sks", {"clip_l": numbers(1, 8)})]
        TextualInversions(tokens, {"clip_l": Tower(8)}, words)


@pytest.mark.parametrize("form", ["diffusers.safetensors", "a1111.pt", "written.safetensors", "kohya.safetensors"])
def test_a_prompt_is_read_as_diffusers_reads_it(tmp_path, tokens, form):
    """Files of others, and those that are written here."""
    vectors, file = numbers(3, 32), tmp_path / form
    ours_to_write = Embedding("written", {"width_32": vectors}, "<w>")
    if form == "written.safetensors":
        (file,) = save_diffusers(tmp_path / "written", ours_to_write)
    elif form == "kohya.safetensors":
        file = save_kohya(file, ours_to_write)
    else:
        WRITERS[form](file, vectors)
    (embedding,) = load_embeddings(file)
    tokens.save(tmp_path)
    config = transformers.CLIPTextConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, eos_token_id=49407
    )
    torch.manual_seed(0)
    net = transformers.CLIPTextModel(config).eval()
    table = net.get_input_embeddings()
    word = embedding.token or embedding.name
    prompt = f"a photo of {word} on a table, {word}!"
    tower = Tower(1)
    tower.token = table
    ours = TextualInversions(tokens, {"text": tower}, [embedding])
    ids = ours.tokens.ids([prompt])
    embedded = ours.embed("text", ids)
    hook = table.register_forward_hook(lambda module, args, out: embedded)
    with torch.no_grad():
        mine = net(ids.masked_fill(ids > 49407, 0))
    hook.remove()

    class Pipe(TextualInversionLoaderMixin):
        components: dict[str, Any] = {}  # noqa: RUF012
        hf_device_map = None

    theirs, tokenizer = Pipe(), transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
    theirs.load_textual_inversion(str(file), token=word, tokenizer=tokenizer, text_encoder=net)
    text = theirs.maybe_convert_prompt(prompt, tokenizer)
    told = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        want = net(told["input_ids"])
    assert told["input_ids"].tolist() == ids.tolist()
    error = (mine.last_hidden_state - want.last_hidden_state).abs().max() / want.last_hidden_state.abs().max()
    assert error < 1e-6
    assert torch.allclose(mine.pooler_output, want.pooler_output, atol=1e-5)
    assert tokens.ids([prompt]).tolist() != ids.tolist()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_cut_anywhere_or_with_changed_bytes_never_ends_in_a_traceback(tmp_path, name):
    WRITERS[name](tmp_path / name, numbers(3, 16))
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    for part in range(16):
        (tmp_path / name).write_bytes(whole[: len(whole) * part // 16])
        with pytest.raises((FileProblem, NumericalTrouble)):
            load_embeddings(tmp_path / name)
    for _ in range(40):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            changed[at] = rng.integers(256)
        (tmp_path / name).write_bytes(changed)
        with contextlib.suppress(FileProblem, NumericalTrouble):
            load_embeddings(tmp_path / name)
