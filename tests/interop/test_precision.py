"""Half precision: which is chosen where, that it passes every boundary, and how far its latents are from float32's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import NEGATIVE, PROMPT, pipeline, pipeline_ldm, pipeline_pixart, pipeline_xl, unet
from torch import Tensor, nn

from huggingvis import api
from huggingvis.adapters.control import Control
from huggingvis.app.commands import generate as generating
from huggingvis.checkpoints.diffusers_unet import from_diffusers
from huggingvis.checkpoints.io import save
from huggingvis.codecs.kl_latents import KLLatents
from huggingvis.core.diffusion import NetDenoiser
from huggingvis.core.errors import UsageError
from huggingvis.core.process import Eps
from huggingvis.core.request import OWN, Canvas, FromPicture, Inpaint, Prompt, Request, Sampling, Source
from huggingvis.core.system import System
from huggingvis.edits.generate import generate
from huggingvis.metrics.psnr import psnr
from huggingvis.nets.autoencoder_kl import AutoencoderConfig, AutoencoderKL
from huggingvis.nets.controlnet import HintConfig, controlnet_of
from huggingvis.processes.vp import LinearVP
from huggingvis.runtime import precision as runtime
from huggingvis.runtime.precision import Precision, precision, stored
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16


# ---- which -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the processor and the CUDA device can."""

    def told(*names: str, bf16: bool = True) -> None:
        monkeypatch.setattr("huggingvis.core.machine.instructions", lambda: names)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **more: bf16)

    return told


def test_the_command_line_takes_the_same_names() -> None:
    assert generating.PRECISIONS == runtime.NAMES


@pytest.mark.parametrize(("flags", "found"), [(("avx2", "avx512_bf16"), BF16), (("amx_bf16",), BF16), (("avx2",), F32)])
def test_cpus_use_bfloat16_where_they_are_fast_in_it(machine: Any, flags: Any, found: Any, tmp_path: Path) -> None:
    machine(*flags)
    assert precision("auto", CPU, tmp_path) == Precision(found, found)
    assert precision("float32", CPU, tmp_path) == Precision(F32, F32)
    with pytest.raises(UsageError, match="bfloat16"):
        precision("float16", CPU, tmp_path)
    with pytest.raises(UsageError, match="float32"):
        precision("float23", CPU, tmp_path)


def folder_in(dtype: torch.dtype, folder: Path) -> Path:
    save(
        folder / "unet" / "diffusion_pytorch_model.safetensors", {"a": torch.zeros(9, dtype=dtype), "b": torch.zeros(2)}
    )
    return folder


@pytest.mark.parametrize(
    ("bf16", "own", "found"),
    [
        (True, F32, Precision(BF16, BF16)),
        (True, F16, Precision(F16, BF16)),
        (True, BF16, Precision(BF16, BF16)),
        (False, F32, Precision(F16, F32)),
        (False, BF16, Precision(F16, F32)),
    ],
    ids=str,
)
def test_cuda_uses_the_half_precision_of_the_files(
    machine: Any, bf16: bool, own: Any, found: Precision, tmp_path: Path
) -> None:
    """Autoencoders overflow in float16, and never get it."""
    machine("avx512_bf16", bf16=bf16)
    (tmp_path / "unet").mkdir()
    path = folder_in(own, tmp_path)
    assert stored(path) is (None if own is F32 else own)
    assert precision("auto", CUDA, path) == found
    assert precision("float16", CUDA, path) == Precision(F16, BF16 if bf16 else F32)
    assert precision("auto", torch.device("mps"), path) == Precision(F32, F32)


def test_the_api_loads_in_the_precision_that_is_asked_for(machine: Any, tmp_path: Path) -> None:
    machine("avx512_bf16")
    pipeline().save_pretrained(tmp_path)
    for name, dtype in (("auto", BF16), ("float32", F32), ("bfloat16", BF16)):
        system = api.load(tmp_path, device="cpu", precision=name)
        assert {p.dtype for part in system.parts.values() for p in part.parameters()} == {dtype}


# ---- every boundary --------------------------------------------------------------------------------------------------

KINDS: dict[str, Any] = {
    "sd": pipeline,
    "xl": pipeline_xl,
    "lcm": lambda: pipeline(
        "LatentConsistencyModelPipeline", unet=unet(time_cond_proj_dim=16), scheduler=diffusers.LCMScheduler()
    ),
    "pixart": pipeline_pixart,
    "ldm": pipeline_ldm,
    "from a picture": lambda: pipeline("StableDiffusionImg2ImgPipeline"),
    "inpainting": lambda: pipeline("StableDiffusionInpaintPipeline", unet=unet(in_channels=9)),
    "blending": lambda: pipeline("StableDiffusionInpaintPipeline"),
    "instructions": lambda: pipeline("StableDiffusionInstructPix2PixPipeline", unet=unet(in_channels=8)),
}


def asked(kind: str, folder: Path) -> Request:
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "picture.png")
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[4:12, 2:10] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    picture, hole = str(folder / "picture.png"), str(folder / "mask.png")
    sources: dict[str, Source] = {
        "from a picture": FromPicture(picture, 0.6),
        "instructions": FromPicture(picture),
        "inpainting": Inpaint(picture, hole),
        "blending": Inpaint(picture, hole),
    }
    return Request(
        Prompt(PROMPT, NEGATIVE), Canvas(16, 16, 1), Sampling(OWN, OWN, 8, 5.3, seed=3), source=sources.get(kind)
    )


class Kept(nn.Module):
    """A codec that keeps the latents it was given."""

    def __init__(self, inner: KLLatents):
        super().__init__()
        self.inner, self.by_chance = inner, inner.by_chance

    def encode(self, x: Tensor, noise: Any = None) -> Tensor:
        return self.inner.encode(x, noise)

    def decode(self, z: Tensor) -> Tensor:
        self.z = z
        return self.inner.decode(z)


def made(system: System, request: Request) -> tuple[Tensor, Tensor]:
    """Latents and picture."""
    assert isinstance(system.codec, KLLatents)
    codec = Kept(system.codec)
    (picture,) = generate(replace(system, codec=codec), request)
    return codec.z, torch.from_numpy(picture.pixels.astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_passes_every_boundary_and_stays_near_float32(kind: str, tmp_path: Path) -> None:
    KINDS[kind]().save_pretrained(tmp_path / "model")
    request = asked(kind, tmp_path)
    exact, half = (made(bind_folder(tmp_path / "model", How(CPU, dtype)), request) for dtype in (F32, BF16))
    apart = float((half[0] - exact[0]).norm() / exact[0].norm())
    pictures = [picture.movedim(-1, 0)[None] for _, picture in (half, exact)]  # [1, C, H, W]
    noise = float(psnr(pictures[0], pictures[1], data_range=255.0).mean())
    print(f"{kind}: latents {apart:.2g} apart, pictures {noise:.1f} dB")
    assert half[0].dtype == F32 and 0 < apart < 0.03 and noise > 35


def test_the_autoencoder_has_a_precision_of_its_own(tmp_path: Path) -> None:
    pipeline("StableDiffusionImg2ImgPipeline").save_pretrained(tmp_path / "model")
    system = bind_folder(tmp_path / "model", How(CPU, BF16, F32))
    dtypes = {name: {p.dtype for p in part.parameters()} for name, part in system.parts.items()}
    assert dtypes == {"unet": {BF16}, "vae": {F32}, "text_encoder": {BF16}}
    z, _ = made(system, asked("from a picture", tmp_path))
    assert bool(z.isfinite().all())


def test_a_codec_in_half_precision_speaks_float32() -> None:
    torch.manual_seed(0)
    net = AutoencoderKL(AutoencoderConfig(channels=(16, 32), blocks=1, groups=8)).eval()
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        exact = KLLatents(net, 0.1, 2.0)
        z, y = exact.encode(x), exact.decode(exact.encode(x))
        half = KLLatents(net.to(BF16), 0.1, 2.0)
        assert half.encode(x).dtype == half.decode(z).dtype == F32
        assert float((half.encode(x) - z).norm() / z.norm()) < 0.04
        assert float((half.decode(z) - y).norm() / y.norm()) < 0.04


class Told(nn.Module):
    """A net that keeps its condition."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=BF16))

    def forward(self, x: Tensor, clock: Tensor, cond: dict[str, Tensor]) -> Tensor:
        self.cond = cond
        return x


def test_numbers_in_a_condition_are_not_rounded() -> None:
    """7.3 is 7.3125 in bfloat16, and nets tell guidance scales apart by waves of 1000 of them a unit."""
    net = Told()
    cond = {"guidance": torch.full((2,), 7.3), "tokens": torch.ones(2, 3, 4)}
    NetDenoiser(net, LinearVP(), Eps())(torch.zeros(2, 1, 4, 4), torch.tensor(0.5, dtype=torch.float64), cond)
    assert net.cond["tokens"].dtype == BF16
    assert math.isclose(float(net.cond["guidance"][0]), 7.3, rel_tol=1e-6)


def test_pictures_for_control_are_cast_to_the_control_net(tmp_path: Path) -> None:
    unet().save_pretrained(tmp_path)
    control = controlnet_of(from_diffusers(tmp_path, dtype=BF16), HintConfig(widths=(8, 8, 8, 8)))
    (hint,) = Control(control).condition(torch.zeros(1, 3, 16, 16)).values()
    assert hint.dtype == BF16
