"""The safety checker decides as diffusers' does on the same weights; its folders in and out; pictures it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers_nets import draw, relative, same_tensors
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tower_twins import VISION, randomised, written

from huggingvis.api import inspect
from huggingvis.checkpoints.safety_checker_files import SAFETY
from huggingvis.codecs.clip_pictures import clip_picture
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.request import Prompt, Request
from huggingvis.nets.clip_vision import CLIPVisionConfig
from huggingvis.nets.safety_checker import SafetyChecker, SafetyConfig
from huggingvis.systems.judges.safety import BLANK, bind

SMALL_TEXT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


def checker(near: float = 0.25) -> Any:
    """diffusers' class with random concepts; thresholds above every angle but for those of a few random pictures."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.manual_seed(0)
    theirs = StableDiffusionSafetyChecker(CLIPConfig(vision_config=VISION, text_config=SMALL_TEXT, projection_dim=16))
    for name in ("concept_embeds", "special_care_embeds"):
        getattr(theirs, name).data.normal_()
    randomised(theirs)
    for name, table in (("concept_embeds", theirs.concept_embeds), ("special_care_embeds", theirs.special_care_embeds)):
        cosines = _embeddings(theirs, draw(64, 3, 12, 12)) @ F.normalize(table).T
        getattr(theirs, f"{name}_weights").data.copy_(cosines.quantile(1 - near / 4, dim=0))
    return theirs


def _embeddings(theirs: Any, seen: torch.Tensor) -> torch.Tensor:
    return F.normalize(theirs.visual_projection(theirs.vision_model(seen)[1]))


def test_it_decides_as_the_reference(tmp_path: Path) -> None:
    """On the pictures that thresholds were set by, and where they are moved to within a thousandth of a picture."""
    theirs = checker()
    seen, shown = draw(64, 3, 12, 12), np.ones((64, 2, 2, 3), np.float32)
    for move in (0.0, 0.0004, 0.0006, -0.01, 0.01):
        theirs.concept_embeds_weights.data += move
        ours = SAFETY.read(written(theirs, tmp_path / str(move)))
        pictures, want = theirs(seen, shown.copy())
        assert ours.flagged(seen).tolist() == want == [not picture.any() for picture in pictures]
        assert 0 < sum(want) < 64
    watched, refused = ours(seen)
    embedding = _embeddings(theirs, seen)
    for e, table, least in ((watched, theirs.special_care_embeds, theirs.special_care_embeds_weights),
                            (refused, theirs.concept_embeds, theirs.concept_embeds_weights)):  # fmt: skip
        assert relative(e, embedding @ F.normalize(table).T - least) < 1e-5


def test_watched_concepts_make_it_stricter(tmp_path: Path) -> None:
    """The same picture, 0.005 below every threshold, is refused only where it is near a watched concept."""
    theirs = checker()
    seen = draw(1, 3, 12, 12)
    embedding = _embeddings(theirs, seen)
    theirs.concept_embeds_weights.data = (embedding @ F.normalize(theirs.concept_embeds).T)[0] + 0.005
    angles = (embedding @ F.normalize(theirs.special_care_embeds).T)[0]
    for number, (least, refused) in enumerate(((angles + 0.1, False), (angles - 0.1, True))):
        theirs.special_care_embeds_weights.data = least
        ours = SAFETY.read(written(theirs, tmp_path / str(number)))
        assert ours.flagged(seen).tolist() == theirs(seen, np.ones((1, 2, 2, 3)))[1] == [refused]


def test_both_spellings_of_its_files(tmp_path: Path) -> None:
    """The published file says `vision_model.` twice; what we write is in its spelling, and diffusers loads it."""
    theirs = checker()
    ours = SAFETY.read(written(theirs, tmp_path / "in"))
    SAFETY.write(ours, tmp_path / "out")
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert "vision_model.vision_model.encoder.layers.0.self_attn.q_proj.weight" in names
    again = SAFETY.read(tmp_path / "out")
    assert again.config == ours.config and same_tensors(again.state_dict(), ours.state_dict())
    reread = type(theirs).from_pretrained(tmp_path / "out")
    assert same_tensors(reread.state_dict(), theirs.state_dict())
    save_file(names | {"vision_model.vision_model.embeddings.position_ids": torch.arange(10)[None]},
              tmp_path / "out" / "model.safetensors")  # fmt: skip
    assert same_tensors(SAFETY.read(tmp_path / "out").state_dict(), ours.state_dict())


def test_it_is_told_from_an_image_tower_by_itself(tmp_path: Path) -> None:
    folder = written(checker(), tmp_path / "safety_checker")
    for what in (folder, folder / "model.safetensors"):
        found = inspect(what, hashes=False)
        assert found["kind"] == "safety-checker" and "--safety-checker" in found["summary"]


def test_what_it_cannot_compute_is_refused(tmp_path: Path) -> None:
    folder = written(checker(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for change, said in (({"vision_config": None}, "vision_config"), ({"architectures": ["CLIPModel"]}, "CLIPModel"),
                         ({"projection_dim": 12}, "shape")):  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(FileProblem, match=said):
            bind(folder)
    with pytest.raises(UsageError, match="project"):
        SafetyChecker(SafetyConfig(CLIPVisionConfig(8, 4, 3, 8, 2, 2, 12, projection=None)))
    with pytest.raises(UsageError, match="17"):
        SAFETY.to_json(SafetyConfig(concepts=4))


@pytest.mark.parametrize("size", [(30, 20), (20, 31), (224, 224), (7, 5)])
def test_pictures_are_seen_as_the_reference_s_processor_shows_them(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = Picture(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    for side in (224, 12):
        processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        want = processor(images=picture.to_pil(), return_tensors="pt").pixel_values[0]
        assert relative(clip_picture(picture, side), want) < 1e-6


def test_a_refused_picture_is_black_and_says_so(tmp_path: Path) -> None:
    theirs = checker()
    rng = np.random.default_rng(0)
    pictures = [
        Picture(rng.integers(0, 256, (14, 12, channels), dtype=np.uint8), Request(Prompt("x")), {"notes": ["odd"]})
        for channels in (3, 1, 4)
    ]
    for threshold, flagged in ((1.0, False), (-1.0, True)):
        theirs.concept_embeds_weights.data.fill_(threshold)
        judge = bind(written(theirs, tmp_path / "safety_checker"))
        assert judge.flagged(pictures) == [flagged] * 3
        for picture in pictures:
            shown = judge(picture)
            assert shown.request == picture.request and shown.pixels.shape == picture.pixels.shape
            assert shown.made["safety"] == {"checker": "safety_checker", "flagged": flagged}
            assert shown.made["notes"] == ["odd", *([BLANK] if flagged else [])]
            assert np.array_equal(shown.pixels, picture.pixels) is not flagged
            assert not flagged or not shown.pixels[:, :, :3].any()
