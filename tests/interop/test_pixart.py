"""PixArt against diffusers', and its files: folders of diffusers and the authors' own, in and out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_nets import VAE, Settings, draw, reference, relative, same_tensors
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.checkpoints import diffusers_pixart, original_pixart
from huggingvis.checkpoints.assign import assign
from huggingvis.checkpoints.diffusers_common import read_weights
from huggingvis.checkpoints.io import load, save
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.errors import FileProblem, HvisError, UsageError
from huggingvis.core.learned_variance import LearnedVariance
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.process import Eps
from huggingvis.core.sample import sample
from huggingvis.core.taps import OutputTap, QKVTap, Site, attach, sites
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.nets.dit_blocks import PatchEmbedding, sincos_positions, unpatchify
from huggingvis.nets.pixart import PixArt, PixArtBlock, PixArtConfig
from huggingvis.processes.table import TableProcess
from huggingvis.samplers.dpm_solver import DPMSolver
from huggingvis.samplers.grids import Linspace

CLASS, OLDER = diffusers_pixart.CLASS, diffusers_pixart.OLDER
SMALL: Settings = {
    "num_attention_heads": 4, "attention_head_dim": 6, "num_layers": 2, "cross_attention_dim": 24, "sample_size": 8,
    "caption_channels": 10,
}  # fmt: skip
MANY_SIZES = SMALL | {"use_additional_conditions": True, "interpolation_scale": 2, "out_channels": 4}
WIDE_PATCH = SMALL | {"patch_size": 4, "sample_size": 16, "in_channels": 3, "out_channels": None, "norm_eps": 1e-5}
OLD: Settings = MANY_SIZES | {  # as PixArt-XL-2-1024-MS spells itself
    "in_channels": 4, "patch_size": 2, "attention_bias": True, "activation_fn": "gelu-approximate", "norm_eps": 1e-6,
    "norm_type": "ada_norm_single", "norm_elementwise_affine": False, "num_embeds_ada_norm": 1000,
}  # fmt: skip
KINDS = {
    "one size": (CLASS, SMALL), "many sizes": (CLASS, MANY_SIZES), "wide patch": (CLASS, WIDE_PATCH),
    "older class": (OLDER, OLD),
}  # fmt: skip
CLOCK = torch.tensor([3.0, 977.0])
MASK = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


def inputs(settings: Settings, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, text tokens, and what the `vector` port is told."""
    vector = torch.tensor([[512.0, 768, 512 / 768], [1024, 960, 1024 / 960]])
    return draw(2, settings.get("in_channels", 4), height, width), draw(2, 7, settings["caption_channels"]), vector


def theirs_of(net: nn.Module, x: Tensor, tokens: Tensor, vector: Tensor, mask: Tensor | None) -> Tensor:
    sizes = {"resolution": vector[:, :2], "aspect_ratio": vector[:, 2:]}
    told = sizes if net.use_additional_conditions else None
    return net(x, tokens, CLOCK, told, encoder_attention_mask=mask, return_dict=False)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["single", "double"])
def test_output_is_theirs(kind: str, dtype: torch.dtype, most: float, tmp_path: Path) -> None:
    name, settings = KINDS[kind]
    theirs = reference(name, settings)
    theirs.save_pretrained(tmp_path)
    ours, theirs = diffusers_pixart.from_diffusers(tmp_path, dtype=dtype), theirs.to(dtype)
    for height, width in ((8, 8), (16, 16), (12, 20)):
        x, tokens, vector = (a.to(dtype) for a in inputs(settings, height, width))
        told = {"vector": vector} if ours.config.sizes else {}
        for mask in (None, MASK):
            cond = {"tokens": tokens, **({} if mask is None else {"tokens_mask": mask}), **told}
            out, want = ours(x, CLOCK, cond), theirs_of(theirs, x, tokens, vector, mask)
            assert out.dtype == dtype and relative(out, want) < most


@torch.no_grad()
def test_what_is_told_counts(tmp_path: Path) -> None:
    reference(CLASS, MANY_SIZES).save_pretrained(tmp_path)
    ours = diffusers_pixart.from_diffusers(tmp_path)
    x, tokens, vector = inputs(MANY_SIZES, 8, 8)
    cond = {"tokens": tokens, "vector": vector}
    out = ours(x, CLOCK, cond)
    for other in (
        {"vector": vector * torch.tensor([1.5, 1, 1])}, {"vector": vector * torch.tensor([1, 1, 1.5])},
        {"tokens_mask": MASK}, {"tokens": tokens.roll(1, 0)},
    ):  # fmt: skip
        assert relative(ours(x, CLOCK, cond | other), out) > 1e-3
    hidden = torch.where(MASK[..., None], tokens, 9.0)
    masked = ours(x, CLOCK, cond | {"tokens_mask": MASK})
    assert torch.equal(ours(x, CLOCK, cond | {"tokens": hidden, "tokens_mask": MASK}), masked)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_in_and_out_are_identical(kind: str, tmp_path: Path) -> None:
    name, settings = KINDS[kind]
    theirs = reference(name, settings)
    theirs.save_pretrained(tmp_path / "in")
    ours = diffusers_pixart.from_diffusers(tmp_path / "in")
    config = json.loads((tmp_path / "in/config.json").read_text())
    diffusers_pixart.to_diffusers(ours, tmp_path / "out", config)
    assert same_tensors(read_weights(tmp_path / "out"), theirs.state_dict())
    again = type(theirs).from_pretrained(tmp_path / "out", low_cpu_mem_usage=False)
    assert same_tensors(again.state_dict(), theirs.state_dict())


@torch.no_grad()
def test_diffusers_loads_and_runs_what_we_write(tmp_path: Path) -> None:
    import diffusers

    for number, settings in enumerate((SMALL, MANY_SIZES, WIDE_PATCH)):
        config = replace(diffusers_pixart.config_from_diffusers(settings), clock_scale=1000.0)
        net = stirred(config)
        folder = diffusers_pixart.to_diffusers(net, tmp_path / str(number))
        theirs = diffusers.PixArtTransformer2DModel.from_pretrained(folder, low_cpu_mem_usage=False).eval()
        x, tokens, vector = inputs(settings, 8, 16)
        want = theirs_of(theirs, x, tokens, vector, MASK)
        assert relative(net(x, CLOCK / 1000, {"tokens": tokens, "tokens_mask": MASK, "vector": vector}), want) < 1e-5
        back = diffusers_pixart.from_diffusers(folder)
        assert back.config == replace(config, clock_scale=1.0)
        assert same_tensors(dict(back.state_dict()), dict(net.state_dict()))


def test_early_files_of_diffusers_are_read(tmp_path: Path) -> None:
    theirs = reference(OLDER, OLD)
    theirs.save_pretrained(tmp_path)
    extra = {"caption_projection.y_embedding": draw(120, 10), "pos_embed.pos_embed": draw(1, 16, 24)}
    save(tmp_path / "diffusion_pytorch_model.safetensors", theirs.state_dict() | extra)
    ours = diffusers_pixart.from_diffusers(tmp_path).state_dict()
    assert same_tensors(diffusers_pixart.keymap().to_theirs(ours), theirs.state_dict())


def stirred(config: PixArtConfig) -> PixArt:
    """A fresh net whose zeros are none any more."""
    torch.manual_seed(1)
    net = PixArt(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return net


@torch.no_grad()
def test_twenty_guided_steps_are_the_pipelines() -> None:
    """DPM-Solver++ on their default betas, guidance 4.5, empty negative text with a mask of its own, sizes told."""
    import diffusers

    net = reference(CLASS, SMALL | {"sample_size": 128, "interpolation_scale": 2})
    blocks = {
        f"{side}_block_types": [f"{side.title()}{part}Block2D"] * 4
        for side, part in (("down", "Encoder"), ("up", "Decoder"))
    }
    vae = diffusers.AutoencoderKL(**VAE | blocks | {"block_out_channels": [4] * 4})
    pipe = diffusers.PixArtAlphaPipeline(None, None, vae, net, diffusers.DPMSolverMultistepScheduler())
    pipe.set_progress_bar_config(disable=True)
    x, (tokens, empty) = draw(2, 4, 8, 12), draw(2, 2, 7, 10)
    mask, alone = MASK, torch.tensor([[True] + [False] * 6] * 2)
    want = pipe(
        negative_prompt=None, prompt_embeds=tokens, prompt_attention_mask=mask.long(), negative_prompt_embeds=empty,
        negative_prompt_attention_mask=alone.long(), height=64, width=96, latents=x.clone(), output_type="latent",
        use_resolution_binning=False,
    ).images  # fmt: skip

    ours = PixArt(diffusers_pixart.config_from_diffusers(dict(net.config)))
    ours.load_state_dict(diffusers_pixart.keymap().to_ours(net.state_dict()))
    process = TableProcess.linear()
    denoise = ClassifierFree(4.5)(NetDenoiser(ours, process, LearnedVariance(Eps())))
    cond = {"tokens": tokens, "tokens_mask": mask, "negative.tokens": empty, "negative.tokens_mask": alone,
            "vector": torch.tensor([[64.0, 96, 64 / 96]] * 2)}  # fmt: skip
    grid = Linspace(20, open_end=True)(process)
    found = sample(denoise, process, DPMSolver(), x, grid, cond, noise=ReplayNoise([]))
    assert relative(found, want) < 1e-5


# ---- the authors' own files


ORIGINAL = {  # diffusers' names and the authors', as the conversion that published the folders has them
    "pos_embed.proj": "x_embedder.proj", "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "caption_projection.linear_2": "y_embedder.y_proj.fc2", "adaln_single.linear": "t_block.1",
    "adaln_single.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "adaln_single.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "adaln_single.emb.resolution_embedder.linear_1": "csize_embedder.mlp.0",
    "adaln_single.emb.resolution_embedder.linear_2": "csize_embedder.mlp.2",
    "adaln_single.emb.aspect_ratio_embedder.linear_1": "ar_embedder.mlp.0",
    "adaln_single.emb.aspect_ratio_embedder.linear_2": "ar_embedder.mlp.2",
    "proj_out": "final_layer.linear", "attn1.to_out.0": "attn.proj", "attn2.to_q": "cross_attn.q_linear",
    "attn2.to_out.0": "cross_attn.proj", "ff.net.0.proj": "mlp.fc1", "ff.net.2": "mlp.fc2",
}  # fmt: skip


def published(theirs: Any) -> dict[str, Tensor]:
    """The tensors of diffusers' net as the authors' file holds them."""
    left, out = dict(theirs.state_dict()), {}
    for block in range(theirs.config.num_layers):
        for leaf in ("weight", "bias"):
            for attn, fused, parts in (("attn1", "attn.qkv", "qkv"), ("attn2", "cross_attn.kv_linear", "kv")):
                tensors = [left.pop(f"transformer_blocks.{block}.{attn}.to_{part}.{leaf}") for part in parts]
                out[f"blocks.{block}.{fused}.{leaf}"] = torch.cat(tensors)
    out["final_layer.scale_shift_table"] = left.pop("scale_shift_table")
    for name, tensor in left.items():
        for new, old in ORIGINAL.items():
            name = name.replace(new, old)
        out[name.replace("transformer_blocks", "blocks")] = tensor
    out["pos_embed"] = theirs.pos_embed.pos_embed
    return out | {"y_embedder.y_embedding": draw(120, theirs.config.caption_channels)}


@pytest.mark.parametrize("settings", [SMALL, MANY_SIZES], ids=["one size", "many sizes"])
def test_the_authors_files(settings: Settings, tmp_path: Path) -> None:
    theirs = reference(CLASS, settings)
    tensors = published(theirs)
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "in.pth")
    ours = original_pixart.from_original(tmp_path / "in.pth", heads=4)
    theirs.save_pretrained(tmp_path / "folder")
    folder = diffusers_pixart.from_diffusers(tmp_path / "folder")
    assert ours.config == folder.config
    assert same_tensors(dict(ours.state_dict()), dict(folder.state_dict()))

    left_out = tensors["y_embedder.y_embedding"]
    original_pixart.to_original(ours, tmp_path / "out.safetensors", left_out=left_out)
    assert same_tensors(load(tmp_path / "out.safetensors"), tensors)
    half = original_pixart.from_original(tmp_path / "out.safetensors", heads=4, dtype=torch.bfloat16)
    assert half.config == ours.config and {x.dtype for x in half.state_dict().values()} == {torch.bfloat16}

    del tensors["pos_embed"]
    save(tmp_path / "bare.safetensors", tensors)
    bare = original_pixart.from_original(tmp_path / "bare.safetensors", heads=4, size=128)
    assert (bare.config.size, bare.config.interpolation) == (128, 2.0)
    with pytest.raises(FileProblem, match="lacks pos_embed"):
        original_pixart.from_original(tmp_path / "bare.safetensors", heads=4)


@pytest.mark.parametrize("interpolation", [0.5, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_interpolation_is_read_from_the_table(interpolation: float, dtype: torch.dtype) -> None:
    config = replace(diffusers_pixart.config_from_diffusers(SMALL), interpolation=interpolation, size=32)
    tensors = original_pixart.keymap().to_theirs(PixArt(config).state_dict())
    table = sincos_positions(16, 16, config.width, config.extent)
    for shape in ((256, 24), (1, 256, 24)):
        tensors["pos_embed"] = table.to(dtype).reshape(shape)
        assert original_pixart.config_from_tensors(tensors, heads=4) == config


# ---- the net itself


PUBLISHED = {
    "1024": ({"_class_name": OLDER, "sample_size": 128, "in_channels": 4, "out_channels": 8, "patch_size": 2}, 2.0),
    "512": ({"_class_name": OLDER, "sample_size": 64, "in_channels": 4, "out_channels": 8, "patch_size": 2}, 1.0),
}
XL: Settings = {
    "num_layers": 28, "attention_head_dim": 72, "attention_bias": True, "num_attention_heads": 16,
    "cross_attention_dim": 1152, "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single", "norm_elementwise_affine": False, "norm_eps": 1e-6, "caption_channels": 4096,
    "attention_type": "default", "double_self_attention": False, "dropout": 0.0, "norm_num_groups": 32,
    "num_vector_embeds": None, "only_cross_attention": False, "upcast_attention": False, "use_linear_projection": False,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size(name: str) -> None:
    """611 million parameters (paper: 0.6 billion), those of sizes beside at 1024; every name and every shape."""
    import diffusers

    own, interpolation = PUBLISHED[name]
    config = diffusers_pixart.config_from_diffusers(own | XL)
    assert config == PixArtConfig(size=int(str(own["sample_size"])), interpolation=interpolation, sizes=name == "1024")
    with torch.device("meta"):
        ours = PixArt(config)
        theirs = diffusers.PixArtTransformer2DModel(sample_size=own["sample_size"], caption_channels=4096)
    assert sum(p.numel() for p in ours.parameters()) == {"512": 610_856_096, "1024": 611_349_152}[name]
    names = diffusers_pixart.keymap().to_theirs(ours.state_dict())
    assert {k: v.shape for k, v in names.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.slow
@torch.no_grad()
def test_full_size_output_is_theirs() -> None:
    """The net of 1024 x 1024 on a small picture and 120 tokens; both hold the same tensors, 2.3 GiB once."""
    import diffusers

    with torch.device("meta"):
        theirs = diffusers.PixArtTransformer2DModel(sample_size=128, caption_channels=4096).eval()
        ours = PixArt(diffusers_pixart.config_from_diffusers(dict(theirs.config))).eval()
    theirs.to_empty(device="cpu")
    g = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        parameter.normal_(0, 0.5 * parameter.shape[-1] ** -0.5, generator=g)
    assign(ours, diffusers_pixart.keymap().to_ours(theirs.state_dict()))
    assert ours.table.data_ptr() == theirs.scale_shift_table.data_ptr()
    x, tokens, mask = draw(2, 4, 12, 20), draw(2, 120, 4096), torch.arange(120) < torch.tensor([[1], [33]])
    vector = torch.tensor([[768.0, 1280, 0.6], [1024, 1024, 1.0]])
    out = ours(x, CLOCK, {"tokens": tokens, "tokens_mask": mask, "vector": vector})
    assert relative(out, theirs_of(theirs, x, tokens, vector, mask)) < 1e-5


@torch.no_grad()
def test_one_modulation_and_tables_are_dits_modulation_of_each_block_with_shared_weights() -> None:
    """adaLN-single is DiT's adaLN whose block i has the shared MLP, with E_i added to its bias."""
    config = PixArtConfig(size=8, heads=2, head_dim=6, depth=3, tokens_dim=5)
    net = stirred(config).double()
    x, clock, tokens = draw(2, 4, 8, 8).double(), CLOCK.double(), draw(2, 3, 5).double()

    emb, text, h = net.time(clock), net.text(tokens), net.patches(x)
    for block in net.blocks:
        assert isinstance(block, PixArtBlock)
        adaln = nn.Sequential(nn.SiLU(), nn.Linear(12, 6 * 12, dtype=torch.float64))
        adaln[1].weight.data, adaln[1].bias.data = net.modulation.weight, net.modulation.bias + block.table.flatten()
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = adaln(emb)[:, None].chunk(6, dim=-1)
        h = h + gate_a * block.attn1(F.layer_norm(h, (12,), eps=1e-6) * (1 + scale_a) + shift_a)
        h = h + block.attn2(h, text)
        h = h + gate_f * block.ff(F.layer_norm(h, (12,), eps=1e-6) * (1 + scale_f) + shift_f)
    shift, scale = (net.table.flatten() + emb.repeat(1, 2))[:, None].chunk(2, dim=-1)
    h = net.out(F.layer_norm(h, (12,), eps=1e-6) * (1 + scale) + shift)
    want = F.fold(h.unflatten(2, (4, 8)).transpose(2, 3).flatten(2).transpose(1, 2), (8, 8), 2, stride=2)
    assert relative(net(x, clock, {"tokens": tokens}), want) < 1e-12


def test_a_fresh_net_predicts_zero_and_reads_nothing_yet() -> None:
    net = PixArt(PixArtConfig(size=8, heads=2, head_dim=6, depth=2, tokens_dim=5)).eval()
    x, tokens = draw(2, 4, 8, 8), draw(2, 3, 5)
    assert not net(x, CLOCK, {"tokens": tokens}).any()
    nn.init.normal_(net.out.weight)
    assert torch.equal(net(x, CLOCK, {"tokens": tokens}), net(x, CLOCK, {"tokens": -tokens}))


def test_patches_know_their_places() -> None:
    """Column first, then row, [sin, cos] each; and whatever their number, they end where the trained ones do."""
    table = sincos_positions(3, 5, 8, extent=5.0).view(3, 5, 8)
    for row, column in ((0, 0), (2, 1), (1, 4)):
        places = torch.tensor([column, row * 5 / 3])
        angles = torch.stack([places, places / 100], dim=1)  # [axis, frequency]
        assert torch.allclose(table[row, column], torch.cat([angles.sin(), angles.cos()], 1).flatten(), atol=1e-6)
    fine, coarse = (sincos_positions(n, n, 8, 32.0).view(n, n, 8) for n in (64, 32))
    assert torch.equal(fine[::2, ::2], coarse)
    assert torch.equal(unpatchify(nn.functional.unfold(draw(1, 1, 6, 4), 2, stride=2).mT, (3, 2), 2), draw(1, 1, 6, 4))


@pytest.mark.parametrize("size", [(7, 8), (8, 5)])
def test_sizes_that_patches_do_not_fill_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiples of 2"):
        PatchEmbedding(4, 8, 2, 4.0)(draw(1, 4, *size))


class Halved(OutputTap):
    def output(self, site: Site, out: Tensor) -> Tensor:
        return out / 2


class Seen(QKVTap):
    def __init__(self) -> None:
        self.places: list[tuple[str, bool, tuple[int, ...]]] = []

    def qkv(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.places.append((site.name, site.cross, tuple(k.shape)))
        return q, k, v


def test_taps_see_every_attention_and_leave_the_bits() -> None:
    net = stirred(PixArtConfig(size=8, heads=2, head_dim=6, depth=2, tokens_dim=5))
    x, cond = draw(2, 4, 8, 8), {"tokens": draw(2, 3, 5)}
    before, seen = net(x, CLOCK, cond), Seen()
    assert list(sites(net)) == ["blocks.0.attn1", "blocks.0.attn2", "blocks.1.attn1", "blocks.1.attn2"]
    handles = [attach(net, seen), attach(net, Halved(), "*.attn2")]
    assert relative(net(x, CLOCK, cond), before) > 1e-3
    assert seen.places == [
        (f"blocks.{n}.attn{m}", m == 2, (2, 2, 16 if m == 1 else 3, 6)) for n in (0, 1) for m in (1, 2)
    ]
    for handle in handles:
        handle.remove()
    assert torch.equal(net(x, CLOCK, cond), before)


# ---- what is refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("norm_type", "ada_norm_zero"), ("norm_type", "layer_norm"), ("activation_fn", "geglu"), ("dropout", 0.1),
        ("attention_bias", False), ("attention_type", "gated"), ("norm_elementwise_affine", True),
        ("upcast_attention", True), ("double_self_attention", True), ("num_vector_embeds", 8),
        ("caption_channels", None), ("caption_channels", "wide"), ("caption_channels", 0), ("caption_channels", [10]),
        ("cross_attention_dim", 32), ("cross_attention_dim", None), ("num_attention_heads", 0),
        ("num_attention_heads", 3), ("attention_head_dim", None), ("attention_head_dim", 1e6), ("num_layers", 10**6),
        ("num_layers", True), ("num_layers", -1), ("patch_size", 0), ("patch_size", 16), ("patch_size", 2.0),
        ("sample_size", 1), ("sample_size", [8, 8]), ("sample_size", "large"), ("interpolation_scale", 0),
        ("interpolation_scale", [1.0]), ("interpolation_scale", float("nan")), ("norm_eps", [1e-6]),
        ("norm_eps", float("inf")), ("use_additional_conditions", 1), ("in_channels", {"a": 4}),
        ("out_channels", 10**6),
    ],
)  # fmt: skip
def test_settings_that_no_net_of_ours_computes_are_refused_by_name(key: str, value: Any) -> None:
    blamed = {("sample_size", 1): "patch_size", ("out_channels", 10**6): "patch_size",
              ("num_attention_heads", 3): "attention_head_dim"}  # fmt: skip
    named = key if isinstance(value, list | dict) else blamed.get((key, value), key)
    with pytest.raises(FileProblem, match=f"config.json .* for {named} |config.json asks for {named} ="):
        diffusers_pixart.config_from_diffusers(SMALL | {key: value})


def without(settings: Settings, *keys: str) -> Settings:
    return {key: value for key, value in settings.items() if key not in keys}


@pytest.mark.parametrize(
    "key",
    ["in_channels", "patch_size", "sample_size", "caption_channels", "attention_bias", "norm_type", "activation_fn",
     "norm_elementwise_affine"],
)  # fmt: skip
def test_the_older_class_is_other_nets_by_default(key: str) -> None:
    """A `Transformer2DModel` that leaves these out is no PixArt."""
    with pytest.raises(FileProblem, match=key):
        diffusers_pixart.config_from_diffusers(without(OLD, key) | {"_class_name": OLDER})


BAD: list[tuple[Callable[[dict[str, Tensor]], object], str]] = [
    (lambda t: t.pop("x_embedder.proj.weight"), "x_embedder.proj.weight with 4 axes"),
    (lambda t: t.update({"final_layer.linear.weight": draw(4)}), "final_layer"),
    (lambda t: t.update({"final_layer.linear.weight": draw(7, 24)}), "heads"),
    (lambda t: t.update({"x_embedder.proj.weight": draw(22, 4, 2, 2)}), "heads"),
    (lambda t: t.update({"pos_embed": draw(1, 15, 24)}), "square table"),
    (lambda t: t.update({"pos_embed": draw(1, 16, 24)}), "even distances"),
    (lambda t: t.update({"pos_embed": torch.zeros(1, 16, 24)}), "even distances"),
    (lambda t: t.update({"pos_embed": torch.zeros(1).expand(1, 10**8, 24)}), "cannot be read"),
    (lambda t: t.update({"blocks.0.attn.rel_pos_h": draw(15, 6)}), "no place"),
    (lambda t: t.update({"blocks.7.scale_shift_table": draw(6, 24)}), "does not fit"),
    (lambda t: t.pop("blocks.1.cross_attn.kv_linear.bias"), "does not fit"),
    (lambda t: t.update({"blocks.1.attn.qkv.bias": draw(7)}), "does not have the layout"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_damaged_and_foreign_files_are_refused(number: int, tmp_path: Path) -> None:
    damage, word = BAD[number]
    tensors = published(reference(CLASS, SMALL))
    damage(tensors)
    torch.save(tensors, tmp_path / "bad.pth")
    with pytest.raises(FileProblem, match=word) as caught:
        original_pixart.from_original(tmp_path / "bad.pth", heads=4)
    assert "\n" not in str(caught.value)


def test_other_classes_and_other_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HvisError, match=CLASS):
        diffusers_pixart.config_from_diffusers({"_class_name": "PixArtTransformer2D"})
    net = PixArt(diffusers_pixart.config_from_diffusers(SMALL))
    with pytest.raises(UsageError, match="other sizes"):
        diffusers_pixart.to_diffusers(net, tmp_path, SMALL | {"num_layers": 3})
    with pytest.raises(UsageError, match="multiple of 3"):
        PixArtConfig(heads=2, head_dim=8, sizes=True)
    with pytest.raises(UsageError, match="patches of 4"):
        PixArtConfig(size=2, patch=4)
    diffusers_pixart.to_diffusers(net, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"num_layers": 3}))
    with pytest.raises(FileProblem, match="does not fit"):
        diffusers_pixart.from_diffusers(tmp_path)
