"""What a text memory returns has the bits of what it saves, whatever is done to text, weights and places meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from huggingvis.adapters.ip_adapter import IPAdapter, word_places
from huggingvis.adapters.lora import LoraSet
from huggingvis.adapters.lora_factors import LowRank
from huggingvis.core.belief import Gaussian
from huggingvis.core.protocols import Cond
from huggingvis.core.taps import QKVTap, Site, attach
from huggingvis.core.text_memory import Remembers, remembering
from huggingvis.guidance.cfg import ClassifierFree
from huggingvis.nets.attention import Attention
from huggingvis.nets.image_tokens import EmbeddingTokens
from huggingvis.nets.pixart import PixArt, PixArtConfig
from huggingvis.nets.unet import UNet, UNetConfig

WIDTH = 24
SIZES = UNetConfig(4, 4, channels=(32, 64), blocks=1, attention=(1, 0), heads=4, tokens_dim=WIDTH, groups=8)


def unet(dtype: torch.dtype = torch.float32) -> UNet:
    torch.manual_seed(0)
    return UNet(SIZES).to(dtype).eval().requires_grad_(False)


def pixart(dtype: torch.dtype = torch.float32) -> PixArt:
    torch.manual_seed(0)
    net = PixArt(PixArtConfig(heads=4, head_dim=8, depth=2, tokens_dim=WIDTH, size=8)).to(dtype).eval()
    for parameter in net.parameters():  # some begin as zeros, and zeros hide mistakes
        nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def told(net: nn.Module, tokens: Tensor, **more: Tensor) -> Tensor:
    dtype = next(net.parameters()).dtype
    with torch.inference_mode():
        out: Tensor = net(drawn(1, len(tokens), 4, 8, 8, dtype=dtype), torch.full((len(tokens),), 500.0), {
            "tokens": tokens.to(dtype), **more,
        })  # fmt: skip
    return out


class Projections(TorchFunctionMode):
    """Counts linear layers that read tensors of a width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.count = width, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is nn.functional.linear and args[0].shape[-1] == self.width and args[0].shape[1] == 7
        return func(*args, **(kwargs or {}))


def readers(net: nn.Module) -> list[Attention]:
    return [m for m in net.modules() if isinstance(m, Attention) and m.cross]


@contextmanager
def remembered(net: nn.Module, tokens: Tensor) -> Iterator[None]:
    """A block in which `net` has seen `tokens` already, and remembers them: asked again it projects nothing."""
    with remembering(net):
        told(net, tokens)
        with Projections(WIDTH) as seen:
            told(net, tokens)
        assert seen.count == 0
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", [unet, pixart])
def test_bits_are_the_same_and_projections_are_not_repeated(
    make: Callable[[torch.dtype], nn.Module], dtype: torch.dtype
) -> None:
    net, texts = make(dtype), [drawn(seed, 2, 7, WIDTH) for seed in (2, 3)]
    plain = [told(net, tokens) for tokens in texts]
    width = WIDTH if make is unet else 32  # PixArt's places read what its own layer made of the text
    with remembering(net):
        for step in range(3):
            with Projections(width) as seen:
                assert torch.equal(told(net, texts[0].clone()), plain[0])
            own = 0 if make is unet else 1  # PixArt's layer for the text, which every place waits for
            assert seen.count == own + (2 * len(readers(net)) if step == 0 else 0)
        assert torch.equal(told(net, texts[1]), plain[1])
        assert torch.equal(told(net, texts[0]), plain[0])
    assert all(place.memory is None for place in net.modules() if isinstance(place, Remembers))


def test_guided_steps_project_once_for_both_halves() -> None:
    net = unet()
    cond = {"tokens": drawn(2, 1, 7, WIDTH), "negative.tokens": drawn(3, 1, 7, WIDTH)}

    def denoise(x: Tensor, t: Tensor, cond: Cond) -> Gaussian:
        return Gaussian(net(x, t.float().expand(len(x)) * 1000, cond))

    def steps() -> tuple[list[Tensor], int]:
        guided = ClassifierFree(7.5)(denoise)
        with torch.inference_mode(), Projections(WIDTH) as seen:
            found = [guided(drawn(4, 1, 4, 8, 8), torch.tensor(t), cond) for t in (0.9, 0.5, 0.1)]
        return [belief.x0 for belief in found if isinstance(belief, Gaussian)], seen.count

    plain, many = steps()
    with remembering(net):
        again, few = steps()
    assert all(map(torch.equal, plain, again)) and (many, few) == (6 * len(readers(net)), 2 * len(readers(net)))


def test_a_text_that_is_written_into_is_another() -> None:
    net, tokens = unet(), drawn(2, 2, 7, WIDTH)
    with remembered(net, tokens):
        tokens *= -1
        changed = told(net, tokens)
    assert torch.equal(changed, told(net, tokens))


def lora(net: nn.Module) -> LoraSet:
    names = [f"{name}.{leaf}.weight" for name in word_places(net) for leaf in ("to_k", "to_v")]
    shapes = {name: net.get_parameter(name).shape for name in names}
    return LoraSet(({n: LowRank(drawn(5, s[0], 2), drawn(6, 2, s[1])) for n, s in shapes.items()}, 1.0))


def write(net: nn.Module) -> None:
    for place in readers(net):
        place.to_v.weight.mul_(1.5)


def move(net: nn.Module) -> None:
    for place in readers(net):
        place.to_k.weight.data = place.to_k.weight.data * 2


def put(net: nn.Module) -> None:
    for n, place in enumerate(readers(net)):
        place.to_k = nn.Linear(WIDTH, place.to_q.out_features, bias=False).requires_grad_(False)
        place.to_k.weight.copy_(drawn(n, *place.to_k.weight.shape))


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "merged": lambda net: lora(net).attach(net),
    "live": lambda net: lora(net).attach(net, merged=False),
    "written": write,
    "moved": move,
    "replaced": put,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_layers_are_asked_again(change: str) -> None:
    net, tokens = unet(), drawn(2, 2, 7, WIDTH)
    before = told(net, tokens)
    with remembered(net, tokens):
        handle = CHANGES[change](net)
        during = told(net, tokens)
        if handle is not None:
            handle.remove()
            assert torch.equal(told(net, tokens), before)
            handle = CHANGES[change](net)
            assert torch.equal(told(net, tokens), during)
    assert torch.equal(during, told(net, tokens)) and not torch.equal(during, before)


class Louder(QKVTap):
    """Writes into the very tensors that it is shown."""

    def qkv(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k.mul_(2), v.mul_(0.5)


def test_taps_see_fresh_keys_and_may_write_into_them() -> None:
    net, tokens = unet(), drawn(2, 2, 7, WIDTH)
    before = told(net, tokens)
    with remembered(net, tokens):
        handle = attach(net, Louder(), "*attn2")
        during = [told(net, tokens) for _ in range(2)]
        handle.remove()
        assert torch.equal(told(net, tokens), before)
    attach(net, Louder(), "*attn2")
    assert all(torch.equal(one, told(net, tokens)) for one in during) and not torch.equal(during[0], before)


def test_a_picture_as_a_prompt_beside_the_words() -> None:
    net, tokens = unet(), drawn(2, 2, 7, WIDTH)
    widths = tuple(place.to_q.out_features for place in word_places(net).values())
    torch.manual_seed(7)
    adapter = IPAdapter(EmbeddingTokens(12, WIDTH, 4), WIDTH, widths).requires_grad_(False)
    cond = adapter.condition(drawn(8, 2, 1, 12))
    with remembered(net, tokens):
        handle = adapter.attach(net)
        during = [told(net, tokens, **cond) for _ in range(2)]
        handle.remove()
    adapter.attach(net)
    assert all(torch.equal(one, told(net, tokens, **cond)) for one in during)


def test_gradients_and_graphs_are_as_without() -> None:
    net, tokens = unet(), drawn(2, 2, 7, WIDTH)
    told(net, tokens)
    x, clock = drawn(1, 2, 4, 8, 8), torch.full((2,), 500.0)
    with remembered(net, tokens):
        leaf = tokens.clone().requires_grad_()
        for _ in range(2):
            (gradient,) = torch.autograd.grad(net(x, clock, {"tokens": leaf}).square().sum(), leaf)
            assert float(gradient.abs().max()) > 0
        block: Any = net.get_submodule("down.0.attention.0")
        compiled: Any = torch.compile(block, backend="eager", fullgraph=True)
        with torch.no_grad():
            h, known = drawn(9, 2, 32, 4, 4), net.memory.known(tokens)
            assert torch.equal(compiled(h, known), block(h, tokens))


def test_who_remembers_already_is_left_alone() -> None:
    net = unet()
    with remembering(net):
        memory = net.memory
        with remembering(net):
            assert net.memory is memory
        assert net.memory is memory is not None
    assert net.memory is None
