"""A model whose U-Net, autoencoder and text encoders lie in files of their own is the model that they came from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_pipelines import PROMPT, pipeline, pipeline_xl

from huggingvis.checkpoints import text_towers_clip
from huggingvis.checkpoints.diffusers_unet_files import read_unet
from huggingvis.checkpoints.inspect import inspect
from huggingvis.checkpoints.single_file import Said
from huggingvis.checkpoints.text_encoder_files import read_towers
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import Canvas, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.encoder_layer import gelu, quick_gelu
from huggingvis.systems import saving
from huggingvis.systems.pipelines import How, bind_folder
from huggingvis.systems.single_file import bind_file
from huggingvis.systems.unet_folder import bind_unet

IDS = torch.tensor([[5, 1, 9, 20, 20]])
NETS: dict[str, str | tuple[str, ...]] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": ("cond_stage_model.", "conditioner."),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of both kinds: the folder of diffusers (sd, xl), the single file, and that file's three parts."""
    folder = tmp_path_factory.mktemp("parts")
    for name, theirs in (("sd", pipeline()), ("xl", pipeline_xl())):
        theirs.save_pretrained(folder / name)
        whole = saving.save_file(bind_folder(folder / name, How()), folder / f"{name}.safetensors")
        with safe_open(whole, "pt") as file:
            metadata = file.metadata()
        for part, prefix in NETS.items():
            some = {key: x for key, x in load_file(whole).items() if key.startswith(prefix)}
            bare = {key.removeprefix(prefix) if isinstance(prefix, str) else key: x for key, x in some.items()}
            save_file(bare, folder / f"{name}-{part}.safetensors", metadata)
    return folder


def made(system: System) -> torch.Tensor:
    how = Sampling("dpm++2m", "karras", 2, 5.0, seed=3)
    (picture,) = generate(system, Request(Prompt(PROMPT), Canvas(16, 16), how))
    return torch.tensor(picture.pixels)


def parts(place: Path, name: str) -> How:
    return How(vae=place / f"{name}-vae.safetensors", text_encoders=(place / f"{name}-text.safetensors",))


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_three_files_make_what_the_whole_makes(place: Path, name: str, tmp_path: Path) -> None:
    whole, how = bind_file(place / f"{name}.safetensors", How()), parts(place, name)
    system = bind_file(place / f"{name}-unet.safetensors", how)
    assert torch.equal(made(system), made(whole))
    assert system.spec.vae == str(how.vae) and system.spec.text_encoders == tuple(map(str, how.text_encoders))
    again, theirs = (load_file(path) for path in (saving.save_file(system, tmp_path / "again.safetensors"),
                                                  place / f"{name}.safetensors"))  # fmt: skip
    side = bind_folder(place / name, How()).spec.size  # which a file does not tell, and the config.json of a net does
    assert again.keys() == theirs.keys() and all(torch.equal(again[key], theirs[key]) for key in theirs)
    heads = Said(heads=4, groups=8) if name == "sd" else Said(head_dim=16, groups=8)
    net = place / name / "unet" / "diffusion_pytorch_model.safetensors"
    alone = Path(shutil.copy(net, place / f"{name}-diffusers.safetensors"))  # no config.json is beside this one
    for other in (bind_unet(place / name / "unet", how), bind_file(alone, how, heads), bind_file(net, how)):
        assert torch.equal(made(other), made(system))
    assert bind_unet(place / name / "unet", how).spec.size == side


def test_towers_come_one_by_one_and_in_any_order(place: Path) -> None:
    net, folder = place / "xl-unet.safetensors", place / "xl"
    towers = (folder / "text_encoder_2", folder / "text_encoder" / "model.safetensors")
    whole = bind_file(place / "xl.safetensors", How())
    assert torch.equal(made(bind_file(net, How(vae=folder, text_encoders=towers))), made(whole))
    assert torch.equal(made(bind_file(net, How(vae=folder, text_encoders=(folder,)))), made(whole))
    louder = {key: x * 1.5 for key, x in load_file(towers[1]).items()}
    save_file(louder, place / "clip_l.safetensors")
    system = bind_file(place / "xl.safetensors", How(text_encoders=(place / "clip_l.safetensors",)))
    assert (made(system) != made(whole)).any()
    for name in ("text_encoder", "text_encoder_2"):  # the other one stays the model's own
        same = all(map(torch.equal, system.parts[name].parameters(), whole.parts[name].parameters()))
        assert same is (name == "text_encoder_2")


def test_a_folder_without_these_parts_takes_them_from_elsewhere(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "sd", tmp_path / "sd")
    for part in ("text_encoder", "vae"):
        shutil.rmtree(tmp_path / "sd" / part)
    whole = bind_folder(place / "sd", How())
    system = bind_folder(tmp_path / "sd", How(vae=place / "sd", text_encoders=(place / "sd-text.safetensors",)))
    assert torch.equal(made(system), made(whole))
    again = saving.save_folder(system, tmp_path / "again")
    assert torch.equal(made(bind_folder(again, How())), made(whole))


def test_of_a_whole_checkpoint_only_the_part_is_read(place: Path, tmp_path: Path) -> None:
    whole = load_file(place / "sd.safetensors")
    with safe_open(place / "sd.safetensors", "pt") as file:
        metadata = file.metadata()
    some = {key: x for key, x in whole.items() if "output_blocks.0" not in key}  # its net is not whole
    save_file(some, tmp_path / "damaged.safetensors", metadata)
    with pytest.raises(FileProblem, match="unet differs"):
        bind_file(tmp_path / "damaged.safetensors", How())
    how = How(vae=tmp_path / "damaged.safetensors", text_encoders=(tmp_path / "damaged.safetensors",))
    assert torch.equal(made(bind_file(place / "sd-unet.safetensors", how)), made(bind_folder(place / "sd", How())))


def test_a_tower_by_itself_is_read_in_every_spelling(tmp_path: Path) -> None:
    """Deep towers in the spelling of transformers are OpenCLIP's, with the other activation."""
    path = tmp_path / "clip.safetensors"
    for depth, act in ((2, quick_gelu), (13, gelu)):
        torch.manual_seed(0)
        net = CLIPText(CLIPTextConfig(21, 5, 16, depth, 1, 24, act, end=20, projection=12)).eval()
        theirs = text_towers_clip.keymap(net.config).to_theirs(net.state_dict())
        more = {"vision_model.encoder.layers.0.mlp.fc1.weight": torch.ones(3, 3), "logit_scale": torch.ones(())}
        for tensors in (theirs, theirs | more, {f"text_encoders.clip_g.transformer.{k}": x for k, x in theirs.items()}):
            save_file(tensors, path)
            (found,) = read_towers(path)
            assert found.config == net.config and all(map(torch.equal, found(IDS), net(IDS)))
    save_file(text_towers_clip.open_clip_keymap(net.config).to_theirs(net.state_dict()) | {"visual.proj": IDS}, path)
    (found,) = read_towers(path, torch.bfloat16)
    assert found.config == net.config and found.position.dtype == torch.bfloat16


def test_floats_of_eight_bits_become_bfloat16(place: Path, tmp_path: Path) -> None:
    eight = {}
    for part, file in (
        ("unet", place / "sd/unet/diffusion_pytorch_model.safetensors"),
        ("text", place / "sd-text.safetensors"),
    ):
        eight[part] = tmp_path / f"{part}.safetensors"
        save_file(
            {key: x.to(torch.float8_e4m3fn) if x.ndim > 1 else x for key, x in load_file(file).items()}, eight[part]
        )
    (tower,) = read_towers(eight["text"])
    net = read_unet(inspect(eight["unet"]), said=Said(heads=4, groups=8)).unet
    assert net is not None
    assert {x.dtype for x in (*tower.parameters(), *net.parameters())} == {torch.bfloat16}


def test_what_does_not_fit_is_told_in_a_sentence(place: Path, tmp_path: Path) -> None:
    net, xl, sd = place / "sd-unet.safetensors", place / "xl", place / "sd"

    def refused(how: How, *sentences: str, path: Path = net) -> None:
        with pytest.raises((FileProblem, UsageError)) as error:
            bind_unet(path, how) if path.is_dir() else bind_file(path, how)
        assert all(sentence in str(error.value) for sentence in sentences), str(error.value)

    both = ("it has no autoencoder (give one with --vae), no text encoder (give it with --text-encoder: text towers",)
    refused(How(), *both)
    refused(How(), *both, path=sd / "unet")
    refused(How(), "It reads the prompt and paints nothing: give it with --text-encoder beside a U-Net",
            path=sd / "text_encoder" / "model.safetensors")  # fmt: skip
    refused(How(vae=sd), "no text encoder (give it with --text-encoder")
    refused(
        How(), "text encoders alone", "give it with --text-encoder beside a U-Net", path=place / "xl-text.safetensors"
    )
    refused(How(vae=sd, text_encoders=(sd,)), "no U-Net (name the file that has it with --model)",
            path=place / "sd-vae.safetensors")  # fmt: skip
    refused(How(vae=sd, text_encoders=(xl / "text_encoder_2",)), "text_encoder_2 (48 wide) does not fit this model",
            "whose net looks at tokens 32 wide")  # fmt: skip
    refused(How(vae=sd, text_encoders=(sd, xl / "text_encoder_2")), "(48 wide) does not fit")  # not ignored either
    refused(How(vae=xl, text_encoders=(xl / "text_encoder",)), "looks at tokens 80 wide", path=xl / "unet")
    refused(How(vae=sd, text_encoders=(place / "sd-vae.safetensors",)), "sd-vae.safetensors is an autoencoder",
            "no text tower of CLIP", "--text-encoder takes a file or folder with one")  # fmt: skip
    t5 = {"shared.weight": torch.zeros(32128, 4), "encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(4, 4)}
    save_file(t5, tmp_path / "t5.safetensors")
    refused(How(vae=sd, text_encoders=(tmp_path / "t5.safetensors",)), "is a text encoder by itself", "by these")
    plain = {key: x for key, x in load_file(xl / "text_encoder_2/model.safetensors").items() if "projection" not in key}
    shutil.copytree(xl / "text_encoder_2", tmp_path / "plain")
    save_file(plain, tmp_path / "plain" / "model.safetensors")
    told = (tmp_path / "plain" / "config.json").read_text().replace("CLIPTextModelWithProjection", "CLIPTextModel")
    (tmp_path / "plain" / "config.json").write_text(told)
    refused(How(vae=xl, text_encoders=(xl / "text_encoder", tmp_path / "plain")), "has no projection", path=xl / "unet")
