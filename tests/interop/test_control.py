"""ControlNet, T2I-Adapter and IP-Adapter against diffusers on the same random weights; their files in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_nets import SD1, SDXL, Settings, draw, reference, relative, same_tensors
from torch import Tensor

from huggingvis.adapters.control import Control
from huggingvis.adapters.ip_adapter import IPAdapter, word_places
from huggingvis.adapters.t2i_adapter import PictureFeatures, places
from huggingvis.adapters.window import ALWAYS, Window, window_of
from huggingvis.checkpoints import diffusers_controlnet, diffusers_unet, ip_adapter_files, t2i_adapter_files
from huggingvis.checkpoints.assign import compare
from huggingvis.checkpoints.diffusers_common import read_weights
from huggingvis.checkpoints.io import load as load_tensors
from huggingvis.checkpoints.io import save as save_tensors
from huggingvis.core.errors import FileProblem, HvisError, UsageError
from huggingvis.guidance.cfg import stacked
from huggingvis.nets.controlnet import ControlNet, HintConfig, controlnet_of
from huggingvis.nets.unet import UNet

CLOCK = torch.tensor([3.0, 977.0])
HINT: Settings = {"conditioning_embedding_out_channels": [4, 4, 8, 8]}
NOT_CONTROL = ("sample_size", "out_channels", "up_block_types")
X, TOKENS, PICTURE, OTHER = draw(2, 4, 8, 8), draw(2, 7, 6), draw(2, 3, 64, 64), draw(2, 3, 64, 64).flip(0)
Call = tuple[Tensor, Tensor, dict[str, Tensor]]


def unet(settings: Settings, tmp_path: Path) -> tuple[Any, UNet]:
    theirs = reference("UNet2DConditionModel", settings)
    theirs.save_pretrained(tmp_path / "unet")
    return theirs, diffusers_unet.from_diffusers(tmp_path / "unet").requires_grad_(False)


def controlnet(settings: Settings, folder: Path, **more: Any) -> tuple[Any, ControlNet]:
    kept = {key: value for key, value in settings.items() if key not in NOT_CONTROL}
    theirs = reference("ControlNetModel", kept | HINT | more)
    for parameter in theirs.parameters() if "seed" in folder.name else ():
        parameter.mul_(-1)
    theirs.save_pretrained(folder)
    return theirs, diffusers_controlnet.from_diffusers(folder).requires_grad_(False)


def condition(settings: Settings) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Ours and theirs."""
    cond: dict[str, Tensor] = {"tokens": TOKENS}
    if "addition_embed_type" not in settings:
        return cond, {"encoder_hidden_states": TOKENS}
    pooled, sizes = draw(2, 5), torch.tensor([[512.0, 256, 0, 3, 512, 512]] * 2)
    from diffusers.models.embeddings import get_timestep_embedding

    cond["vector"] = torch.cat([pooled, get_timestep_embedding(sizes.flatten(), 4, True, 0).reshape(2, -1)], dim=1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    return cond, {"encoder_hidden_states": TOKENS, "added_cond_kwargs": added}


def all_close(ours: tuple[Tensor, ...], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and max(relative(a, b) for a, b in zip(ours, theirs, strict=True)) < 1e-5


BOTH = pytest.mark.parametrize("settings", [SD1, SDXL], ids=["sd1", "sdxl"])


@BOTH
def test_controlnet_is_theirs(settings: Settings, tmp_path: Path) -> None:
    theirs, ours = controlnet(settings, tmp_path)
    cond, extra = condition(settings)
    down, middle = theirs(X, CLOCK, controlnet_cond=(PICTURE + 1) / 2, return_dict=False, **extra)
    assert all_close(ours(X, CLOCK, cond | {"hint": ours.hint((PICTURE + 1) / 2)}), [*down, middle])
    shuffle, pooled = controlnet(settings, tmp_path / "pooled", global_pool_conditions=True)
    down, middle = shuffle(X, CLOCK, controlnet_cond=PICTURE, return_dict=False, **extra)
    assert all_close(pooled(X, CLOCK, cond | {"hint": pooled.hint(PICTURE)}), [*down, middle])
    assert down[0].shape[2:] == (1, 1)


@BOTH
def test_controls_at_work_are_theirs(settings: Settings, tmp_path: Path) -> None:
    """One, in guess mode, and two at once, beside the U-Net they steer."""
    import diffusers

    (their_net, net), cond_and_extra = unet(settings, tmp_path), condition(settings)
    cond, extra = cond_and_extra
    (their_one, one), (their_two, two) = (controlnet(settings, tmp_path / name) for name in ("one", "seed"))
    plain = net(X, CLOCK, cond)

    def steered(by: Any, picture: Any, scale: Any, guess: bool = False) -> Tensor:
        down, middle = by(X, CLOCK, controlnet_cond=picture, conditioning_scale=scale, guess_mode=guess,
                          return_dict=False, **extra)  # fmt: skip
        return their_net(
            X, CLOCK, down_block_additional_residuals=down, mid_block_additional_residual=middle, **extra
        ).sample

    control = Control(one, 0.7, guess=True)
    handle = control.attach(net)
    told = {k: v for k, v in control.condition(PICTURE).items() if not k.startswith("negative.")}
    want = steered(their_one, (PICTURE + 1) / 2, 0.7, guess=True)
    assert relative(net(X, CLOCK, cond | told), want) < 1e-5 and relative(plain, want) > 1e-2
    handle.remove()
    assert torch.equal(net(X, CLOCK, cond), plain)

    pair = diffusers.MultiControlNetModel([their_one, their_two])
    controls = (Control(one, 0.7), Control(two, 1.3, "control2"))
    told = controls[0].condition(PICTURE) | controls[1].condition(OTHER)
    for each in controls:
        each.attach(net)
    want = steered(pair, [(PICTURE + 1) / 2, (OTHER + 1) / 2], [0.7, 1.3])
    assert relative(net(X, CLOCK, cond | told), want) < 1e-5


def test_guidance_doubles_what_controls_read(tmp_path: Path) -> None:
    """A doubled batch is two calls; in guess mode the negative half gets no residuals at all."""
    (_, net), (_, small) = unet(SD1, tmp_path), controlnet(SD1, tmp_path / "control")
    away = {"tokens": draw(2, 5, 6)}
    for guess in (False, True):
        control = Control(small, 0.7, guess=guess)
        told = control.condition(PICTURE)
        shared = {k: v for k, v in told.items() if not k.startswith("negative.")}
        negative = shared | {k.removeprefix("negative."): v for k, v in told.items() if k.startswith("negative.")}
        handle = control.attach(net)
        twice = net(X.repeat(2, 1, 1, 1), CLOCK.repeat(2), stacked(away | negative, {"tokens": TOKENS} | shared))
        positive = net(X, CLOCK, {"tokens": TOKENS} | shared)
        handle.remove()
        assert relative(twice[2:], positive) < 1e-5
        assert (relative(twice[:2], net(X, CLOCK, away)) < 1e-5) == guess


def test_controls_that_say_nothing_change_no_bit(tmp_path: Path) -> None:
    (_, net), (_, trained) = unet(SD1, tmp_path), controlnet(SD1, tmp_path / "control")
    call: Call = (X, CLOCK, {"tokens": TOKENS})
    plain, before = net(*call), {k: v.clone() for k, v in net.state_dict().items()}
    fresh = controlnet_of(net, HintConfig(3, (4, 4, 8, 8)))
    first = "down.0.blocks.0.conv1.weight"
    assert torch.equal(fresh.get_parameter(first), net.get_parameter(first))
    never = Window(float("inf"), float("-inf"))
    for control in (Control(fresh), Control(trained, 0.0), Control(trained, window=never)):
        handle = control.attach(net)
        assert torch.equal(net(X, CLOCK, {"tokens": TOKENS} | control.condition(PICTURE)), plain)
        handle.remove()
    assert net.providers == () and same_tensors(dict(net.state_dict()), before)
    Control(trained).attach(net)
    with pytest.raises(UsageError, match=r"no 'control\.hint'"):
        net(*call)
    with pytest.raises(UsageError, match="'control' is attached to this UNet already"):
        Control(fresh).attach(net)


def test_only_the_control_learns(tmp_path: Path) -> None:
    _, net = unet(SD1, tmp_path)
    control = controlnet_of(net, HintConfig(3, (4, 4, 8, 8)))
    at_work = Control(control)
    at_work.attach(net)
    net(X, CLOCK, {"tokens": TOKENS} | at_work.condition(PICTURE)).square().sum().backward()
    assert all(parameter.grad is None for parameter in net.parameters())
    zeros = [
        grad for name, p in control.named_parameters() if name.startswith("zeros") and (grad := p.grad) is not None
    ]
    assert zeros and all(float(grad.abs().max()) > 0 for grad in zeros)


def test_windows_count_steps_as_the_community_does(tmp_path: Path) -> None:
    clocks = torch.tensor([900.0, 700.0, 500.0, 300.0, 100.0], dtype=torch.float64)
    for start, end in ((0.0, 1.0), (0.0, 0.5), (0.2, 0.8), (0.3, 1.0), (0.9, 0.95)):
        kept = [not (i / 5 < start or (i + 1) / 5 > end) for i in range(5)]  # as diffusers' pipelines have it
        weights = window_of(clocks, start, end).weights(clocks.float())
        assert (torch.ones(5) if weights is None else weights).tolist() == [float(k) for k in kept]
    assert window_of(clocks) == ALWAYS
    (_, net), (_, small) = unet(SD1, tmp_path), controlnet(SD1, tmp_path / "control")
    cond = {"tokens": TOKENS} | (control := Control(small, window=Window(0.0, 100.0))).condition(PICTURE)
    plain, always = net(X, CLOCK, cond), Control(small)
    handle = control.attach(net)
    some = net(X, CLOCK, cond)
    handle.remove()
    always.attach(net)
    assert relative(some[1:], plain[1:]) < 1e-6 and relative(some[:1], net(X, CLOCK, cond)[:1]) < 1e-6
    assert relative(some[:1], plain[:1]) > 1e-2


@BOTH
def test_controlnet_files_in_and_out(settings: Settings, tmp_path: Path) -> None:
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    theirs, ours = controlnet(settings, tmp_path / "in")
    _, net = unet(settings, tmp_path)
    config = json.loads((tmp_path / "in/config.json").read_text())
    diffusers_controlnet.to_diffusers(ours, tmp_path / "out", config)
    assert same_tensors(read_weights(tmp_path / "out"), theirs.state_dict())
    diffusers_controlnet.to_diffusers(ours, tmp_path / "own")
    for folder in ("out", "own"):
        again = ControlNetModel.from_pretrained(tmp_path / folder, low_cpu_mem_usage=False)
        if folder == "out":
            assert same_tensors(again.state_dict(), theirs.state_dict())
    assert same_tensors(dict(diffusers_controlnet.from_diffusers(tmp_path / "own").state_dict()), ours.state_dict())

    for prefix in ("control_model.", ""):  # the authors' layout, and diffusers' in one file
        file = diffusers_controlnet.save(ours, tmp_path / "one.safetensors", linear=settings is SDXL, prefix=prefix)
        back = diffusers_controlnet.load(file, net.config)
        assert same_tensors(dict(back.state_dict()), dict(ours.state_dict())) and back.reads == ours.reads
        if settings is SD1:
            converted = convert_controlnet_checkpoint(load_tensors(file), theirs.config)
            assert same_tensors(converted, theirs.state_dict())
    file = save_tensors(tmp_path / "one.safetensors", theirs.state_dict())
    assert same_tensors(dict(diffusers_controlnet.load(file, net.config).state_dict()), dict(ours.state_dict()))


def test_other_bases_and_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    _, net = unet(SD1 | {"cross_attention_dim": 10}, tmp_path)
    _, control = controlnet(SD1, tmp_path / "control")
    sentence = "text tokens have 6 numbers; those of this U-Net have 10"
    with pytest.raises(UsageError, match=sentence):
        Control(control).attach(net)
    with pytest.raises(UsageError, match=sentence):
        diffusers_controlnet.from_diffusers(tmp_path / "control", base=net.config)
    file = diffusers_controlnet.save(control, tmp_path / "one.safetensors", linear=False)
    with pytest.raises(UsageError, match=sentence):
        diffusers_controlnet.load(file, net.config)
    _, wide = unet(SD1 | {"block_out_channels": [8, 16, 32]}, tmp_path)
    with pytest.raises(UsageError, match=r"channels 8, 16 \(9 places\)"):
        Control(control).attach(wide)
    bad: list[tuple[dict[str, Tensor], str]] = [
        ({"lora_controlnet": torch.zeros(0)}, "ControlLoRA"), ({"x": torch.zeros(1)}, "no ControlNet"),
        ({"control_add_embedding.linear_1.weight": torch.zeros(1)}, "Union"),
        ({"lllite_unet_mid.down.0.weight": torch.zeros(1)}, "LLLite"),
        ({"input_hint_block.0.weight": torch.zeros(1), "x.attn2.to_k.weight": torch.zeros(1, 10)}, "no complete"),
    ]  # fmt: skip
    for tensors, words in bad:
        with pytest.raises(FileProblem, match=words):
            diffusers_controlnet.load(save_tensors(tmp_path / "bad.safetensors", tensors), net.config)
    for key, value in (("controlnet_conditioning_channel_order", "bgr"), ("mid_block_type", "UNetMidBlock2D")):
        with pytest.raises(FileProblem, match=key):
            diffusers_controlnet.config_from_diffusers({"_class_name": "ControlNetModel", key: value})


PUBLISHED: dict[str, tuple[Settings, int]] = {  # settings of the bases of well-known files, and their places of words
    "SD 1": ({"cross_attention_dim": 768}, 16),
    "SDXL": (
        {"attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "block_out_channels": [320, 640, 1280],
         "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
         "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_time_embed_dim": 256,
         "addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 2816}, 70,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_of_full_size_files(name: str) -> None:
    """Every tensor of diffusers' net at full size has its place, and the authors' names are those of their files."""
    import diffusers

    settings, words = PUBLISHED[name]
    with torch.device("meta"):
        theirs = diffusers.ControlNetModel(**settings)
        config, hint = diffusers_controlnet.config_from_diffusers(dict(theirs.config))
        net = ControlNet(config, hint)
        mirrored = [kind.replace("Down", "Up") for kind in reversed(theirs.config["down_block_types"])]
        base = UNet(diffusers_unet.config_from_diffusers(settings | {"up_block_types": mirrored}))
    ours = diffusers_controlnet.keymap(dict(theirs.config)).to_ours(theirs.state_dict())
    assert not compare(net, ours)
    authors = diffusers_controlnet.ldm_keymap(config, hint, linear=name == "SDXL").to_theirs(ours)
    assert len(authors) == len(theirs.state_dict())
    assert authors["control_model.input_hint_block.14.weight"].shape == (320, 256, 3, 3)
    skips = 12 if name == "SD 1" else 9
    assert authors[f"control_model.zero_convs.{skips - 1}.0.weight"].shape == (1280, 1280, 1, 1)
    assert f"control_model.zero_convs.{skips}.0.weight" not in authors
    assert authors["control_model.middle_block_out.0.bias"].shape == (1280,)
    assert len(word_places(base)) == words  # as many as the pairs of matrices in published IP-Adapters


FULL: Settings = {"channels": [8, 16, 16], "num_res_blocks": 2, "downscale_factor": 8}
LIGHT: Settings = {"channels": [8, 16], "num_res_blocks": 3, "downscale_factor": 8, "adapter_type": "light_adapter"}
WIDE: Settings = {"channels": [8, 16, 16, 16], "downscale_factor": 16, "adapter_type": "full_adapter_xl"}
XL3 = SDXL | {
    "block_out_channels": [8, 16, 16], "attention_head_dim": [2, 4, 4], "transformer_layers_per_block": [1, 1, 2],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], "layers_per_block": 2,
}  # fmt: skip
T2I = pytest.mark.parametrize(
    ("settings", "base"), [(FULL, SD1), (LIGHT, SD1), (WIDE, XL3)], ids=["full", "light", "xl"]
)


@T2I
def test_t2i_adapters_are_theirs(settings: Settings, base: Settings, tmp_path: Path) -> None:
    """The features, one adapter beside its U-Net, and two at once."""
    import diffusers

    one, two = (reference("T2IAdapter", settings) for _ in range(2))
    for parameter in two.parameters():
        parameter.mul_(-0.9)
    nets = []
    for name, each in (("one", one), ("two", two)):
        each.save_pretrained(tmp_path / name)
        nets.append(t2i_adapter_files.from_diffusers(tmp_path / name).requires_grad_(False))
    assert all_close(nets[0]((PICTURE + 1) / 2), one((PICTURE + 1) / 2))

    (their_net, net), (cond, extra) = unet(base, tmp_path), condition(base)
    plain = net(X, CLOCK, cond)
    for weights in ((0.7, None), (0.7, 0.4)):
        if weights[1] is None:
            features = [0.7 * part for part in one((PICTURE + 1) / 2)]
        else:
            both = diffusers.MultiAdapter([one, two])
            features = both([(PICTURE + 1) / 2, (OTHER + 1) / 2], list(weights))
        want = their_net(X, CLOCK, down_intrablock_additional_residuals=features, **extra).sample
        told: dict[str, Tensor] = {}
        handles = []
        for n, (scale, picture) in enumerate(zip(weights, (PICTURE, OTHER), strict=True)):
            if scale is not None:
                adapter = PictureFeatures(nets[n], scale, f"t2i{n}")
                told |= adapter.condition(picture)
                handles.append(adapter.attach(net))
        assert relative(net(X, CLOCK, cond | told), want) < 1e-5 and relative(plain, want) > 1e-2
        for handle in handles:
            handle.remove()
    assert torch.equal(net(X, CLOCK, cond), plain)
    silent = PictureFeatures(nets[0], 0.0)
    silent.attach(net)
    assert torch.equal(net(X, CLOCK, cond | silent.condition(PICTURE)), plain)


@T2I
def test_t2i_adapter_files_in_and_out(settings: Settings, base: Settings, tmp_path: Path) -> None:
    from diffusers import T2IAdapter

    theirs = reference("T2IAdapter", settings)
    theirs.save_pretrained(tmp_path / "in")
    ours = t2i_adapter_files.from_diffusers(tmp_path / "in")
    again = T2IAdapter.from_pretrained(t2i_adapter_files.to_diffusers(ours, tmp_path / "out"), low_cpu_mem_usage=False)
    assert same_tensors(again.state_dict(), theirs.state_dict())
    assert all(again.config[key] == value for key, value in settings.items())
    files = (save_tensors(tmp_path / "theirs.safetensors", theirs.state_dict()),
             t2i_adapter_files.save(ours, tmp_path / "authors.safetensors"))  # fmt: skip
    for file in files:
        back = t2i_adapter_files.load(file)
        assert back.config == ours.config and same_tensors(dict(back.state_dict()), dict(ours.state_dict()))
    names = load_tensors(files[1]).keys()
    wanted = "body.1.body.2.block2.weight" if "light_adapter" in settings.values() else "body.3.block2.weight"
    assert wanted in names and not any(name.startswith("adapter.") for name in names)


def test_sides_that_two_does_not_divide(tmp_path: Path) -> None:
    """A ControlNet and a T2I-Adapter on latents of 5 x 7; a picture that cannot be folded is refused."""
    x, picture = draw(2, 4, 5, 7), draw(2, 3, 40, 56)
    (their_net, net), (their_control, small) = unet(SD1, tmp_path), controlnet(SD1, tmp_path / "control")
    told = {"encoder_hidden_states": TOKENS}
    down, middle = their_control(x, CLOCK, controlnet_cond=(picture + 1) / 2, return_dict=False, **told)
    control = Control(small)
    handle = control.attach(net)
    want = their_net(
        x, CLOCK, down_block_additional_residuals=down, mid_block_additional_residual=middle, **told
    ).sample
    seen = {k: v for k, v in control.condition(picture).items() if not k.startswith("negative.")}
    assert relative(net(x, CLOCK, {"tokens": TOKENS} | seen), want) < 1e-5
    handle.remove()

    theirs = reference("T2IAdapter", FULL)
    theirs.save_pretrained(tmp_path / "t2i")
    adapter = PictureFeatures(t2i_adapter_files.from_diffusers(tmp_path / "t2i"))
    adapter.attach(net)
    want = their_net(x, CLOCK, down_intrablock_additional_residuals=list(theirs((picture + 1) / 2)), **told).sample
    assert relative(net(x, CLOCK, {"tokens": TOKENS} | adapter.condition(picture)), want) < 1e-5
    with pytest.raises(UsageError, match="squares of 8 pixels, which do not fill a picture of 56x44"):
        adapter.condition(draw(2, 3, 44, 56))


def test_t2i_adapters_of_other_bases_are_refused(tmp_path: Path) -> None:
    (_, net), (_, xl) = unet(SD1, tmp_path / "1"), unet(XL3, tmp_path / "2")
    assert [place.skip for place in places(net.config)] == [2, 5, 8, 9]  # before a level is halved
    assert [place.skip for place in places(xl.config)] == [3, 5, 8, 9]  # but XL's first level after it
    for settings, base, words in (
        (WIDE, net, "times smaller"),
        (FULL | {"channels": [8, 8, 16]}, net, "channels 8, 16"),
    ):
        with pytest.raises(UsageError, match=words):
            theirs = reference("T2IAdapter", settings)
            theirs.save_pretrained(tmp_path / "t2i")
            PictureFeatures(t2i_adapter_files.from_diffusers(tmp_path / "t2i")).attach(base)
    for tensors in ({"x": torch.zeros(1)}, {"conv_in.weight": torch.zeros(8, 192, 3, 3), "body.7.x": torch.zeros(1)}):
        with pytest.raises(FileProblem, match=r"no T2I-Adapter|no complete T2I-Adapter"):
            t2i_adapter_files.load(save_tensors(tmp_path / "bad.safetensors", tensors))


IMAGE = {"base": draw(2, 1, 5), "plus": draw(2, 1, 9, 5), "full": draw(2, 1, 9, 5)}


def ip_tensors(kind: str, base: Any, seed: int) -> dict[str, dict[str, Tensor]]:
    """A file's content for a base of diffusers, random."""
    rng = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng) / 3

    d, e, w, h = 6, 5, 8, 64
    image: dict[str, Tensor] = {
        "base": {"proj.weight": rand(4 * d, e), "proj.bias": rand(4 * d), "norm.weight": rand(d), "norm.bias": rand(d)},
        "full": {
            "proj.0.weight": rand(e, e), "proj.0.bias": rand(e), "proj.2.weight": rand(d, e), "proj.2.bias": rand(d),
            "proj.3.weight": rand(d), "proj.3.bias": rand(d),
        },
        "plus": {
            "latents": rand(1, 3, w), "proj_in.weight": rand(w, e), "proj_in.bias": rand(w),
            "proj_out.weight": rand(d, w), "proj_out.bias": rand(d), "norm_out.weight": rand(d),
            "norm_out.bias": rand(d),
        } | {
            f"layers.{i}.{name}": rand(*shape) for i in range(4) for name, shape in {
                "0.norm1.weight": (w,), "0.norm1.bias": (w,), "0.norm2.weight": (w,), "0.norm2.bias": (w,),
                "0.to_q.weight": (h, w), "0.to_kv.weight": (2 * h, w), "0.to_out.weight": (w, h),
                "1.0.weight": (w,), "1.0.bias": (w,), "1.1.weight": (4 * w, w), "1.3.weight": (w, 4 * w),
            }.items()
        },
    }[kind]  # fmt: skip
    names = [name for name in base.attn_processors if "attn2" in name]
    wide = [base.get_submodule(name.removesuffix(".processor")).to_q.out_features for name in names]
    places = {
        f"{2 * n + 1}.{kv}.weight": rand(width, d) for n, width in enumerate(wide) for kv in ("to_k_ip", "to_v_ip")
    }
    return {"image_proj": image, "ip_adapter": places}


def written(content: dict[str, dict[str, Tensor]], path: Path) -> Path:
    if path.suffix == ".bin":
        torch.save(content, path)
        return path
    flat = {f"{table}.{name}": tensor for table, inner in content.items() for name, tensor in inner.items()}
    return save_tensors(path, flat)


@BOTH
@torch.no_grad()
def test_ip_adapters_are_theirs(settings: Settings, tmp_path: Path) -> None:
    """Each form alone, base and plus at once with scales of their own, several pictures."""
    their_net, net = unet(settings, tmp_path)
    cond, extra = condition(settings)
    plain = net(X, CLOCK, cond)
    cases = ([("base", 1.0)], [("plus", 0.6)], [("full", 0.8)], [("base", 0.6), ("plus", 1.2)])
    for case in cases:
        contents = [ip_tensors(kind, their_net, seed) for seed, (kind, _) in enumerate(case)]
        seen = [torch.cat([IMAGE[kind], IMAGE[kind].flip(0)], dim=1) for kind, _ in case]  # two pictures for each
        told: dict[str, Tensor] = {}
        handles = []
        for n, (content, (_, scale)) in enumerate(zip(contents, case, strict=True)):
            file = written(content, tmp_path / ("ip.bin" if n == 0 else "ip.safetensors"))
            adapter = ip_adapter_files.load(file, tokens_dim=6).requires_grad_(False)
            told[f"ip{n}.tokens"] = adapter.tokens(seen[n])
            handles.append(adapter.attach(net, scale, f"ip{n}"))
        fresh = reference("UNet2DConditionModel", settings)
        fresh._load_ip_adapter_weights(contents, low_cpu_mem_usage=False)
        for processor in fresh.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = [scale for _, scale in case]
        added = extra.get("added_cond_kwargs", {}) | {"image_embeds": seen}
        want = fresh(X, CLOCK, TOKENS, added_cond_kwargs=added).sample
        assert relative(net(X, CLOCK, cond | told), want) < 1e-5 and relative(plain, want) > 1e-3
        for handle in handles:
            handle.remove()
        assert torch.equal(net(X, CLOCK, cond), plain)


def ip_adapter(kind: str, base: Any, tmp_path: Path) -> IPAdapter:
    return ip_adapter_files.load(written(ip_tensors(kind, base, 0), tmp_path / "ip.safetensors"))


def test_ip_adapter_without_scale_changes_no_bit_and_only_it_learns(tmp_path: Path) -> None:
    theirs, net = unet(SD1, tmp_path)
    adapter = ip_adapter("base", theirs, tmp_path)
    cond = {"tokens": TOKENS}
    plain, before = net(X, CLOCK, cond), {k: v.clone() for k, v in net.state_dict().items()}
    told = {k: v for k, v in adapter.condition(IMAGE["base"]).items() if not k.startswith("negative.")}
    for scale, window in ((0.0, ALWAYS), (1.0, Window(float("inf"), float("-inf")))):
        handle = adapter.attach(net, scale, window=window)
        assert torch.equal(net(X, CLOCK, cond | told), plain)
        handle.remove()
    handle = adapter.attach(net)
    net(X, CLOCK, cond | told).square().sum().backward()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.grad.abs().max() > 0 for name, parameter in adapter.named_parameters())
    with pytest.raises(UsageError, match=r"no 'ip_adapter\.tokens'"):
        net(X, CLOCK, cond)
    handle.remove()
    assert net.providers == () and same_tensors(dict(net.state_dict()), before)


def test_guidance_doubles_pictures_as_prompts(tmp_path: Path) -> None:
    theirs, net = unet(SD1, tmp_path)
    adapter = ip_adapter("plus", theirs, tmp_path).requires_grad_(False)
    told = adapter.condition(IMAGE["plus"], torch.zeros_like(IMAGE["plus"]))
    positive = {"tokens": TOKENS, "ip_adapter.tokens": told["ip_adapter.tokens"]}
    negative = {"tokens": TOKENS[:, :5], "ip_adapter.tokens": told["negative.ip_adapter.tokens"]}
    adapter.attach(net)
    twice = net(X.repeat(2, 1, 1, 1), CLOCK.repeat(2), stacked(negative, positive))
    assert relative(twice[:2], net(X, CLOCK, negative)) < 1e-5
    assert relative(twice[2:], net(X, CLOCK, positive)) < 1e-5
    longer = negative | {"ip_adapter.tokens": torch.cat([told["negative.ip_adapter.tokens"]] * 2, dim=1)}
    twice = net(X.repeat(2, 1, 1, 1), CLOCK.repeat(2), stacked(longer, positive))  # padded and masked
    assert relative(twice[2:], net(X, CLOCK, positive)) < 1e-5
    with pytest.raises(UsageError, match="reads patches"):
        adapter.condition(IMAGE["plus"])


@pytest.mark.parametrize("kind", ["base", "plus", "full"])
def test_ip_adapter_files_in_and_out(kind: str, tmp_path: Path) -> None:
    theirs, _ = unet(SD1, tmp_path)
    content = ip_tensors(kind, theirs, 1)
    flat = load_tensors(written(content, tmp_path / "in.safetensors"))
    for name in ("in.safetensors", "in.bin"):
        adapter = ip_adapter_files.load(written(content, tmp_path / name))
        assert same_tensors(load_tensors(ip_adapter_files.save(adapter, tmp_path / "out.safetensors")), flat)
        assert adapter.reads_patches == (kind != "base")
    with pytest.raises(UsageError, match="text tokens have 6 numbers; those of this U-Net have 1024, as Stable Diff"):
        ip_adapter_files.load(tmp_path / "in.bin", tokens_dim=1024)
    _, wide = unet(SD1 | {"block_out_channels": [8, 16, 32]}, tmp_path)
    with pytest.raises(UsageError, match="IP-Adapter was made for a base with channels"):
        adapter.attach(wide)


def test_other_ip_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    place = {f"ip_adapter.1.to_{x}_ip.weight": torch.zeros(8, 6) for x in "kv"}
    face = {"image_proj.proj.2.weight": torch.zeros(1, 1), "image_proj.norm.weight": torch.zeros(6)}
    bad: list[tuple[dict[str, Tensor], str]] = [
        (place | face, "FaceID"), ({"image_proj.proj.weight": torch.zeros(8, 6)}, "no complete IP-Adapter"),
        (place | {"image_proj.mystery": torch.zeros(1)}, "not known"),
        (place | {"image_proj.latents": torch.zeros(1, 3, 8)}, r"image_proj\.proj_in\.weight is missing"),
    ]  # fmt: skip
    for tensors, words in bad:
        with pytest.raises(HvisError, match=words):
            ip_adapter_files.load(save_tensors(tmp_path / "bad.safetensors", tensors))
