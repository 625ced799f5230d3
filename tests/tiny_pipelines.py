"""Tiny pipelines of diffusers with random weights, saved as folders: what our systems are compared with."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from huggingvis.codecs.clip_tokens import CLIPTokens

SD1_SOLVER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
}  # fmt: skip
WORDS = 49408
PROMPT, NEGATIVE = "a photograph of an astronaut riding a horse", "blurry, dark"


def unet(**more: Any) -> diffusers.UNet2DConditionModel:
    torch.manual_seed(0)
    sizes = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (32, 64), "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "norm_num_groups": 8,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 32, "attention_head_dim": 4,
    }  # fmt: skip
    return diffusers.UNet2DConditionModel(**{**sizes, **more}).eval()


def vae() -> diffusers.AutoencoderKL:
    torch.manual_seed(1)
    return diffusers.AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=8,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, layers_per_block=1, scaling_factor=0.18215,
    ).eval()  # fmt: skip


def text(width: int = 32, *, projection: bool = False, act: str = "quick_gelu") -> Any:
    torch.manual_seed(2)
    config = transformers.CLIPTextConfig(
        vocab_size=WORDS, hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=1,
        max_position_embeddings=77, hidden_act=act, projection_dim=width, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return kind(config).eval()


@cache
def _tokenizer_folder(pad: str) -> Path:
    import tempfile

    return CLIPTokens.bundled(pad=pad).save(Path(tempfile.mkdtemp()) / "tokenizer")


@cache
def _tokenizer(pad: str) -> transformers.CLIPTokenizer:
    return transformers.CLIPTokenizer.from_pretrained(_tokenizer_folder(pad))


def tokenizer(pad: str = "<|endoftext|>") -> transformers.CLIPTokenizer:
    """Reading one is half the time of making a pipeline, so all share it until someone adds words to it."""
    if len(_tokenizer(pad)) != WORDS:
        _tokenizer.cache_clear()
    return _tokenizer(pad)


def pipeline(name: str = "StableDiffusionPipeline", *, scheduler: Any = None, **more: Any) -> Any:
    """A pipeline of Stable Diffusion 1's kind."""
    scheduler = scheduler or diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False, set_alpha_to_one=False,
                                                     steps_offset=1)  # fmt: skip
    parts = {"unet": unet(), "vae": vae(), "text_encoder": text(), "tokenizer": tokenizer(), "scheduler": scheduler,
             "safety_checker": None, "feature_extractor": None}  # fmt: skip
    parts["requires_safety_checker"] = False
    made = getattr(diffusers, name)(**{**parts, **more})
    made.set_progress_bar_config(disable=True)
    return made


def unet_xl(**more: Any) -> diffusers.UNet2DConditionModel:
    return unet(
        cross_attention_dim=32 + 48, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=48 + 6 * 256,
        transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4), **more,
    )  # fmt: skip


def pipeline_xl(name: str = "StableDiffusionXLPipeline", *, scheduler: Any = None, **more: Any) -> Any:
    """A pipeline of SDXL's kind: two towers, pooled text and sizes."""
    scheduler = scheduler or diffusers.EulerDiscreteScheduler(**SD1_SOLVER, timestep_spacing="leading", steps_offset=1)
    parts = {
        "unet": unet_xl(), "vae": vae(), "text_encoder": text(), "tokenizer": tokenizer(), "scheduler": scheduler,
        "text_encoder_2": text(48, projection=True, act="gelu"), "tokenizer_2": tokenizer("!"),
    }  # fmt: skip
    made = getattr(diffusers, name)(**{**parts, **more})
    made.set_progress_bar_config(disable=True)
    return made


def pixart(**more: Any) -> diffusers.PixArtTransformer2DModel:
    torch.manual_seed(3)
    sizes = {
        "sample_size": 8, "num_attention_heads": 4, "attention_head_dim": 6, "num_layers": 2, "cross_attention_dim": 24,
        "caption_channels": 20, "in_channels": 4, "out_channels": 8,
    }  # fmt: skip
    net = diffusers.PixArtTransformer2DModel(**{**sizes, **more}).eval()
    torch.nn.init.normal_(net.proj_out.weight, std=0.05)
    return net


@cache
def _t5_words() -> Path:
    """A folder with a small SentencePiece model that numbers padding, end and the unknown as T5 does."""
    import tempfile

    from sentencepiece import SentencePieceTrainer

    written, folder = io.BytesIO(), Path(tempfile.mkdtemp())
    SentencePieceTrainer.train(
        sentence_iterator=iter([PROMPT, NEGATIVE, "A cat and two red cubes, not 1234567890 (so to say)"] * 3),
        model_writer=written, vocab_size=80, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False,
        minloglevel=3,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(written.getvalue())
    return folder


def pipeline_pixart(name: str = "PixArtAlphaPipeline", *, scheduler: Any = None, **more: Any) -> Any:
    """A pipeline of PixArt's kind: a transformer that reads T5's tokens."""
    tokens = transformers.T5Tokenizer.from_pretrained(_t5_words())
    torch.manual_seed(4)
    tower = transformers.T5EncoderModel(transformers.T5Config(
        vocab_size=len(tokens), d_model=20, d_kv=6, d_ff=28, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
    )).eval()  # fmt: skip
    solver = diffusers.DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    parts = {"transformer": pixart(), "vae": vae(), "text_encoder": tower, "tokenizer": tokens,
             "scheduler": scheduler or solver}  # fmt: skip
    made = getattr(diffusers, name)(**{**parts, **more})
    made.set_progress_bar_config(disable=True)
    return made


@cache
def _bert_words() -> Path:
    import tempfile

    folder, letters = Path(tempfile.mkdtemp()), "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *letters, *(f"##{x}" for x in letters), "photograph"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def pipeline_ldm(*, scheduler: Any = None, **more: Any) -> Any:
    """A pipeline of the first latent diffusion model for text."""
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    tokens = transformers.BertTokenizer.from_pretrained(_bert_words())
    torch.manual_seed(6)
    tower = LDMBertModel(LDMBertConfig(
        vocab_size=len(tokens), encoder_layers=2, encoder_ffn_dim=48, encoder_attention_heads=2, head_dim=8, d_model=32,
    )).eval()  # fmt: skip
    solver = diffusers.DDIMScheduler(**SD1_SOLVER, clip_sample=False)
    parts = {"unet": unet(), "vqvae": vae(), "bert": tower, "tokenizer": tokens, "scheduler": scheduler or solver}
    made = diffusers.LDMTextToImagePipeline(**{**parts, **more})
    made.set_progress_bar_config(disable=True)
    return made


def start(batch: int = 1) -> Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(5))


def drawn(seed: int, count: int, shape: tuple[int, ...] = (1, 4, 8, 8)) -> list[Tensor]:
    """What a pipeline draws from a generator with `seed`, in order."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g) for _ in range(count)]
