"""What processes of `stable_diffusion.py` do, each from its start to its end: make a model, load it, begin a picture.

    python benchmarks/stable_diffusion_child.py NAME FOLDER

Each side loads as its users would, with its defaults: diffusers in float32, ours in what `auto` chooses for the device.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PROMPT = "a photograph of an astronaut riding a horse"
SOLVER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


def make(folder: Path, seed: int, small: bool) -> None:
    """A pipeline of Stable Diffusion 1.5's sizes with random weights in float32, or of tiny ones."""
    import diffusers
    import torch
    import transformers

    from huggingvis.codecs.clip_tokens import CLIPTokens

    torch.manual_seed(seed)
    widths, layers = ((32, 64), 1) if small else ((320, 640, 1280, 1280), 2)
    kinds = [CROSS] * (len(widths) - 1) + [PLAIN]
    dim = 32 if small else 768
    unet = diffusers.UNet2DConditionModel(
        sample_size=8 if small else 64, block_out_channels=widths, layers_per_block=layers, cross_attention_dim=dim,
        attention_head_dim=4 if small else 8, down_block_types=tuple(down for down, _ in kinds),
        up_block_types=tuple(up for _, up in reversed(kinds)),
    )  # fmt: skip
    wide = (32, 32) if small else (128, 256, 512, 512)
    vae = diffusers.AutoencoderKL(
        block_out_channels=wide, down_block_types=("DownEncoderBlock2D",) * len(wide), latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * len(wide), layers_per_block=layers,
    )  # fmt: skip
    text = transformers.CLIPTextConfig(
        hidden_size=dim, intermediate_size=4 * dim, num_hidden_layers=2 if small else 12, vocab_size=49408,
        num_attention_heads=4 if small else 12, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    words = transformers.CLIPTokenizer.from_pretrained(CLIPTokens.bundled().save(folder / "tokenizer"))
    diffusers.StableDiffusionPipeline(
        unet=unet, vae=vae, text_encoder=transformers.CLIPTextModel(text), tokenizer=words, safety_checker=None,
        scheduler=diffusers.DDIMScheduler(**SOLVER), feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


def first_step(folder: Path, precision: str = "auto") -> None:
    """Ours: load, read the prompt, one guided step."""
    import torch

    from huggingvis import api
    from huggingvis.core.noise import SeedNoise
    from huggingvis.core.request import Prompt, Request, Sampling
    from huggingvis.runtime.memory import reused

    system = api.load(folder, device="cpu", precision=precision)
    request = Request(Prompt(PROMPT), sampling=Sampling("own", "own", 1, 7.5))
    with torch.inference_mode(), reused(torch.device("cpu")):
        cond = system.conditioner.prepare(system.conditioner([request]))
        system.generator(request).sample(1, cond, noise=SeedNoise([0]))


def their_first_step(folder: Path, **more: Any) -> None:
    """The same by diffusers' pipeline."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(folder, **more)
    with torch.inference_mode():
        pipeline(PROMPT, num_inference_steps=1, guidance_scale=7.5, output_type="latent")


def their_first_step_in_half(folder: Path) -> None:
    """As `their_first_step`, in bfloat16."""
    import torch

    their_first_step(folder, dtype=torch.bfloat16)


def cast(folder: Path) -> None:
    """Ours: the U-Net of a float32 file in bfloat16, in the layout that it runs in."""
    import torch

    from huggingvis.checkpoints.diffusers_unet import from_diffusers

    from_diffusers(folder / "unet", dtype=torch.bfloat16, channels_last=True)


def their_cast(folder: Path) -> None:
    """The same by diffusers."""
    import torch
    from diffusers import UNet2DConditionModel

    UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.bfloat16)


ACTS = {
    "first": first_step,
    "first-float32": lambda folder: first_step(folder, "float32"),
    "their-first": their_first_step,
    "their-first-half": their_first_step_in_half,
    "cast": cast,
    "their-cast": their_cast,
}


def main() -> None:
    name, place, *numbers = sys.argv[1:]
    folder = Path(place)
    if name == "make":
        make(folder, int(numbers[0]), numbers[1:] == ["small"])
    else:
        ACTS[name](folder)


if __name__ == "__main__":
    main()
