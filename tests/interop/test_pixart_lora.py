"""LoRAs on PixArt, as peft and diffusers spell them, beside the same transformer with peft's own layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tiny_pipelines import NEGATIVE, PROMPT, pipeline, pipeline_pixart, pixart, start
from torch import Tensor

from huggingvis.checkpoints.fitting import fits_on
from huggingvis.checkpoints.kinds import Subject
from huggingvis.checkpoints.report import report_of
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.noise import ReplayNoise
from huggingvis.core.request import OWN, AdapterUse, Prompt, Request, Sampling
from huggingvis.core.system import System
from huggingvis.edits.task import Task
from huggingvis.systems.pipelines import How, bind_folder

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore:.*config attr")]
STEPS, SPELT = 6, PROMPT.lower()
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "net.2", "linear_1", "caption_projection.linear_2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pixart")
    pipeline_pixart().save_pretrained(place)
    return place


@pytest.fixture
def system(folder: Path) -> System:
    return bind_folder(folder, How())


@torch.inference_mode()
def latents(system: System, *adapters: AdapterUse) -> Tensor:
    request = Request(Prompt(SPELT, NEGATIVE), sampling=Sampling(OWN, OWN, STEPS, 4.5), adapters=adapters)
    assert system.adapts is not None
    generator = system.generator(request)
    with system.adapts(request, 1, generator) as more:
        cond = {**system.conditioner([request]), **more}
        return Task(system, request, generator, 1, cond, ReplayNoise([start()])).from_noise()


def with_lora(alpha: int = 6) -> Any:
    """The net with peft's layers on it, both factors random."""
    torch.manual_seed(5)
    made = get_peft_model(pixart(), LoraConfig(r=3, lora_alpha=alpha, target_modules=LAYERS, init_lora_weights=False))
    return made.eval()


def theirs(net: Any) -> Tensor:
    made = pipeline_pixart(transformer=net)
    found: Tensor = made(
        prompt=SPELT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=4.5, latents=start(),
        use_resolution_binning=False, clean_caption=False, output_type="latent",
    ).images  # fmt: skip
    return found


def factors(net: Any) -> dict[str, Tensor]:
    """Both factors of every layer, called by the layer's name in the net."""
    tensors = {name: x for name, x in net.state_dict().items() if "lora_" in name}
    return {
        name.removeprefix("base_model.model.").replace(".default", ""): x.contiguous() for name, x in tensors.items()
    }


def test_a_folder_of_peft(folder: Path, system: System, tmp_path: Path) -> None:
    net = with_lora()
    net.save_pretrained(tmp_path / "lora")
    before = latents(system)
    ours = latents(system, AdapterUse(str(tmp_path / "lora")))
    want = theirs(net.merge_and_unload())
    assert float((ours - want).abs().max()) <= 1e-4 * float(want.abs().max())
    assert float((ours - before).abs().max()) > 0.1
    assert torch.equal(latents(system), before)


@pytest.mark.parametrize("prefix", ["transformer.", "lora_transformer_"])
def test_files_of_diffusers_and_of_kohya_s_kin(prefix: str, system: System, tmp_path: Path) -> None:
    net = with_lora(alpha=3)  # alpha = rank: the scale that a file without alphas has
    names = factors(net)
    if prefix.endswith("_"):
        ends = {".lora_A.weight": ".lora_down.weight", ".lora_B.weight": ".lora_up.weight"}
        split = {name: next(end for end in ends if name.endswith(end)) for name in names}
        names = {name.removesuffix(end).replace(".", "_") + ends[end]: names[name] for name, end in split.items()}
    save_file({prefix + name: x for name, x in names.items()}, tmp_path / "style.safetensors")
    assert system.adapts is not None
    use = AdapterUse(str(tmp_path / "style.safetensors"))
    want = theirs(net.merge_and_unload())
    assert float((latents(system, use) - want).abs().max()) <= 1e-4 * float(want.abs().max())
    assert system.adapts.notes(Request(adapters=(use,))) == ()


def test_it_is_told_whether_a_lora_fits(folder: Path, tmp_path: Path) -> None:
    names = factors(with_lora())
    save_file({"transformer." + name: x for name, x in names.items()}, tmp_path / "style.safetensors")
    report = report_of(Subject(tmp_path / "style.safetensors"))
    told = fits_on(report, folder)
    assert told["fits"] is True and told["why"] == f"All of its {len(names) // 2} changes apply."
    told = fits_on(report, "sd1")
    assert told["fits"] is False


def test_adapters_of_other_models_are_refused_in_words(system: System, tmp_path: Path) -> None:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {f"{layer}.lora_down.weight": torch.ones(2, 768), f"{layer}.lora_up.weight": torch.ones(320, 2)}
    save_file(lora, tmp_path / "sd1.safetensors")
    with pytest.raises(FileProblem, match="is a LoRA made for Stable Diffusion 1.*but the model is"):
        latents(system, AdapterUse(str(tmp_path / "sd1.safetensors")))
    save_file({"emb_params": torch.ones(2, 768)}, tmp_path / "word.safetensors")
    with pytest.raises(UsageError, match="learns none: CLIP's do"):
        latents(system, AdapterUse(str(tmp_path / "word.safetensors")))
    diffusers.ControlNetModel.from_unet(pipeline().unet).save_pretrained(tmp_path / "control")
    with pytest.raises(UsageError, match="made for a U-Net, but .* has a transformer"):
        latents(system, AdapterUse(str(tmp_path / "control"), 1.0, "edges.png"))
