"""A tiny instance of every network of the library, its inputs and the shapes of its outputs.

A new file in nets/ needs a row in `CASES`; a test of the contract names what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from huggingvis.nets.adain_synthesis import AdaINSynthesis
from huggingvis.nets.attention import Attention, GatedFeedForward, TransformerBlock
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.bert import BERT, BERTConfig
from huggingvis.nets.blocks import MapTransformer, ResBlock
from huggingvis.nets.caption_bits import CaptionBits, CaptionBitsConfig
from huggingvis.nets.cgan import CGANCritic, CGANGenerator, CGANSizes
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.clip_vision import CLIPVision, CLIPVisionConfig
from huggingvis.nets.code_prior import CodePrior, CodePriorConfig
from huggingvis.nets.controlnet import ControlNet, HintConfig
from huggingvis.nets.conv_vae import ConvDecoder, ConvEncoder
from huggingvis.nets.dcgan import DCGANCritic, DCGANGenerator
from huggingvis.nets.detector import Detector, DetectorConfig
from huggingvis.nets.embeddings import TimeEmbedding
from huggingvis.nets.eyes import Eyes
from huggingvis.nets.flows.class_prior import ClassPrior
from huggingvis.nets.flows.coupling import (
    AffineCoupling,
    Exp,
    Halves,
    MaskedAffineCoupling,
    Sigmoid,
    chessboard,
)
from huggingvis.nets.flows.glow import GlowConfig, glow
from huggingvis.nets.flows.networks import CouplingConvs
from huggingvis.nets.flows.nice import NICEConfig, nice
from huggingvis.nets.flows.prior import StandardNormal
from huggingvis.nets.flows.realnvp import RealNVPConfig, realnvp
from huggingvis.nets.gated_conv import GatedConvNet
from huggingvis.nets.image_tokens import EmbeddingTokens, PatchTokens, Resampler
from huggingvis.nets.inception import InceptionV3
from huggingvis.nets.isotropic_conv import IsotropicConv, IsotropicConvConfig
from huggingvis.nets.layer_noise import NoNoise, StoredNoise
from huggingvis.nets.ldm_bert import LDMBert, LDMBertConfig
from huggingvis.nets.lenet import LeNet5
from huggingvis.nets.lookup_free import FiniteScalarQuantiser, LookupFreeQuantiser
from huggingvis.nets.mlp_gan import MaxoutCritic, MLPCritic, MLPGenerator
from huggingvis.nets.mlp_vae import MLPDecoder, MLPEncoder, MLPPrior
from huggingvis.nets.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from huggingvis.nets.patch_discriminator import PatchDiscriminator
from huggingvis.nets.pggan import Growth, ProgressiveCritic, ProgressiveGenerator
from huggingvis.nets.pixart import PixArt, PixArtConfig
from huggingvis.nets.plan_reader import PlanReader
from huggingvis.nets.quantisers import AveragedQuantiser, Quantiser, VectorQuantiser
from huggingvis.nets.safety_checker import SafetyChecker, SafetyConfig
from huggingvis.nets.strided_autoencoder import StridedConfig, StridedDecoder, StridedEncoder
from huggingvis.nets.style_discriminator import StyleDiscriminator
from huggingvis.nets.stylegan import StyleGANSizes, StyleGenerator, fresh_generator
from huggingvis.nets.stylegan2_synthesis import StyleGAN2Synthesis
from huggingvis.nets.stylegan3_sizes import Filtering, Schedule, StyleGAN3Sizes
from huggingvis.nets.stylegan3_synthesis import fresh_alias_free
from huggingvis.nets.t2i_adapter import T2IAdapter, T2IAdapterConfig
from huggingvis.nets.t5 import T5Config, T5Encoder
from huggingvis.nets.text_tower import TextTower, TextTowerConfig
from huggingvis.nets.timed_mlp import PointMLP, WordMLP
from huggingvis.nets.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from huggingvis.nets.unet import UNet, UNetConfig
from huggingvis.nets.vq_autoencoder import VQAutoencoder, residual_vq

Inputs = tuple[Any, ...]  # tensors, or tables of tensors; dimension 0 is the batch, of 2
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """Random inputs. Times are float64 and stay so in every precision, as in training."""

    rng: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=self.rng)

    def clock(self, most: float = 1.0) -> Tensor:
        return most * torch.rand(2, generator=self.rng, dtype=torch.float64)

    def ids(self, length: int, most: int) -> Tensor:
        return torch.randint(1, most, (2, length), generator=self.rng)

    def visible(self, length: int) -> Tensor:
        return torch.rand(2, length, generator=self.rng) < 0.6


@dataclass(frozen=True)
class Case:
    """A tiny net, its inputs, the shapes of its outputs; and how its inputs are padded, where they may be.

    `mixes`: seeing the whole batch is what the net is for.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[Draw], Inputs]
    shapes: tuple[Shape, ...]
    call: Callable[..., Any] = lambda net, *inputs: net(*inputs)
    pad: Callable[..., Inputs] | None = None
    mixes: bool = False


def padded_condition(x: Tensor, clock: Tensor, cond: dict[str, Tensor]) -> Inputs:
    longer = {"tokens": garbage(cond["tokens"]), "tokens_mask": F.pad(cond["tokens_mask"], (0, 3))}
    return x, clock, cond | longer


def padded_tokens(x: Tensor, tokens: Tensor, mask: Tensor) -> Inputs:
    return x, garbage(tokens), F.pad(mask, (0, 3))


def padded_text(ids: Tensor, mask: Tensor) -> Inputs:
    return F.pad(ids, (0, 3), value=7), F.pad(mask, (0, 3))


def garbage(tokens: Tensor) -> Tensor:
    return torch.cat([tokens, 5 + tokens[:, :3]], dim=1)


def text_condition(draw: Draw) -> dict[str, Tensor]:
    mask = draw.visible(5)
    mask[:, 0] = True
    return {"tokens": draw.normal(5, 6), "tokens_mask": mask, "vector": draw.normal(7)}


def around(quantiser: Callable[[], Quantiser]) -> Callable[[], VQAutoencoder]:
    return lambda: residual_vq(quantiser(), (3, 2), width=32, levels=1, blocks=1)


def styled(synthesis: Callable[[StyleGANSizes], nn.Module]) -> Callable[[], StyleGenerator]:
    return lambda: fresh_generator(STYLES, synthesis(STYLES))


def halves(net: VQAutoencoder, x: Tensor) -> tuple[Tensor, ...]:
    """What comes before and after the codes, which are no smooth function of x; and how far the codebook is away."""
    z = net.latents(x)
    return z, net.decoded(z), *(loss.to(z.dtype) for key, loss in net.quantiser(z).losses.items() if key == "codebook")


UNET = UNetConfig(
    channels=(8, 16), blocks=1, attention=(0, 2), reads=(True, False), groups=4, heads=2, tokens_dim=6, vector_dim=7
)  # fmt: skip
PLAIN = UNetConfig(
    channels=(8, 16), blocks=2, attention=(1, 0), groups=4, head_dim=4, concat_channels=1, scale_shift=True,
    downsample_padding=0,
)  # fmt: skip
STRIDED = StridedConfig(channels=2, size=16, width=4, latent_dim=5)
AUTOENCODER = AutoencoderConfig(channels=(8, 16), blocks=1, groups=4, patch=2)
ALIAS_FREE = Schedule(8, width=24, most=6, layers=3, critical=1, first_cutoff=1, first_stopband=2, margin=2)
STYLES = StyleGANSizes(widths=(8, 6), z_dim=5, w_dim=6, mapping_layers=2, mapping_lr=0.5, classes=3)
PIXART = PixArtConfig(size=8, heads=2, head_dim=6, depth=2, tokens_dim=6, sizes=True)
TOKENS = (lambda d: (d.normal(4, 8), d.normal(5, 6), text_condition(d)["tokens_mask"]), ((2, 4, 8),))

CASES: dict[str, Case] = {
    "attention": Case(lambda: Attention(8, 2, 6), *TOKENS, pad=padded_tokens),
    "self-attention": Case(lambda: Attention(8, 2, inner=4, qkv_bias=True), lambda d: (d.normal(4, 8),), ((2, 4, 8),)),
    "feed-forward": Case(lambda: GatedFeedForward(8), lambda d: (d.normal(4, 8),), ((2, 4, 8),)),
    "transformer": Case(lambda: TransformerBlock(8, 2, 6), *TOKENS, pad=padded_tokens),
    "map transformer": Case(
        lambda: MapTransformer(8, 2, 6, groups=4),
        lambda d: (d.normal(8, 4, 2), *TOKENS[0](d)[1:]), ((2, 8, 4, 2),), pad=padded_tokens,
    ),
    "resblock": Case(
        lambda: ResBlock(8, 16, 6, groups=4, scale_shift=True),
        lambda d: (d.normal(8, 4, 4), d.normal(6)), ((2, 16, 4, 4),),
    ),
    "time": Case(lambda: TimeEmbedding(8, 6, 1000.0), lambda d: (d.clock(),), ((2, 6),)),
    "unet": Case(
        lambda: UNet(UNET), lambda d: (d.normal(3, 8, 4), d.clock(1000), text_condition(d)), ((2, 3, 8, 4),),
        pad=padded_condition,
    ),
    "unet without text": Case(
        lambda: UNet(PLAIN), lambda d: (d.normal(3, 8, 8), d.clock(1000), {"concat": d.normal(1, 8, 8)}),
        ((2, 3, 8, 8),),
    ),
    "pixart": Case(
        lambda: PixArt(PIXART),
        lambda d: (d.normal(4, 8, 4), d.clock(1000), text_condition(d) | {"vector": d.normal(3)}),
        ((2, 8, 8, 4),), pad=padded_condition,
    ),
    "controlnet": Case(
        lambda: ControlNet(UNET, HintConfig(widths=(4, 6))),
        lambda d: (d.normal(3, 8, 4), d.clock(1000), text_condition(d), d.normal(3, 16, 8)),
        ((2, 8, 8, 4), (2, 8, 8, 4), (2, 8, 4, 2), (2, 16, 4, 2), (2, 16, 4, 2)),
        call=lambda net, x, clock, cond, picture: net(x, clock, cond | {"hint": net.hint(picture)}),
        pad=lambda x, clock, cond, picture: (*padded_condition(x, clock, cond), picture),
    ),
    **{
        name: Case(
            partial(T2IAdapter, T2IAdapterConfig(3, (8, 16), (False, True), 1, 2, light)),
            lambda d: (d.normal(3, 8, 4),), ((2, 8, 4, 2), (2, 16, 2, 1)),
        )
        for name, light in (("t2i-adapter", False), ("light t2i-adapter", True))
    },
    "embedding tokens": Case(lambda: EmbeddingTokens(5, 6, 3), lambda d: (d.normal(5),), ((2, 3, 6),)),
    "patch tokens": Case(lambda: PatchTokens(5, 6, 7), lambda d: (d.normal(4, 5),), ((2, 4, 6),)),
    "resampler": Case(
        lambda: Resampler(5, 6, count=3, width=8, depth=2, heads=1, hidden=16), lambda d: (d.normal(4, 5),),
        ((2, 3, 6),),
    ),
    "noisy classifier": Case(
        lambda: NoisyClassifier(NoisyClassifierConfig(3, 5, (8, 16), attention=(0, 1), heads=2, groups=4)),
        lambda d: (d.normal(3, 8, 4), d.clock(1000)), ((2, 5),),
    ),
    "autoencoder": Case(
        lambda: AutoencoderKL(AUTOENCODER), lambda d: (d.normal(3, 16, 8),),
        ((2, 4, 4, 2), (2, 4, 4, 2), (2, 3, 16, 8)),
        call=lambda net, x: (net.posterior(x).mean, net.posterior(x).logvar, net.decode(net.encode(x))),
    ),
    "tiny autoencoder": Case(
        lambda: TinyAutoencoder(TinyAutoencoderConfig(4, width=8, levels=2, blocks=1, pooled=True)),
        lambda d: (d.normal(3, 8, 8),), ((2, 4, 2, 2), (2, 3, 8, 8)),
        call=lambda net, x: (net.encode(x), net.decode(net.encode(x))),
    ),
    "text tower": Case(
        lambda: TextTower(TextTowerConfig(20, 9, dim=8, depth=2, heads=2, slots=2)), lambda d: (d.ids(5, 20),),
        ((2, 7, 8), (2, 8)), pad=lambda ids: (F.pad(ids, (0, 3)),),
    ),
    "clip text": Case(
        lambda: CLIPText(CLIPTextConfig(20, 9, 8, 2, 2, 12, end=19, projection=6)), lambda d: (d.ids(5, 20),),
        ((2, 5, 8), (2, 6)), pad=lambda ids: (F.pad(ids, (0, 3)),),
    ),
    "clip vision": Case(
        lambda: CLIPVision(CLIPVisionConfig(8, 4, 3, 8, 2, 2, 12, projection=6)), lambda d: (d.normal(3, 8, 8),),
        ((2, 5, 8), (2, 6)),
    ),
    "safety checker": Case(
        lambda: SafetyChecker(SafetyConfig(CLIPVisionConfig(8, 4, 3, 8, 2, 2, 12, projection=6), 4, 2)),
        lambda d: (d.normal(3, 8, 8),), ((2, 2), (2, 4)),
    ),
    "t5": Case(
        lambda: T5Encoder(T5Config(20, 8, 2, 2, 6, 12, buckets=8, farthest=9)),
        lambda d: (d.ids(5, 20), d.visible(5)), ((2, 5, 8),), pad=padded_text,
    ),
    "bert": Case(
        lambda: BERT(BERTConfig(20, 9, 2, 8, 2, 2, 12)), lambda d: (d.ids(5, 20), d.visible(5)), ((2, 5, 8), (2, 8)),
        pad=padded_text,
    ),
    "ldm bert": Case(
        lambda: LDMBert(LDMBertConfig(20, 9, 8, 2, 2, 3, 12)), lambda d: (d.ids(9, 20),), ((2, 9, 8),)
    ),
    "caption bits": Case(
        lambda: CaptionBits(CaptionBitsConfig(bits=3, words=5, seen=7, dim=8, depth=1, heads=2)),
        lambda d: (d.normal(3, 5), d.clock(), {"tokens": d.normal(4, 7), "concat": d.normal(3, 5)}), ((2, 3, 5),)
    ),
    "eyes": Case(lambda: Eyes(32, 32, 1), lambda d: (d.normal(3, 16, 16),), ((2, 4, 64),)),
    "detector": Case(
        lambda: Detector(DetectorConfig(classes=5, fine=32, coarse=32, blocks=1)), lambda d: (d.normal(3, 16, 8),),
        ((2, 2, 4, 2), (2, 2, 5, 4, 2), (2, 2, 4, 4, 2)),
    ),
    "patch discriminator": Case(
        lambda: PatchDiscriminator(width=16), lambda d: (d.normal(3, 16, 8),), ((2, 1, 4, 2),)
    ),
    **{
        name: Case(around(quantiser), lambda d: (d.normal(3, 8, 4),), ((2, 4, 4, 2), (2, 2, 8, 4), *more), call=halves)
        for name, quantiser, more in (
            ("vq", lambda: VectorQuantiser(6, 4), ((2,),)), ("averaged vq", lambda: AveragedQuantiser(6, 4), ()),
            ("fsq", lambda: FiniteScalarQuantiser((3, 3, 3, 3)), ()), ("lfq", lambda: LookupFreeQuantiser(4), ()),
        )
    },
    "code prior": Case(
        lambda: CodePrior(CodePriorConfig(7, 2, 3, dim=8, depth=2, heads=2, vector_dim=5)),
        lambda d: (d.ids(6, 7).view(2, 2, 3), {"vector": d.normal(5)}), ((2, 6, 7),),
    ),
    "plan reader": Case(
        lambda: PlanReader(dim=8, slots=2, kinds=3, colours=2, depth=1, heads=2),
        lambda d: (d.normal(5, 8), d.visible(5)), ((2, 2, 4), (2, 2, 3)),
    ),
    "inception": Case(
        InceptionV3, lambda d: (d.normal(3, 75, 75),), ((2, 2048),), call=lambda net, x: net.layers(x).mean((2, 3))
    ),
    "isotropic": Case(
        lambda: IsotropicConv(IsotropicConvConfig(1, 8, (4, 4), 3, 4, 8)),
        lambda d: (d.normal(1, 8, 8), d.clock(1000), {}), ((2, 1, 8, 8),),
    ),
    "nice": Case(
        lambda: nice(NICEConfig(2, 8, 1), (1, 4, 4)), lambda d: (d.normal(1, 4, 4),), ((2, 16),),
        call=lambda flow, x: flow.encode(x),
    ),
    "realnvp": Case(
        lambda: realnvp(RealNVPConfig(2, 8, 1, alpha=0.1), (1, 4, 4)), lambda d: (d.normal(1, 4, 4).sigmoid(),),
        ((2, 16),), call=lambda flow, x: flow.encode(x),
    ),
    "glow": Case(
        lambda: glow(GlowConfig(2, 1, 8), (1, 4, 4)), lambda d: (d.normal(1, 4, 4),), ((2, 16),),
        call=lambda flow, x: flow.encode(x),
    ),
    "class prior": Case(
        lambda: ClassPrior(StandardNormal(), 3, 4), lambda d: (d.normal(6),), ((2, 3),),
        call=lambda prior, z: prior.each(z),
    ),
    "sigmoid coupling": Case(
        lambda: AffineCoupling(CouplingConvs(2, 4, 8), Halves(), Sigmoid()), lambda d: (d.normal(4, 4, 2),),
        ((2, 4, 4, 2),), call=lambda layer, x: layer(x)[0],
    ),
    "masked coupling": Case(
        lambda: MaskedAffineCoupling(GatedConvNet(1, 2, 8, 1), chessboard(4, 3), Exp()), lambda d: (d.normal(1, 4, 3),),
        ((2, 1, 4, 3),), call=lambda layer, x: layer(x)[0],
    ),
    "lenet": Case(LeNet5, lambda d: (d.normal(1, 32, 32),), ((2, 10),)),
    "conv encoder": Case(lambda: ConvEncoder((1, 8, 6), 3, (4, 8)), lambda d: (d.normal(1, 8, 6),), ((2, 6),)),
    "conv decoder": Case(lambda: ConvDecoder((1, 8, 6), 3, (4, 8)), lambda d: (d.normal(3),), ((2, 1, 8, 6),)),
    "conv encoder with a condition": Case(
        lambda: ConvEncoder((1, 8, 6), 3, (4, 8), moments=1, cond_dim=2),
        lambda d: (d.normal(1, 8, 6), d.normal(2)), ((2, 3),),
    ),
    "mlp encoder with a condition": Case(
        lambda: MLPEncoder((1, 4, 4), 3, (8,), cond_dim=2), lambda d: (d.normal(1, 4, 4), d.normal(2)), ((2, 6),)
    ),
    "mlp prior": Case(lambda: MLPPrior(4, 3, (8,)), lambda d: (d.normal(4),), ((2, 6),)),
    "strided encoder": Case(lambda: StridedEncoder(STRIDED), lambda d: (d.normal(2, 16, 16),), ((2, 5),)),
    "strided decoder": Case(lambda: StridedDecoder(STRIDED), lambda d: (d.normal(5),), ((2, 2, 16, 16),)),
    "mlp encoder": Case(lambda: MLPEncoder((1, 4, 4), 3, (8,)), lambda d: (d.normal(1, 4, 4),), ((2, 6),)),
    **{
        name: Case(
            build, lambda d: (d.normal(5), d.normal(3)), ((2, 3, 8, 8),),
            call=lambda net, z, label: net(z, label, StoredNoise()),
        )
        for name, build in (("stylegan", styled(AdaINSynthesis)), ("stylegan 2", styled(StyleGAN2Synthesis)))
    },
    **{
        name: Case(
            partial(fresh_alias_free, StyleGAN3Sizes(ALIAS_FREE, filtering, 5, 6, 2, 0.5, 3)),
            lambda d: (d.normal(5), d.normal(3)), ((2, 3, 8, 8),), call=lambda net, z, label: net(z, label, NoNoise()),
        )
        for name, filtering in (("stylegan 3 T", Filtering()), ("stylegan 3 R", Filtering(1, radial=True)))
    },
    "style discriminator": Case(
        lambda: StyleDiscriminator(replace(STYLES, classes=0), group=1), lambda d: (d.normal(3, 8, 8),), ((2,),)
    ),
    "point mlp": Case(lambda: PointMLP(2, 4, 8, 2, 25.0), lambda d: (d.normal(2, 5), d.clock(40), {}), ((2, 4, 5),)),
    "word mlp": Case(lambda: WordMLP(6, 3, 8, 2), lambda d: (d.ids(6, 3), d.clock(), {}), ((2, 6, 3),)),
    "mlp generator": Case(lambda: MLPGenerator((1, 4, 4), 3, (16,)), lambda d: (d.normal(3), {}), ((2, 1, 4, 4),)),
    "mlp critic": Case(lambda: MLPCritic((1, 4, 4), (16,)), lambda d: (d.normal(1, 4, 4), {}), ((2,),)),
    "maxout critic": Case(lambda: MaxoutCritic((1, 4, 4), (16,), 3), lambda d: (d.normal(1, 4, 4), {}), ((2,),)),
    "cgan generator": Case(
        lambda: CGANGenerator((1, 4, 4), 3, 5, CGANSizes(8, 8, 16)),
        lambda d: (d.normal(3 + 16 + 16), {"vector": d.normal(5)}), ((2, 1, 4, 4),),
    ),
    "cgan critic": Case(
        lambda: CGANCritic((1, 4, 4), 5, CGANSizes(picture=8, critic_label=8, critic_joint=16)),
        lambda d: (d.normal(1, 4, 4), {"vector": d.normal(5)}), ((2,),),
    ),
    "dcgan generator": Case(
        lambda: DCGANGenerator((1, 14, 10), 3, 8), lambda d: (d.normal(3), {}), ((2, 1, 14, 10),)
    ),
    "dcgan critic": Case(lambda: DCGANCritic((1, 14, 10), 8), lambda d: (d.normal(1, 14, 10), {}), ((2,),)),
    "progressive generator": Case(
        lambda: ProgressiveGenerator((1, 8, 8), (8, 4), 5), lambda d: (d.normal(5),), ((2, 1, 8, 8),),
        call=lambda net, z: net(z, Growth(1, 0.6)),
    ),
    "progressive critic": Case(
        lambda: ProgressiveCritic((1, 8, 8), (8, 4)), lambda d: (d.normal(1, 8, 8),), ((2,),),
        call=lambda net, x: net(x, Growth(1, 0.6)), mixes=True,
    ),
    "mlp decoder": Case(lambda: MLPDecoder((1, 4, 4), 3, (8,)), lambda d: (d.normal(3),), ((2, 1, 4, 4),)),
}  # fmt: skip
