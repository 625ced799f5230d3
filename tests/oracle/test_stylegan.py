"""Style-based generators: styles, truncation, mixing, layer noise, and what the sheets show of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.protocols import Decodes, Generative
from huggingvis.core.system import Spec, System
from huggingvis.edits.explore.mix import Exploration as Mixing
from huggingvis.edits.explore.truncation import Exploration as Truncated
from huggingvis.edits.exploring import exploration
from huggingvis.nets.adain_synthesis import AdaINSynthesis, adain
from huggingvis.nets.layer_noise import DrawnNoise, NoNoise, StoredNoise
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, StyleMapping, Truncation, fresh_generator, mix
from huggingvis.nets.stylegan2_synthesis import StyledConv, StyleGAN2Synthesis
from huggingvis.nets.stylegan3_sizes import Filtering, Schedule, StyleGAN3Sizes
from huggingvis.nets.stylegan3_synthesis import StyleGAN3Synthesis
from huggingvis.systems.unconditional import Unconditional

SIZES = StyleGANSizes(widths=(12, 12, 8), z_dim=6, w_dim=7, mapping_layers=3)
SYNTHESES: dict[str, Callable[[StyleGANSizes], nn.Module]] = {"v1": AdaINSynthesis, "v2": StyleGAN2Synthesis}
both = pytest.mark.parametrize("version", SYNTHESES)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generator(version: str, sizes: StyleGANSizes = SIZES, seed: int = 0) -> StyleGenerator:
    """With noise that shows, in float64."""
    torch.manual_seed(seed)
    net = fresh_generator(sizes, SYNTHESES[version](sizes)).double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("noise_strength"):
                p.fill_(0.3)
        net.w_avg.normal_()
    return net.requires_grad_(False)


def test_adain_gives_each_map_its_mean_and_deviation() -> None:
    scale, shift = normal(2, 3, seed=1), normal(2, 3, seed=2)
    y = adain(3 + 2 * normal(2, 3, 9, 9), scale, shift)
    assert torch.allclose(y.mean((2, 3)), shift, atol=1e-10)
    assert torch.allclose(y.std((2, 3), correction=0), scale.abs(), atol=1e-6)


@both
def test_truncation_to_nothing_is_one_picture(version: str) -> None:
    net = generator(version)
    net.truncation = Truncation(0.0)
    ws = net.styles(4, {}, SeedNoise(range(4)))
    x = net.paint(ws, NoNoise())
    assert torch.equal(x, x[:1].expand_as(x))
    assert torch.equal(ws[0], net.w_avg.expand_as(ws[0]))
    drawn = net.sample(4, {}, noise=SeedNoise(range(4)))  # only the noise differs
    assert not torch.allclose(drawn[0], drawn[1])


def test_truncation_is_the_papers_line() -> None:
    ws, mean = normal(2, 5, 3), normal(3, seed=1)
    assert Truncation()(ws, mean) is ws
    half = Truncation(0.5)(ws, mean)
    assert torch.allclose(half, mean + 0.5 * (ws - mean), atol=1e-14)
    part = Truncation(0.5, layers=2)(ws, mean)
    assert torch.equal(part[:, :2], half[:, :2]) and torch.equal(part[:, 2:], ws[:, 2:])


@both
@pytest.mark.parametrize("layer", [1, 2, 3, 5])
def test_mixing_leaves_earlier_layers_alone(version: str, layer: int) -> None:
    net = generator(version)
    a, b = (net.spread(net.mapping(normal(2, 6, seed=seed))) for seed in (1, 2))
    units = [m for m in net.modules() if type(m).__name__ in ("StyledConv", "StyleEpilogue")]

    def activations(ws: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []
        hooks = [m.register_forward_hook(lambda _m, _i, out: seen.append(out)) for m in units]
        net.paint(ws, StoredNoise())
        for hook in hooks:
            hook.remove()
        return seen

    alone, mixed = activations(mix(a, a, layer)), activations(mix(a, b, layer))
    same = [torch.equal(x, y) for x, y in zip(alone, mixed, strict=True)]
    assert same == [i < layer for i in range(len(units))]
    each = mix(a, b, torch.tensor([layer, net.layers]))
    assert torch.equal(each[0], mix(a, b, layer)[0]) and torch.equal(each[1], a[1])


@both
def test_sheets_show_mixing_and_truncation(version: str) -> None:
    """The explorations of styles: each cell mixes the sources at its edges; psi 0 is one picture, psi 1 the draws."""
    net = generator(version).float().requires_grad_(False)
    system = System(Spec("g", "stylegan", (16, 16)), {}, Unconditional(), Pixels(), lambda request: net)
    assert exploration("mix") is Mixing and exploration("truncation") is Truncated
    finding = Mixing(layer=2, rows=2, columns=3, seed=5)(system, ())
    ws = net.latents(5, {}, noise=SeedNoise(range(5, 10)))
    cell = net.decode(mix(ws[1:2], ws[4:5], 2))[0]
    assert np.array_equal(finding.tiles.pictures[2 * 4 + 3].pixels, Picture.from_signal(cell.numpy()).pixels)
    with pytest.raises(UsageError, match="6 layers of styles"):
        Mixing(layer=7)(system, ())
    sweep = Truncated(psi=(0.0, 1.0), rows=2, seed=5)(system, ())
    shown = [tile.pixels for tile in sweep.tiles.pictures]
    assert np.array_equal(shown[0], shown[2]) and not np.array_equal(shown[1], shown[3])
    assert np.array_equal(shown[3], Picture.from_signal(net.decode(ws[1:2])[0].numpy()).pixels)


@both
def test_layer_noise_is_stored_drawn_or_none(version: str) -> None:
    net = generator(version)
    ws = net.spread(net.mapping(normal(2, 6)))
    still, stored = net.paint(ws, NoNoise()), net.paint(ws, StoredNoise())
    assert not torch.allclose(still, stored) and torch.equal(stored, net.decode(ws))
    drawn = [net.paint(ws, DrawnNoise(SeedNoise(seeds).draw)) for seeds in ([1, 2], [1, 2], [1, 3])]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0][0], drawn[2][0]) and not torch.allclose(drawn[0][1], drawn[2][1])
    constant = DrawnNoise(lambda like: like.new_zeros(like.shape))
    assert torch.allclose(net.paint(ws, constant), still, atol=1e-12)


@both
def test_pictures_do_not_depend_on_their_batch(version: str) -> None:
    net = generator(version, StyleGANSizes((8, 8), 1, 4, 4, 2, classes=3))
    assert isinstance(net, Generative) and isinstance(net, Decodes)
    label = torch.eye(3, dtype=torch.float64)[[0, 2]]
    for cond in ({"vector": label}, {"vector": torch.zeros_like(label)}, {}):
        two = net.sample(2, cond, noise=SeedNoise([4, 5]))
        one = net.sample(1, {key: value[1:] for key, value in cond.items()}, noise=SeedNoise([5]))
        assert torch.allclose(two[1:], one, atol=1e-12)
    wanted = net.sample(2, {"vector": label}, noise=SeedNoise([4, 4]))
    assert not torch.allclose(wanted[0], wanted[1])  # the class alone differs


def test_mapping_does_not_see_the_length_of_z() -> None:
    torch.manual_seed(0)
    mapping, z = StyleMapping(6, 7, layers=3).double(), normal(2, 6)
    assert torch.allclose(mapping(z), mapping(5 * z), atol=1e-6)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_critic_reads_the_class(classes: int, residual: bool) -> None:
    torch.manual_seed(0)
    critic = StyleDiscriminator(StyleGANSizes((8, 8, 6), classes=classes), residual).double()
    x = normal(4, 3, 16, 16)
    label = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    assert critic(x, label).shape == (4,)
    assert torch.equal(critic(x, label), critic(x, label.roll(1, 0))) == (classes == 0)


def test_sizes_say_what_is_wrong() -> None:
    assert StyleGANSizes((8, 8, 8, 4)).resolution == 32 and StyleGANSizes((8, 8)).sides == (4, 8)
    with pytest.raises(UsageError, match="width for each of 4, 8"):
        StyleGANSizes(())


def test_layers_have_the_shapes_of_their_place() -> None:
    conv = StyledConv(5, 6, 8, SIZES, enlarges=True)
    assert conv(torch.zeros(2, 5, 4, 4), torch.zeros(2, 7), StoredNoise()).shape == (2, 6, 8, 8)
    assert generator("v2").layers == generator("v1").layers == 6


def test_each_network_is_one_graph() -> None:
    """Nothing in them makes the compiler give up or fall back: whatever backend fuses it, it sees all of it."""
    net = generator("v2", StyleGANSizes((8, 8), z_dim=6, w_dim=7, mapping_layers=2))
    critic = StyleDiscriminator(StyleGANSizes((8, 8))).double().requires_grad_(False)
    ws = net.spread(net.mapping(normal(2, 6)))
    x = torch.compile(net.synthesis, backend="eager", fullgraph=True)(ws, StoredNoise())
    assert torch.allclose(x, net.decode(ws), atol=1e-12)
    assert torch.allclose(torch.compile(critic, backend="eager", fullgraph=True)(x), critic(x), atol=1e-12)
    schedule = Schedule(8, width=24, layers=2, critical=1, first_cutoff=1, first_stopband=2, margin=2)
    smooth = StyleGAN3Synthesis(StyleGAN3Sizes(schedule, Filtering(radial=True), w_dim=7)).double()
    y = torch.compile(smooth, backend="eager", fullgraph=True)(ws, NoNoise())
    assert torch.allclose(y, smooth(ws, NoNoise()), atol=1e-12)
