"""Where models come from: `load`, the device they are on, and what looks at pictures before they are served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from huggingvis.core.errors import UsageError
from huggingvis.core.undisturbed import imported

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from huggingvis.core.system import System
    from huggingvis.systems.judges.safety import SafetyJudge

    Model = System | str | Path | None
    Parts = str | Path | Sequence[str | Path]


class Loading(TypedDict, total=False):
    """How `load` loads a model, for verbs that load models themselves."""

    device: str | None
    precision: str
    vae: str | Path | None
    text_encoder: Parts
    prediction: str | None


def ready() -> None:
    """Import what `load` and `generate` need, PyTorch above all: for those who would rather wait for it now."""
    imported("torch", "huggingvis.edits.generate", "huggingvis.systems.packaged")


def device_of(name: str | None = None) -> torch.device:
    """The device called `name`; None or "auto" is CUDA or MPS where there is one, else the CPU. Raises `UsageError`."""
    imported("torch")
    from huggingvis.runtime.devices import device_of as found

    return found(name)


def load(
    model: Model = None,
    *,
    device: str | None = None,
    precision: str = "auto",
    vae: str | Path | None = None,
    text_encoder: Parts = (),
    prediction: str | None = None,
) -> System:
    """A system by what names it: nothing (the packaged one), a packaged name, a model folder of ours or of diffusers, a
    run folder, a single-file checkpoint, a U-Net's file or folder, an official file of StyleGAN2 or StyleGAN3 (.pkl),
    the weights of a small public model that `systems` knows (`gan_mnist`, ...), or `owner/name` at a hub, which is
    fetched into the hub's cache where it is not there.

    `device`: as `device_of`. Of models made of files of others: `precision`, auto, float32, bfloat16 or float16
    (`runtime.precision`; this library's own and the small ones run in float32); `vae`, an autoencoder, file or folder,
    in the place of the model's; `text_encoder`, text encoders, a file or folder or several of them, likewise;
    `prediction`, `epsilon` or `v`, where a single file does not tell what its net predicts.
    Raises `UsageError` for an unknown name, for what such a model does not take and for wishes about one that is loaded
    already, another device among them, `FileProblem` for damaged or missing files.
    """
    ready()
    from huggingvis.core.system import System
    from huggingvis.recipes.models import Wishes, bind_model

    if isinstance(model, System):
        said = {"precision": precision != "auto", "vae": vae is not None, "text_encoder": bool(text_encoder),
                "prediction": prediction is not None}  # fmt: skip
        if any(said.values()):
            raise UsageError(
                f"{next(name for name in said if said[name])!r} says how a model is loaded, but this one is loaded "
                "already. Say it where the model is loaded (hv.load), or name the model in place of giving it."
            )
        if device not in (None, "auto") and not _same(device_of(device), model.device):
            raise UsageError(
                f"This model is loaded already, on {model.device}, and stays there; {device!r} was asked for. Load it "
                f"there, hv.load(NAME, device={device!r}), or leave the device out."
            )
        return model
    return bind_model(model, Wishes(device_of(device), precision, vae, prediction, text_encoder))


def _same(a: torch.device, b: torch.device) -> bool:
    """Whether two devices are one; without a number, any of its type is meant."""
    return a.type == b.type and (None in (a.index, b.index) or a.index == b.index)


def save(model: Model, place: str | Path) -> Path:
    """Write a model as other programs have it, and return where: one file if `place` ends in .safetensors, else a
    folder of diffusers.

    Of the Stable Diffusion family either, its weights as they are; of a diffusion model of pixels on a table (`ddpm`) a
    folder, of one that learnt classes as it is without one; of a run of `vq_vae` with the networks of latent diffusion
    its autoencoder, as a folder. Raises `UsageError` for a model of another family, `FileProblem` for a place
    where something is already.
    """
    ready()
    from huggingvis.core.system import System
    from huggingvis.recipes.models import Wishes, bind_model
    from huggingvis.systems.saving import save as write

    system = model if isinstance(model, System) else bind_model(model, Wishes(device_of("cpu"), precision=None))
    return write(system, place)


def safety_checker(folder: str | Path, *, device: str | None = None) -> SafetyJudge:
    """What looks at finished pictures for those who serve them: `checker(picture)` is the picture, or a black one.

    `folder`: a `safety_checker` of diffusers. Raises `FileProblem` for another. Nothing uses it unless it is called.
    """
    from huggingvis.systems.judges.safety import bind

    return bind(folder, device_of(device))
