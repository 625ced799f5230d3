"""LoRA files in every spelling: found on our nets, equal to what diffusers and peft make of them, and written back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_nets import SD1 as THREE_LEVELS
from diffusers_nets import SDXL, draw, reference, relative
from lora_cases import changes, host
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from huggingvis.adapters.lora import LoraSet
from huggingvis.adapters.lora_factors import Factors, Full, LowRank, Rescaled
from huggingvis.adapters.lora_lycoris import Kronecker
from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.diffusers_unet import config_from_diffusers, keymap
from huggingvis.checkpoints.keymap import KeyMap, Rule
from huggingvis.checkpoints.lora_formats import LoraFile, Spelling, read
from huggingvis.checkpoints.lora_formats_fit import Host, fit
from huggingvis.checkpoints.lora_formats_names import address, factor_of
from huggingvis.checkpoints.lora_formats_write import write
from huggingvis.checkpoints.transforms import Split, Transpose
from huggingvis.core.errors import FileProblem, NumericalTrouble, UsageError
from huggingvis.nets.unet import UNet

Tensors = dict[str, Tensor]
Settings = dict[str, Any]
DATA = os.environ.get("HUGGINGVIS_TESTDATA", "")
SD1 = THREE_LEVELS | {
    "layers_per_block": 1, "block_out_channels": [8, 16], "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}  # fmt: skip
LINEAR_PROJECTIONS = SD1 | {"use_linear_projection": True}


def ours(settings: Settings, theirs: nn.Module | None = None) -> UNet:
    """Our net for these settings; with the other's weights, or on the meta device."""
    with torch.device("meta"):
        net = UNet(config_from_diffusers(settings)).eval()
    if theirs is not None:
        assign(net, {name: x.clone() for name, x in keymap(settings).to_ours(theirs.state_dict()).items()})
    return net.requires_grad_(False)


def at(settings: Settings, net: UNet) -> dict[str, Host]:
    return {"unet": Host(net, (keymap(settings),))}


def layers(settings: Settings) -> dict[str, tuple[int, ...]]:
    """diffusers' layers that LoRAs are put on, and the shapes of their weights."""
    state = reference("UNet2DConditionModel", settings).state_dict()
    return {
        name.removesuffix(".weight"): tuple(x.shape)
        for name, x in state.items()
        if name.endswith("weight") and x.ndim > 1 and "norm" not in name
    }


def factors(settings: Settings, which: Callable[[str], bool] = lambda layer: True, rank: int = 2) -> dict[str, Tensors]:
    """Random A and B of each layer, in diffusers' shapes."""
    rng = torch.Generator().manual_seed(7)
    out = {}
    for layer, (rows, columns, *kernel) in layers(settings).items():
        if which(layer):
            ones = (1,) * len(kernel)
            down = torch.randn(rank, columns, *kernel, generator=rng)
            out[layer] = {"down": 0.3 * down, "up": 0.3 * torch.randn(rows, rank, *ones, generator=rng)}
    return out


def attention(layer: str) -> bool:
    return "attn" in layer and "to_" in layer


def kohya(layer: str, factor: dict[str, Tensor]) -> Tensors:
    stem = "lora_unet_" + layer.replace(".", "_")
    return {f"{stem}.lora_down.weight": factor["down"], f"{stem}.lora_up.weight": factor["up"],
            f"{stem}.alpha": torch.tensor(1.5)}  # fmt: skip


def peft_like(layer: str, factor: dict[str, Tensor]) -> Tensors:
    return {f"unet.{layer}.lora_A.weight": factor["down"], f"unet.{layer}.lora_B.weight": factor["up"]}


def adapter_named(layer: str, factor: dict[str, Tensor]) -> Tensors:
    return {f"unet.base_model.model.{layer}.lora_A.default.weight": factor["down"],
            f"unet.base_model.model.{layer}.lora_B.default.weight": factor["up"]}  # fmt: skip


def new_diffusers(layer: str, factor: dict[str, Tensor]) -> Tensors:
    return {f"unet.{layer}.lora.{side}.weight": x for side, x in factor.items()}


def old_diffusers(layer: str, factor: dict[str, Tensor]) -> Tensors:
    stem, side = layer.removesuffix(".0").rsplit(".", 1)
    return {f"unet.{stem}.processor.{side}_lora.{end}.weight": x for end, x in factor.items()}


SPELLINGS = {"kohya": kohya, "lora_A": peft_like, "base_model": adapter_named, "lora.down": new_diffusers,
             "processor": old_diffusers}  # fmt: skip


def saved(path: Path, *tables: Tensors, header: dict[str, str] | None = None) -> Path:
    tensors = {name: x.clone() for table in tables for name, x in table.items()}
    save_file(tensors, path, header)
    return path


def outputs(net: nn.Module, settings: Settings) -> Tensor:
    """What a net of ours or of diffusers says to the same input."""
    x, tokens = draw(2, 4, 8, 8), draw(2, 5, 6)
    clock = torch.tensor([5.0, 700.0])
    with torch.no_grad():
        if not isinstance(net, UNet):
            return net(x, clock, tokens).sample
        return net(x, clock, {"tokens": tokens})


def through_diffusers(path: Path, settings: Settings) -> Tensor:
    """The output after diffusers' own loader has read the file, as its pipelines do."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    theirs = reference("UNet2DConditionModel", settings)
    state, alphas, metadata = Loader.lora_state_dict(str(path), return_lora_metadata=True)
    Loader.load_lora_into_unet(state, network_alphas=alphas, unet=theirs, metadata=metadata)
    return outputs(theirs, settings)


def through_us(path: Path, settings: Settings, merged: bool = True) -> Tensor:
    net = ours(settings, reference("UNet2DConditionModel", settings))
    fitted = fit(read(path), at(settings, net))
    assert fitted.report == ""
    LoraSet((fitted.parts["unet"], 1.0)).attach(net, merged=merged)
    return outputs(net, settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("kohya", SD1), ("kohya", LINEAR_PROJECTIONS), ("lora_A", SD1), ("lora.down", SD1), ("processor", SD1)],
    ids=["kohya", "kohya, linear projections", "lora_A", "lora.down", "processor"],
)
def test_outputs_equal_diffusers(name: str, settings: Settings, tmp_path: Path) -> None:
    everywhere = name in ("kohya", "lora_A")
    chosen = factors(settings, (lambda layer: "time_emb" not in layer) if everywhere else attention)
    path = saved(tmp_path / "lora.safetensors", *(SPELLINGS[name](layer, of) for layer, of in chosen.items()))
    want = through_diffusers(path, settings)
    plain = outputs(reference("UNet2DConditionModel", settings), settings)
    assert relative(plain, want) > 1e-2
    for merged in (True, False):
        assert relative(through_us(path, settings, merged), want) < 1e-5


def test_every_spelling_says_the_same(tmp_path: Path) -> None:
    chosen = factors(SD1, attention)
    hosts = at(SD1, ours(SD1))
    found: dict[str, Any] = {}
    for name, spell in SPELLINGS.items():
        file = read(saved(tmp_path / f"{name}.safetensors", *(spell(layer, of) for layer, of in chosen.items())))
        found[name] = fit(file, hosts).parts["unet"]
    first = found["kohya"]
    assert len(first) == len(chosen)
    for name, parts in found.items():
        assert parts.keys() == first.keys()
        for tensor, change in parts.items():
            assert torch.equal(change.up, first[tensor].up) and torch.equal(change.down, first[tensor].down)
            assert change.scale == (0.75 if name == "kohya" else 1.0)
    kinds = {"kohya": Spelling.KOHYA, "lora_A": Spelling.DIFFUSERS, "base_model": Spelling.PEFT,
             "lora.down": Spelling.DIFFUSERS, "processor": Spelling.DIFFUSERS_OLD}  # fmt: skip
    for name, spelling in kinds.items():
        assert read(tmp_path / f"{name}.safetensors").spelling is spelling


@pytest.mark.parametrize(
    ("name", "factor", "part", "path"),
    [
        ("lora_te_text_model_encoder_layers_3_mlp_fc1.lora_up.weight", "up", "text_encoder",
         "text_model_encoder_layers_3_mlp_fc1"),
        ("lora_te2_text_projection.alpha", "alpha", "text_encoder_2", "text_projection"),
        ("lora_unet_input_blocks_4_1_proj_in.dora_scale", "magnitude", "unet", "input_blocks_4_1_proj_in"),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight", "up", "text_encoder",
         "text_model.encoder.layers.0.self_attn.out_proj"),
        ("text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight", "down",
         "text_encoder_2", "text_model.encoder.layers.0.self_attn.q_proj"),
        ("diffusion_model.input_blocks.1.1.proj_in.lora_B.weight", "up", None, "input_blocks.1.1.proj_in"),
        ("base_model.model.mid.x.lora_magnitude_vector.default.weight", "lengths", None, "mid.x"),
        ("base_model.model.mid.x.hada_w1_a.default", "hada_w1_a", None, "mid.x"),
        ("mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight", "down", None,
         "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"),
        ("down.0.weight", None, None, ""),
        ("model.diffusion_model.out.2.weight", None, None, ""),
    ],
)  # fmt: skip
def test_names_are_read(name: str, factor: str | None, part: str | None, path: str) -> None:
    layer, role = factor_of(name) or ("", None)
    assert role == factor and (address(layer).part, address(layer).path) == (part, path)


@pytest.mark.skipif(not DATA, reason="HUGGINGVIS_TESTDATA is not set: no real LoRA")
def test_the_real_lora_fits_stable_diffusion_2_and_not_1() -> None:
    folder = Path(DATA) / "weights/lora/dog"
    sd1 = json.loads((Path(DATA) / "configs/sd15/unet/config.json").read_text())
    sd2 = sd1 | {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
    file = read(folder)
    assert file.spelling is Spelling.DIFFUSERS_OLD and file.base == "Stable Diffusion 2 (text tokens 1024 wide)"
    fitted = fit(file, at(sd2, ours(sd2)))
    assert fitted.report == "" and file.unread == ()
    used = [x for change in fitted.parts["unet"].values() for x in vars(change).values() if isinstance(x, Tensor)]
    assert len(used) == 256 and sum(x.numel() for x in used) == 829_952
    with pytest.raises(FileProblem) as refusal:
        fit(file, at(sd1, ours(sd1)))
    said = str(refusal.value)
    assert "made for Stable Diffusion 2 (text tokens 1024 wide), but the model is Stable Diffusion 1" in said
    assert "32 of its 128 changes" in said and "\n" not in said and len(said) < 600


def every_kind(settings: Settings) -> Tensors:
    """A LyCORIS file with every kind of change, conv and linear in turn."""
    out: Tensors = {}
    for number, (layer, shape) in enumerate(layers(settings).items()):
        stem = "lora_unet_" + layer.replace(".", "_")
        if shape[0] % 4 or shape[1] % 4:
            out[f"{stem}.diff"] = draw(*shape)
            continue
        possible = list(changes(shape, number).values())
        out |= {f"{stem}.{name}": x for name, x in spelt(possible[number % len(possible)]).items()}
    out["lora_unet_conv_in.diff_b"] = draw(8)
    out["lora_unet_conv_norm_out.w_norm"], out["lora_unet_conv_norm_out.b_norm"] = draw(8), draw(8)
    return out


def spelt(change: Factors) -> Tensors:
    """A change as LyCORIS names its tensors."""
    if isinstance(change, Rescaled):
        lengths = change.magnitude
        return spelt(change.of) | {"dora_scale": lengths[:, None] if lengths.ndim == 1 else lengths}
    prefix = {"Hadamard": "hada_", "Kronecker": "lokr_"}.get(type(change).__name__, "")
    names = {"up": "lora_up.weight", "down": "lora_down.weight", "mid": "lora_mid.weight"}
    tensors = {names.get(name, prefix + name): x for name, x in vars(change).items() if isinstance(x, Tensor)}
    alpha = vars(change).get("alpha")
    return tensors if alpha is None else tensors | {"alpha": torch.tensor(alpha)}


def test_lycoris_in_and_out_is_the_same_file(tmp_path: Path) -> None:
    tensors = every_kind(SD1)
    path = saved(tmp_path / "lycoris.safetensors", tensors, header={"ss_network_module": "lycoris.kohya"})
    hosts = at(SD1, ours(SD1))
    file = read(path)
    fitted = fit(file, hosts)
    kinds = {type(change.of if isinstance(change, Rescaled) else change).__name__ for change in
             fitted.parts["unet"].values()}  # fmt: skip
    assert fitted.report == "" and kinds == {"LowRank", "Hadamard", "Kronecker", "Full"}
    again = read(write(tmp_path / "again.safetensors", fitted.parts, hosts, Spelling.KOHYA, file.metadata))
    assert again.metadata == file.metadata
    refitted = fit(again, hosts)
    write(tmp_path / "third.safetensors", refitted.parts, hosts, Spelling.KOHYA, file.metadata)
    second, third = load_file(tmp_path / "again.safetensors"), load_file(tmp_path / "third.safetensors")
    assert second.keys() == third.keys() and all(torch.equal(x, third[name]) for name, x in second.items())
    renamed = {name.replace("w_norm", "diff").replace("b_norm", "diff_b"): x for name, x in tensors.items()}
    assert second.keys() == renamed.keys()
    assert all(torch.equal(x.flatten(), renamed[name].flatten()) for name, x in second.items())


@pytest.mark.parametrize("spelling", [Spelling.KOHYA, Spelling.DIFFUSERS])
@pytest.mark.parametrize("settings", [SD1, LINEAR_PROJECTIONS], ids=["convolutions", "linear"])
def test_diffusers_loads_what_we_write(spelling: Spelling, settings: Settings, tmp_path: Path) -> None:
    chosen = factors(settings, attention) | factors(settings, lambda layer: "proj_in" in layer or "conv1" in layer, 3)
    source = saved(tmp_path / "source.safetensors", *(kohya(layer, of) for layer, of in chosen.items()))
    hosts = at(settings, ours(settings))
    fitted = fit(read(source), hosts)
    path = write(tmp_path / "pytorch_lora_weights.safetensors", fitted.parts, hosts, spelling, {"trigger": "sks dog"})
    assert relative(through_diffusers(path, settings), through_us(source, settings)) < 1e-5
    assert read(path).metadata["trigger"] == "sks dog"
    same_changes(fit(read(path), hosts).parts["unet"], fitted.parts["unet"])


def test_diffusers_loads_the_doras_we_write(tmp_path: Path) -> None:
    net = ours(LINEAR_PROJECTIONS, reference("UNet2DConditionModel", LINEAR_PROJECTIONS))
    hosts = at(LINEAR_PROJECTIONS, net)
    shapes = {name: shape for name, shape in hosts["unet"].shapes.items() if "attn" in name or "conv1.weight" in name}
    parts = {name: changes(shape, size=0.3)["DoRA"] for name, shape in shapes.items() if len(shape) > 1}
    path = write(tmp_path / "pytorch_lora_weights.safetensors", {"unet": parts}, hosts, Spelling.DIFFUSERS)
    want = through_diffusers(path, LINEAR_PROJECTIONS)
    for written in (parts, fit(read(path), hosts).parts["unet"]):
        handle = LoraSet((written, 1.0)).attach(net)
        assert relative(outputs(net, LINEAR_PROJECTIONS), want) < 1e-5
        handle.remove()


def same_changes(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    for name, change in a.items():
        assert change.scale == b[name].scale
        for field, x in vars(change).items():
            if isinstance(x, Tensor):
                assert torch.equal(x.flatten(), vars(b[name])[field].flatten()), (name, field)


@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "LoHa", "LoHa around cores"])
def test_peft_loads_what_we_write(kind: str, tmp_path: Path) -> None:
    import peft

    settings = LINEAR_PROJECTIONS
    net = ours(settings, reference("UNet2DConditionModel", settings))
    hosts = at(settings, net)
    chosen = {name: shape for name, shape in hosts["unet"].shapes.items() if "attn" in name or "conv1.weight" in name}
    parts = {}
    for number, (name, shape) in enumerate((name, shape) for name, shape in chosen.items() if len(shape) > 1):
        kinds = changes(shape, number, size=0.3)
        parts[name] = kinds.get(kind, kinds["LoHa"])  # a linear layer has no core
    write(tmp_path / "adapter", {"unet": parts}, hosts, Spelling.PEFT)
    theirs = peft.PeftModel.from_pretrained(reference("UNet2DConditionModel", settings), tmp_path / "adapter").eval()
    want = outputs(theirs, settings)
    again = fit(read(tmp_path / "adapter"), hosts)
    assert again.report == "" and again.parts["unet"].keys() == parts.keys()
    for written in (parts, again.parts["unet"]):
        handle = LoraSet((written, 1.0)).attach(net)
        assert relative(outputs(net, settings), want) < 1e-5
        handle.remove()


def test_two_parts_go_to_a_folder_each_and_come_back(tmp_path: Path) -> None:
    net, tower = ours(SD1), nn.Sequential(nn.Linear(8, 8))
    hosts = at(SD1, net) | {"text_encoder": host(tower)}
    parts = {"unet": {"conv_in.weight": LowRank(draw(8, 2), draw(2, 4, 3, 3), alpha=0.5)},
             "text_encoder": {"0.weight": LowRank(draw(8, 3), draw(3, 8))}}  # fmt: skip
    for spelling, name in ((Spelling.PEFT, "both"), (Spelling.DIFFUSERS, "a.safetensors"), (Spelling.KOHYA, "k")):
        again = fit(read(write(tmp_path / name, parts, hosts, spelling)), hosts)
        assert again.report == ""
        for part, wanted in parts.items():
            same_changes(again.parts[part], wanted)


def test_other_layouts_are_moved_with_their_factors() -> None:
    """A fused projection's change in three, and a transposed one's."""
    towers = nn.ModuleDict({name: nn.Linear(6, 4) for name in ("q", "k", "v")} | {"out": nn.Linear(4, 6, bias=False)})
    there = KeyMap([
        Rule(("q.weight", "k.weight", "v.weight"), "attn.in_proj_weight", Split(3)),
        Rule(("q.bias", "k.bias", "v.bias"), "attn.in_proj_bias", Split(3)),
        Rule("out.weight", "text_projection", Transpose()),
    ])  # fmt: skip
    up, down, lengths = draw(12, 2), draw(2, 6), draw(12, 1).abs()
    square = LowRank(draw(4, 2), draw(2, 6), alpha=1.0)  # theirs [4, 6], ours [6, 4]
    targets = {"lora_te_attn_in_proj.weight": Rescaled(LowRank(up, down, alpha=1.0), lengths),
               "lora_te_attn_in_proj.bias": Full(draw(12)), "lora_te_text_projection.weight": square}  # fmt: skip
    file = LoraFile(Path("x"), targets, Spelling.KOHYA, {})
    got = fit(file, {"text_encoder": Host(towers, (there,))}).parts["text_encoder"]
    weights = dict(towers.named_parameters())
    fused = torch.cat([weights[f"{part}.weight"] for part in "qkv"]).detach()
    want = targets["lora_te_attn_in_proj.weight"].delta(fused).chunk(3)
    for part, rows, bias in zip("qkv", want, draw(12).chunk(3)):
        torch.testing.assert_close(got[f"{part}.weight"].delta(weights[f"{part}.weight"].detach()), rows)
        assert torch.equal(got[f"{part}.bias"].delta(weights[f"{part}.bias"].detach()), bias)
    torch.testing.assert_close(got["out.weight"].delta(weights["out.weight"]), 0.5 * (square.up @ square.down).T)


def test_what_does_not_apply_is_counted_in_a_sentence(tmp_path: Path) -> None:
    chosen = factors(SD1, attention)
    tables = [kohya(layer, of) for layer, of in chosen.items()]
    tables.append(
        {"lora_te_text_model_x.lora_down.weight": draw(2, 4), "lora_te_text_model_x.lora_up.weight": draw(4, 2)}
    )
    tables.append(kohya("down_blocks.7.attentions.0.proj_in", {"down": draw(2, 8), "up": draw(8, 2)}))
    tables.append(peft_like(next(iter(chosen)), next(iter(chosen.values()))))  # again, in another spelling
    tables.append({"bundle_emb.sks.string_to_param.*": draw(1, 6)})
    fitted = fit(read(saved(tmp_path / "a.safetensors", *tables)), at(SD1, ours(SD1)))
    assert len(fitted.parts["unet"]) == len(chosen)
    report = fitted.report
    assert report.startswith(f"{len(chosen)} of {len(chosen) + 4} changes apply; left out are 1 that are no factors")
    assert "1 for a text_encoder, which is not here" in report and "1 for layers that the unet here does not" in report
    assert "1 for layers that the file changes under another name" in report
    assert "\n" not in report and len(report) < 900


def test_a_lora_of_another_model_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "xl.safetensors", *(kohya(layer, of) for layer, of in factors(SDXL, attention).items()))
    wide = SD1 | {"cross_attention_dim": 10}
    with pytest.raises(FileProblem, match="made for a model .text tokens 6 wide.*but the model is one .*10 wide"):
        fit(read(path), at(wide, ours(wide)))
    flux = {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": draw(2, 8),
            "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight": draw(8, 2)}  # fmt: skip
    with pytest.raises(FileProblem, match="made for Flux.*none of its changes.*1 for a transformer, which is not here"):
        fit(read(saved(tmp_path / "flux.safetensors", flux)), at(SD1, ours(SD1)))


GOOD = {"lora_unet_conv_in.lora_down.weight": draw(2, 4, 3, 3), "lora_unet_conv_in.lora_up.weight": draw(8, 2, 1, 1)}
BAD: dict[str, tuple[Tensors, str]] = {
    "half": ({"lora_unet_conv_in.lora_down.weight": draw(2, 4, 3, 3)}, "down without the tensors that belong with it"),
    "ranks": (GOOD | {"lora_unet_conv_in.lora_up.weight": draw(8, 3, 1, 1)}, "ranks 3 and 2 of its factors differ"),
    "no rank": (GOOD | {"lora_unet_conv_in.lora_up.weight": draw(8, 0, 1, 1)}, r"up of type .* shape \[8, 0, 1, 1\]"),
    "alphas": (GOOD | {"lora_unet_conv_in.alpha": draw(3)}, "alpha should be one number"),
    "alpha alone": ({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, "alpha without factors"),
    "integers": ({name: x.int() for name, x in GOOD.items()}, "of type torch.int32"),
    "vector": (GOOD | {"lora_unet_conv_in.lora_down.weight": draw(2)}, "factors of shapes"),
    "lokr": ({"lora_unet_x.lokr_w1": draw(2, 2), "lora_unet_x.lokr_w2_a": draw(2, 2)}, "neither whole nor two factors"),
    "loha": ({f"lora_unet_x.hada_{n}": draw(4, 4) for n in ("w1_a", "w1_b", "w2_a", "w2_b", "t1")}, "two cores or no"),
    "magnitude": ({"lora_unet_x.dora_scale": draw(4, 1)}, "magnitude without"),
    "model": ({"model.diffusion_model.out.2.weight": draw(4, 4)}, "none of its 1 tensors is a factor"),
    "twice": (GOOD | {"lora_unet_conv_in.lora_A.weight": draw(2, 4, 3, 3)}, "down of 'lora_unet_conv_in' twice"),
    "long names": ({"x" * 5000: draw(2)}, "none of its 1 tensors is a factor"),
    "long layers": ({f"{'x' * 5000}.lora_up.weight": draw(2, 2)}, "up without the tensors"),
    "oft": ({"lora_unet_x.oft_blocks": draw(2, 4, 4)}, "it is OFT, which rotates weights"),
    "ia3": ({"lora_unet_x.weight": draw(4), "lora_unet_x.on_input": torch.tensor(True)}, "it is IA3"),
    "glora": ({"lora_unet_x.a1.weight": draw(4, 4)}, "it is GLoRA"),
    "control": ({"lora_controlnet": draw(1)}, "it is a ControlLoRA"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_are_refused_in_a_paragraph(fault: str, tmp_path: Path) -> None:
    tensors, words = BAD[fault]
    path = saved(tmp_path / f"{fault}.safetensors", tensors)
    with pytest.raises(FileProblem, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_damaged_and_poisoned_files_are_refused(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "nan.safetensors", GOOD | {"lora_unet_conv_in.lora_up.weight": torch.full((8, 2), torch.nan)}
    )
    with pytest.raises(NumericalTrouble, match="lora_unet_conv_in.lora_up.weight"):
        read(path)
    whole = saved(tmp_path / "whole.safetensors", GOOD).read_bytes()
    for length in (0, 5, 60, len(whole) - 3):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(FileProblem, match="cut.safetensors"):
            read(tmp_path / "cut.safetensors")
    with pytest.raises(FileProblem, match="no LoRA: expected one of adapter_model.safetensors"):
        (tmp_path / "empty").mkdir()
        read(tmp_path / "empty")
    with pytest.raises(FileProblem, match="absent.safetensors"):
        read(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[]", "JSON object"), ("{", "JSON object"), ('{"peft_type": "OFT"}', "method OFT"),
        ('{"r": "four"}', "r should be a number"), ('{"init_lora_weights": "pissa_niter_4"}', "pissa_niter_4 start"),
        ('{"fan_in_fan_out": true}', "fan_in_fan_out"), ('{"alpha_pattern": [1]}', "JSON object"),
        ('{"lora_alpha": 4, "r": 2, "alpha_pattern": {"(a+)+": 1}}', "only plain names"),
    ],
)  # fmt: skip
def test_settings_that_change_the_meaning_are_refused(said: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(said)
    saved(tmp_path / "adapter_model.safetensors", {"base_model.model.x.lora_A.weight": draw(2, 4),
                                                   "base_model.model.x.lora_B.weight": draw(4, 2)})  # fmt: skip
    with pytest.raises(FileProblem, match=words):
        read(tmp_path)


def test_what_a_spelling_cannot_hold_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    hosts = {"unet": host(net)}
    kinds = changes((8, 8))
    cases: list[tuple[dict[str, Factors], Spelling, str]] = [
        (
            {"0.weight": kinds["LoKr"]},
            Spelling.PEFT,
            "Kronecker change of the weight of '0' has no place in a LoRA of peft",
        ),
        ({"0.weight": kinds["LoHa"]}, Spelling.DIFFUSERS, "Hadamard change"),
        ({"0.bias": kinds["LoRA"]}, Spelling.KOHYA, "bias of '0' should be a whole difference"),
        ({"0.weight": kinds["LoRA"], "1.weight": kinds["DoRA"]}, Spelling.PEFT, "mixes 2"),
        ({"0.weight": kinds["DoRA of inputs"]}, Spelling.DIFFUSERS, "for outputs only"),
        ({"0.weight": kinds["LoRA"]}, Spelling.DIFFUSERS_OLD, "nobody needs"),
        ({}, Spelling.KOHYA, "the LoRA is empty"),
    ]
    for change, spelling, words in cases:
        with pytest.raises(UsageError, match=words):
            write(tmp_path / "x", {"unet": change}, hosts, spelling)
        assert list(tmp_path.iterdir()) == []


def test_two_whole_parts_have_one_scale_whoever_wrote_them(tmp_path: Path) -> None:
    """LyCORIS writes an alpha that it does not use there; peft uses it."""
    parts = {
        "lora_unet_0.lokr_w1": draw(2, 2),
        "lora_unet_0.lokr_w2": draw(4, 4),
        "lora_unet_0.alpha": torch.tensor(9.0),
    }
    hosts = {"unet": host(nn.Sequential(nn.Linear(8, 8)))}
    got = fit(read(saved(tmp_path / "a.safetensors", parts)), hosts).parts["unet"]["0.weight"]
    assert isinstance(got, Kronecker) and got.scale == 1.0
    scaled = Kronecker(w1=draw(2, 2), w2=draw(4, 4), alpha=3.0)
    again = read(write(tmp_path / "b.safetensors", {"unet": {"0.weight": scaled}}, hosts)).targets["lora_unet_0.weight"]
    assert isinstance(again, Kronecker)
    zero = torch.zeros(8, 8)
    assert again.scale == 1.0
    torch.testing.assert_close(again.delta(zero), scaled.delta(zero))
