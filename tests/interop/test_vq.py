"""Our quantisers and VQ autoencoder against diffusers and vector-quantize-pytorch: same weights, same numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from huggingvis.checkpoints import diffusers_vq
from huggingvis.checkpoints.diffusers_common import read_weights
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.nets.autoencoder_kl import AutoencoderConfig
from huggingvis.nets.lookup_free import FiniteScalarQuantiser, LookupFreeQuantiser
from huggingvis.nets.quantisers import AveragedQuantiser, Quantiser, VectorQuantiser
from huggingvis.nets.vq_autoencoder import latent_vq

os.environ["HF_HUB_OFFLINE"] = "1"
Settings = dict[str, Any]
VQ: Settings = {
    "block_out_channels": [8, 16], "layers_per_block": 1, "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2, "latent_channels": 3, "norm_num_groups": 4, "sample_size": 16,
    "num_vq_embeddings": 20,
}  # fmt: skip
WIDE = VQ | {"vq_embed_dim": 5, "mid_block_add_attention": False, "layers_per_block": 2, "out_channels": 6}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


def alone(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize("legacy", [True, False])
def test_vector_quantiser_is_diffusers(legacy: bool) -> None:
    from diffusers.models.autoencoders.vae import VectorQuantizer

    torch.manual_seed(0)
    theirs = VectorQuantizer(30, 6, beta=0.25, legacy=legacy, sane_index_shape=True)
    torch.nn.init.normal_(theirs.embedding.weight)
    ours = VectorQuantiser(30, 6, commitment=1.0, weight=0.25) if legacy else VectorQuantiser(30, 6)
    ours.codebook.data.copy_(theirs.embedding.weight.data)
    z, weight = draw(3, 6, 4, 5), draw(3, 6, 4, 5, seed=1)
    grads = []
    for net in (ours, theirs):
        x = z.clone().requires_grad_()
        if net is ours:
            found = ours(x)
            loss = sum(part.mean() for part in found.losses.values())
            z_q, codes, table = found.z, found.codes, ours.codebook
        else:
            z_q, loss, (_, _, indices) = theirs(x)
            assert torch.equal(codes, indices) and relative(found.z, z_q) < 1e-6
            table = theirs.embedding.weight
        (loss + (z_q * weight).sum()).backward()
        grads.append((loss, x.grad, table.grad))
    for mine, other in zip(*grads):
        assert relative(mine, other) < 1e-6


@pytest.mark.parametrize("settings", [VQ, WIDE], ids=["plain", "wide"])
def test_vq_autoencoder_is_diffusers(settings: Settings, tmp_path: Path) -> None:
    import diffusers

    torch.manual_seed(0)
    theirs = diffusers.VQModel(**settings).eval().requires_grad_(False)
    for parameter in theirs.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    torch.nn.init.normal_(theirs.quantize.embedding.weight)
    theirs.save_pretrained(tmp_path / "in")
    ours = diffusers_vq.from_diffusers(tmp_path / "in")
    x = draw(2, 3, 16, 16)
    z = theirs.encode(x).latents
    out, found = ours(x)
    assert relative(ours.latents(x), z) < 1e-6
    assert relative(out, theirs(x).sample) < 1e-5
    assert torch.equal(ours.encode(x).flatten(), theirs.quantize(z)[2][2])
    assert torch.equal(ours.decode(found.codes), out) and len(found.codes.unique()) > 3
    folder = diffusers_vq.to_diffusers(ours, tmp_path / "out")
    assert read_weights(folder).keys() == theirs.state_dict().keys()
    again = diffusers.VQModel.from_pretrained(folder, low_cpu_mem_usage=False)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in theirs.state_dict().items())
    asked = {key: value for key, value in settings.items() if key != "sample_size"}
    told = {key: list(v) if isinstance(v, tuple) else v for key, v in again.config.items() if key in asked}
    assert told == asked


@torch.no_grad()
@pytest.mark.parametrize("quantiser", [VectorQuantiser(12, 4), AveragedQuantiser(12, 4)], ids=["vq", "averaged"])
def test_diffusers_loads_and_runs_our_vq_autoencoder(quantiser: Quantiser, tmp_path: Path) -> None:
    import diffusers

    torch.manual_seed(0)
    sizes = AutoencoderConfig(in_channels=1, latent_channels=2, channels=(8, 16), blocks=1, groups=4)
    net = latent_vq(quantiser, sizes).eval()
    folder = diffusers_vq.to_diffusers(net, tmp_path)
    theirs = diffusers.VQModel.from_pretrained(folder, low_cpu_mem_usage=False)
    x = draw(2, 1, 8, 8)
    assert relative(net(x)[0], theirs(x).sample) < 1e-5
    assert relative(diffusers_vq.from_diffusers(folder)(x)[0], theirs(x).sample) < 1e-5


def test_what_cannot_be_expressed_is_refused_by_name(tmp_path: Path) -> None:
    for change, word in (
        ({"norm_type": "spatial"}, "norm_type"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 2}, "up_block_types"),
        ({"_class_name": "AutoencoderKL"}, "VQModel"),
    ):
        with pytest.raises(FileProblem, match=word):
            diffusers_vq.config_from_diffusers(VQ | change)
    sizes = AutoencoderConfig(channels=(8, 16), blocks=1, groups=4)
    with pytest.raises(UsageError, match="FiniteScalarQuantiser"):
        diffusers_vq.to_diffusers(latent_vq(FiniteScalarQuantiser((5, 5)), sizes), tmp_path)


# ---- vector-quantize-pytorch -----------------------------------------------------------------------------------------


def test_averaged_codebook_is_that_of_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(0)
    theirs = VectorQuantize(
        dim=5, codebook_size=16, decay=0.9, commitment_weight=0.25, threshold_ema_dead_code=0, eps=0.0,
        accept_image_fmap=True, rotation_trick=False,
    ).train()  # fmt: skip
    book = theirs._codebook
    book.embed.copy_(torch.randn(1, 16, 5))
    book.embed_avg.copy_(book.embed)
    ours = AveragedQuantiser(16, 5, decay=0.9, revive=0.0)
    ours.codebook.copy_(book.embed[0])
    count = 3 * 4 * 4  # they begin with one latent seen for each code; ours are shares of a batch
    ours.usage.fill_(1 / count)
    ours.sums.copy_(book.embed[0] / count)
    for i in range(6):
        z = draw(3, 5, 4, 4, seed=i)
        found = ours(z)
        z_q, codes, loss = theirs(z)
        assert torch.equal(found.codes, codes) and relative(found.z, z_q) < 1e-6
        assert relative(found.losses["commitment"].mean(), loss) < 1e-5
        ours.observe(z, found.codes, torch.Generator().manual_seed(i))
        ours.settle(alone)
        assert relative(ours.codebook, book.embed[0]) < 1e-5
        assert relative(ours.usage * count, book.cluster_size[0]) < 1e-5


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (8, 6, 5), (3, 4)])
def test_fsq_is_that_of_vector_quantize_pytorch(levels: tuple[int, ...]) -> None:
    from vector_quantize_pytorch import FSQ

    theirs, ours = FSQ(list(levels)), FiniteScalarQuantiser(levels)
    z, weight = 2 * draw(3, len(levels), 6, 6), draw(3, len(levels), 6, 6, seed=1)
    grads: list[Any] = []
    for net in (ours, theirs):
        x = z.clone().requires_grad_()
        found = net(x)
        z_q, codes = (found.z, found.codes) if net is ours else found
        (z_q * weight).sum().backward()
        grads.append((z_q, codes, x.grad))
    assert relative(grads[0][0], grads[1][0]) < 1e-6 and torch.equal(grads[0][1], grads[1][1].long())
    assert relative(grads[0][2], grads[1][2]) < 1e-6
    assert relative(ours.look_up(grads[0][1]), theirs.indices_to_codes(grads[1][1])) < 1e-6


def test_lfq_is_that_of_vector_quantize_pytorch() -> None:
    from vector_quantize_pytorch import LFQ

    theirs = LFQ(dim=4, codebook_size=16, entropy_loss_weight=0.1, commitment_loss_weight=0.25, diversity_gamma=0.7)
    theirs = theirs.train()
    ours = LookupFreeQuantiser(4, entropy=0.1, commitment=0.25, diversity=0.7, temperature=1.0)
    z, weight = 0.4 * draw(3, 4, 5, 5), draw(3, 4, 5, 5, seed=1)  # chances below 1e-5 are cut off in theirs
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    found = ours(a)
    mine = found.losses["commitment"].mean() + found.losses["entropy"]
    z_q, codes, other = theirs(b, inv_temperature=1.0)
    assert torch.equal(found.codes, codes.long()) and torch.equal(found.z, z_q)
    assert relative(mine, other) < 1e-5
    (mine + (found.z * weight).sum()).backward()
    (other + (z_q * weight).sum()).backward()
    assert a.grad is not None and b.grad is not None and relative(a.grad, b.grad) < 1e-5
    assert torch.equal(ours.look_up(found.codes), theirs.indices_to_codes(codes))
