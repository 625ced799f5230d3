"""Style-based generators against explicit sums and closed forms: kernels, filters, styles, penalties, augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.codecs.pixels import Pixels
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.noise import SeedNoise
from huggingvis.core.objective import Turn
from huggingvis.core.protocols import Decodes, Generative
from huggingvis.core.system import Spec, System
from huggingvis.edits.explore.mix import Exploration as Mixing
from huggingvis.edits.explore.truncation import Exploration as Truncated
from huggingvis.edits.exploring import exploration
from huggingvis.nets.adain_synthesis import AdaINSynthesis, adain
from huggingvis.nets.layer_noise import DrawnNoise, LayerNoise, NoNoise, StoredNoise
from huggingvis.nets.modulated_conv import modulated_conv2d, modulated_upconv2d
from huggingvis.nets.resampling import blur2d, downsample2d, taps, upfirdn2d, upsample2d
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, StyleMapping, Truncation, fresh_generator, mix
from huggingvis.nets.stylegan2_synthesis import StyledConv, StyleGAN2Synthesis
from huggingvis.objectives.augment import Augment, Draws, Strengths, blit, recolour, warp
from huggingvis.objectives.stylegan import Adaptive, Penalties, StyleGAN, path_lengths
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


# ---- resampling ------------------------------------------------------------------------------------------------------


def spelt_out(x: Tensor, taps: Tensor, up: int, down: int, padding: tuple[int, int], gain: float) -> Tensor:
    """Zeros inserted, padded or cropped, convolved tap by tap, decimated."""
    b, c, h, w = x.shape
    full = x.new_zeros(b, c, h * up, w * up)
    full[:, :, ::up, ::up] = x
    full = F.pad(full, (*padding, *padding))
    kernel, k = torch.outer(taps, taps), len(taps)
    height, width = full.shape[2] - k + 1, full.shape[3] - k + 1
    out = x.new_zeros(b, c, height, width)
    for i in range(k):
        for j in range(k):
            out += kernel[k - 1 - i, k - 1 - j] * full[:, :, i : i + height, j : j + width]
    return gain * out[:, :, ::down, ::down]


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2, 3])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (-1, 3), (4, -2)])
def test_upfirdn_is_zeros_then_filter_then_decimation(up: int, down: int, padding: tuple[int, int]) -> None:
    x, f = normal(2, 3, 8, 7), normal(4, seed=1)
    ours = upfirdn2d(x, f, up=up, down=down, padding=padding, gain=1.7)
    assert torch.allclose(ours, spelt_out(x, f, up, down, padding, 1.7), atol=1e-12)


@pytest.mark.parametrize("weights", [(1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 1.0)])
def test_resampling_keeps_a_flat_picture(weights: tuple[float, ...]) -> None:
    f, flat = taps(weights).double(), torch.full((1, 1, 8, 8), 0.7, dtype=torch.float64)
    for change, side in ((upsample2d, 16), (downsample2d, 4), (blur2d, 8)):
        out = change(flat, f)
        assert out.shape == (1, 1, side, side)
        assert torch.allclose(out[:, :, 2:-2, 2:-2] if side > 4 else out[:, :, 1:-1, 1:-1], flat[0, 0, 0, 0])


def test_resampling_can_be_differentiated_twice() -> None:
    x = normal(1, 2, 4, 4).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda x: upsample2d(x, taps().double()).square(), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: downsample2d(x, taps().double()).square(), (x,), fast_mode=True)


# ---- modulated convolution -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_modulated_convolution_is_a_kernel_of_its_own_for_each_picture(dtype: torch.dtype, close: float) -> None:
    x, weight, styles = (
        normal(3, 4, 6, 5).to(dtype),
        normal(7, 4, 3, 3, seed=1).to(dtype),
        normal(3, 4, seed=2).to(dtype),
    )
    for i in range(3):
        kernel = weight * styles[i][None, :, None, None]  # Eq. 1
        plain = F.conv2d(x[i : i + 1], kernel, padding=1)
        assert torch.allclose(modulated_conv2d(x, weight, styles, demodulate=False)[i], plain[0], atol=close)
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # Eq. 3
        assert torch.allclose(modulated_conv2d(x, weight, styles)[i], F.conv2d(x[i], kernel, padding=1), atol=close)
        zeros = F.pad(spelt_out(x[i : i + 1], x.new_ones(1), 2, 1, (0, 0), 1.0), (1, 0, 1, 0))  # 2 H + 1
        blown = F.conv2d(F.pad(zeros, (1, 1, 1, 1)), kernel.flip(2, 3))
        up = spelt_out(blown, taps().to(dtype), 1, 1, (1, 1), 4.0)
        assert torch.allclose(modulated_upconv2d(x, weight, styles, taps().to(dtype))[i], up[0], atol=close)


def test_demodulated_output_has_unit_deviation() -> None:
    """For inputs that are white noise of unit variance, whatever the styles (Sec. 2.2)."""
    x, weight, styles = normal(4, 16, 66, 66), normal(8, 16, 3, 3, seed=1), 5 * normal(4, 16, seed=2)
    y = modulated_conv2d(x, weight, styles)[:, :, 1:-1, 1:-1]
    assert torch.allclose(y.std((2, 3)), y.new_ones(4, 8), atol=0.05)
    assert float(modulated_conv2d(x, weight, styles, demodulate=False).std()) > 20


# ---- styles ----------------------------------------------------------------------------------------------------------


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


# ---- losses ----------------------------------------------------------------------------------------------------------


class LinearSynthesis(nn.Module):
    """x = A w, with the mean over its layers' styles: Jacobian A / L in each layer."""

    layers = 2

    def __init__(self, a: Tensor, shape: tuple[int, int, int]):
        super().__init__()
        self.a, self.shape = nn.Parameter(a), shape

    def forward(self, ws: Tensor, noise: LayerNoise) -> Tensor:
        return (ws.mean(1) @ self.a.T).unflatten(1, self.shape)


class LinearCritic(nn.Module):
    """D(x) = <a, x> + b."""

    def __init__(self, a: Tensor, b: float):
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(torch.tensor(b, dtype=a.dtype))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        return x.flatten(1) @ self.a + self.b


SHAPE = (1, 3, 4)


def linear(
    penalties: Penalties, b: float = 0.0, augment: Augment | None = None, adaptive: Adaptive | None = None
) -> StyleGAN:
    torch.manual_seed(0)
    pixels = math.prod(SHAPE)
    net = StyleGenerator(StyleMapping(5, 4, layers=2), LinearSynthesis(normal(pixels, 4), SHAPE), 4).double()
    critic = LinearCritic(normal(pixels, seed=3), b)
    return StyleGAN(net, critic, penalties, augment=augment, adaptive=adaptive).double()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_r1_of_a_linear_critic_is_its_squared_length() -> None:
    game = linear(Penalties(r1=3.0, r1_every=16))
    assert isinstance(game.critic, LinearCritic)
    losses = game.r1_penalty({"image": normal(5, *SHAPE)}, 0, rng())
    assert float(losses["penalty"].detach()) == pytest.approx(
        16 * 3.0 / 2 * float(game.critic.a.detach().square().sum()), rel=1e-12
    )
    losses["penalty"].backward()
    assert game.critic.a.grad is not None
    assert torch.allclose(game.critic.a.grad, 16 * 3.0 * game.critic.a, atol=1e-10)


def test_path_lengths_of_a_linear_generator_are_known() -> None:
    """x = A mean_l w_l gives J_l^T y = A^T y / L, so the length is |A^T y| / (L sqrt(H W))."""
    game = linear(Penalties())
    assert isinstance(game.generator.synthesis, LinearSynthesis)
    ws, noise = normal(6, 2, 4).requires_grad_(True), normal(6, *SHAPE, seed=5)
    lengths = path_lengths(game.generator.paint(ws, NoNoise()), ws, noise)
    known = (noise.flatten(1) @ game.generator.synthesis.a).norm(dim=1) / 2 / 12**0.5
    assert torch.allclose(lengths, known, atol=1e-12)


def test_path_penalty_is_the_distance_to_the_running_mean() -> None:
    p = Penalties(path=2.0, path_every=8, path_share=0.5, path_decay=0.1, mixing=0.0)
    game = linear(p)
    game.path_mean.fill_(1.5)
    batch = {"image": normal(4, *SHAPE)}
    first = game.path_penalty(batch, 0, rng(1))
    drawn = rng(1)
    torch.randn(2, 5, generator=drawn, dtype=torch.float64)  # z of half the batch
    assert isinstance(game.generator.synthesis, LinearSynthesis)
    y = torch.randn(2, *SHAPE, generator=drawn, dtype=torch.float64)
    known = (y.flatten(1) @ game.generator.synthesis.a).norm(dim=1) / 2 / 12**0.5
    mean = 0.9 * 1.5 + 0.1 * known.mean()
    assert float(first["penalty"].detach()) == pytest.approx(2 * 8 * float((known - mean).square().mean()), rel=1e-9)
    after(game, "path", 0, batch)
    assert float(game.path_mean) == pytest.approx(float(mean), rel=1e-9)


def after(game: StyleGAN, name: str, step: int, batch: dict[str, Tensor]) -> None:
    turn = next(turn for turn in game.turns(step) if turn.name == name)
    game.after(turn, step, params={}, batch=batch, reduce=lambda x: x)


def test_turns_are_lazy() -> None:
    turns = linear(Penalties()).turns(0)
    assert [(t.name, *t.nets, t.every) for t in turns] == [
        ("generator", "generator", 1),
        ("path", "generator", 8),
        ("critic", "critic", 1),
        ("r1", "critic", 16),
    ]
    assert [t.name for t in linear(Penalties(path=0.0, r1=0.0)).turns(0)] == ["generator", "critic"]
    assert all(isinstance(turn, Turn) for turn in turns)


def test_losses_are_the_logistic_game() -> None:
    game = linear(Penalties(mixing=0.0), b=0.3)
    batch = {"image": normal(64, *SHAPE)}
    losses = game.critic_loss(batch, 0, rng(2))
    drawn = rng(2)
    w = game.generator.mapping(torch.randn(64, 5, generator=drawn, dtype=torch.float64))
    fake = game.critic(game.generator.paint(game.generator.spread(w), NoNoise()))
    true = game.critic(batch["image"])
    assert float(losses["fake"]) == pytest.approx(-float(F.logsigmoid(-fake).mean()), rel=1e-9)
    assert float(losses["real"]) == pytest.approx(-float(F.logsigmoid(true).mean()), rel=1e-9)
    assert float(losses["_signs"]) == pytest.approx(float(true.sign().mean()), rel=1e-9)
    made = game.generator_loss(batch, 0, rng(2))["adversarial"]
    assert float(made) == pytest.approx(-float(F.logsigmoid(fake).mean()), rel=1e-9)
    before = game.generator.w_avg.clone()
    after(game, "critic", 0, batch)
    assert torch.allclose(game.generator.w_avg, before.lerp(w.mean(0), 0.002), atol=1e-12)


def test_mixing_takes_its_share_and_never_a_whole_style() -> None:
    game = linear(Penalties(mixing=0.5))
    ws, w = game.styles(4000, None, rng())
    changed = (ws != w[:, None]).any(2)  # [B, L]
    assert not changed[:, 0].any() and float(changed[:, 1].double().mean()) == pytest.approx(0.5, abs=0.03)


# ---- augmentation ----------------------------------------------------------------------------------------------------


def test_the_probability_moves_as_its_formula() -> None:
    rule = Adaptive(batch=20, target=0.6, every=4, kimg=1.0)
    p = torch.tensor(0.5)
    assert float(rule.moved(p, torch.tensor(0.7))) == pytest.approx(0.5 + 20 * 4 / 1000)
    assert float(rule.moved(p, torch.tensor(0.5))) == pytest.approx(0.5 - 20 * 4 / 1000)
    assert float(rule.moved(torch.tensor(0.01), torch.tensor(-1.0))) == 0.0
    assert float(rule.moved(torch.tensor(0.99), torch.tensor(1.0))) == 1.0


@pytest.mark.parametrize(("b", "way"), [(1e3, 1), (-1e3, -1)])
def test_the_probability_follows_the_critic_every_fourth_step(b: float, way: int) -> None:
    """A critic that calls every picture real raises it, one that calls none lowers it."""
    batch = {"image": normal(10, 1, 8, 8)}
    game = linear(Penalties(), augment=Augment(), adaptive=Adaptive(batch=10, every=4, kimg=1.0))
    game.critic = LinearCritic(normal(64, seed=3), b)
    game.generator.synthesis = LinearSynthesis(normal(64, 4), (1, 8, 8))
    game.augment_p.fill_(0.5)
    seen = []
    for step in range(8):
        game.critic_loss(batch, step, rng(step))
        after(game, "critic", step, batch)
        seen.append(float(game.augment_p))
    assert seen == pytest.approx([0.5] * 3 + [0.5 + way * 0.04] * 4 + [0.5 + way * 0.08])


@pytest.mark.parametrize("channels", [1, 3])
def test_no_probability_no_change(channels: int) -> None:
    x = normal(3, channels, 16, 16)
    augment = Augment().double()
    assert torch.allclose(augment(x, torch.tensor(0.0), rng()), x, atol=1e-6)  # the filter is kept in float32
    y = augment(x, torch.tensor(1.0), rng())
    assert y.shape == x.shape and not torch.allclose(y, x, atol=0.1)
    assert torch.equal(y, augment(x, torch.tensor(1.0), rng()))
    assert float(y.std()) < 4 * float(x.std())


def motion(rows: list[list[float]]) -> Tensor:
    return torch.tensor([[*rows, [0.0, 0.0, 1.0]]], dtype=torch.float64)


def test_blitting_is_exact() -> None:
    x = normal(1, 2, 8, 8)
    assert torch.equal(blit(x, motion([[-1, 0, 0], [0, 1, 0]])), x.flip(3))
    assert torch.equal(blit(x, motion([[0, -1, 0], [1, 0, 0]])), torch.rot90(x, 1, (2, 3)))
    moved = blit(x, motion([[1, 0, 2], [0, 1, 0]]))  # looks two pixels to the right
    assert torch.equal(moved[..., :6], x[..., 2:]) and torch.equal(moved[..., 6:], x[..., 6:].flip(3))


def bump(x: Tensor, y: Tensor) -> Tensor:
    """A smooth picture known everywhere: a Gaussian around (3, -2), two pixels wide."""
    return torch.exp(-((x - 3) ** 2 + (y + 2) ** 2) / 8)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, 1.5], [0, 1, -0.5]],
        [[0, -1, 0], [1, 0, 0]],
        [[0.8, -0.6, 1], [0.6, 0.8, 0]],
        [[0.5, 0, 0], [0, 0.5, 0]],
        [[0.7, 0, 0], [0, 1.4, 0]],
    ],
    ids=["shift", "right angle", "rotation", "scale", "aspect"],
)
def test_warping_looks_where_it_says(rows: list[list[float]]) -> None:
    f, line = Augment().taps.double(), torch.arange(32, dtype=torch.float64) - 15.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    picture = bump(x, y)[None, None]
    still = warp(picture, motion([[1, 0, 0], [0, 1, 0]]), f)
    assert torch.allclose(still, picture, rtol=0, atol=1e-6)
    (a, b, c), (d, e, g) = rows
    want = bump(a * x + b * y + c, d * x + e * y + g)
    inside = (slice(8, 24), slice(8, 24))
    assert torch.allclose(warp(picture, motion(rows), f)[0, 0][inside], want[inside], rtol=0, atol=0.03)


def test_colours_turn_about_grey() -> None:
    augment = Augment(Strengths(brightness_std=0.0, contrast_std=0.0)).double()
    tint = augment.tint(Draws(500, rng(), torch.float64), torch.tensor(1.0), 3)
    grey = torch.full((500, 3, 1, 1), 0.5, dtype=torch.float64)
    assert torch.allclose(recolour(grey, tint).abs(), grey, atol=1e-12)  # its sign may flip, no colour appears
    light = Augment(Strengths(brightness_std=0.3, contrast_std=0.0)).double()
    tint = light.tint(Draws(4000, rng(), torch.float64), torch.tensor(1.0), 1)
    moved = recolour(torch.zeros(4000, 1, 1, 1, dtype=torch.float64), tint)
    assert float(moved.std()) == pytest.approx(0.3, rel=0.05)


def test_transformations_come_with_their_probability() -> None:
    augment = Augment().double()
    jumps = augment.jump(Draws(6000, rng(), torch.float64), torch.tensor(0.3), 16)
    assert float(
        (jumps[:, 0, 0] * jumps[:, 1, 1] - jumps[:, 0, 1] * jumps[:, 1, 0] < 0).double().mean()
    ) == pytest.approx(0.15, abs=0.02)
    moved = (jumps[:, :2, 2] != 0).any(1).double().mean()
    assert float(moved) == pytest.approx(0.3 * (1 - 1 / 16), abs=0.03)
    bends = augment.bend(Draws(6000, rng(), torch.float64), torch.tensor(0.3), 16)
    sheared = (bends[:, 0, 1].abs() > 1e-9).double().mean()
    assert float(sheared) == pytest.approx(0.3, abs=0.03)


def test_augmentation_can_be_differentiated_twice() -> None:
    augment = Augment().double()
    x = normal(1, 1, 8, 8).requires_grad_(True)
    assert torch.autograd.gradgradcheck(
        lambda x: augment(x, torch.tensor(1.0), rng(1)).pow(3).sum(), (x,), fast_mode=True
    )


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
