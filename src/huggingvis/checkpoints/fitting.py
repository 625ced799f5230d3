"""Whether a file can be used with a model, and what of it would not apply: looked up layer by layer, nothing allocated.

    fits_on(report_of("style.safetensors"), "sdxl")  # {"base": ..., "fits": True, "why": "All of its 722 changes ..."}

A base is said by name (`sd1`, `sd2`, `sdxl`, `refiner`, in their published sizes) or is a model that is here, of which
only settings and headers are read. Its nets are made on the meta device, which holds no numbers.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

from huggingvis.checkpoints import diffusers_pixart, diffusers_unet, ldm_unet, original_pixart, text_towers_clip
from huggingvis.checkpoints.assign import empty
from huggingvis.checkpoints.bases import BASES, Base, base_of, named_base
from huggingvis.checkpoints.diffusers_unet_config import config_from_diffusers, config_to_diffusers
from huggingvis.checkpoints.inspect import Facts
from huggingvis.checkpoints.json_files import read_json
from huggingvis.checkpoints.kinds import CONFIG, Subject
from huggingvis.checkpoints.lora_formats import read
from huggingvis.checkpoints.lora_formats_fit import Host, fit
from huggingvis.checkpoints.report import Report, misfit, report_of
from huggingvis.checkpoints.single_file_detect import layout_of
from huggingvis.checkpoints.single_file_layout import NOTHING
from huggingvis.core.errors import FileProblem, HvisError, UsageError, unknown
from huggingvis.nets.clip_text import CLIPText, CLIPTextConfig
from huggingvis.nets.pixart import PixArt, PixArtConfig
from huggingvis.nets.unet import UNet, UNetConfig

_SD1 = UNetConfig(in_channels=4, out_channels=4, channels=(320, 640, 1280, 1280), attention=(1, 1, 1, 0), heads=8,
                  tokens_dim=768)  # fmt: skip
_SD2 = replace(_SD1, heads=4, head_dim=64, tokens_dim=1024)
_XL = replace(_SD2, channels=(320, 640, 1280), attention=(0, 2, 10), middle=10, tokens_dim=2048, vector_dim=2816)
_REFINER = replace(_SD2, channels=(384, 768, 1536, 1536), attention=(0, 4, 4, 0), middle=4, tokens_dim=1280,
                   vector_dim=2560)  # fmt: skip
_L = CLIPTextConfig()
_H = replace(_L, dim=1024, depth=23, heads=16, hidden=4096)
_G = replace(_L, dim=1280, depth=32, heads=20, hidden=5120, projection=1280)
_SIZES = {
    768: (_SD1, {"text_encoder": _L}), 1024: (_SD2, {"text_encoder": _H}),
    2048: (_XL, {"text_encoder": _L, "text_encoder_2": _G}), 1280: (_REFINER, {"text_encoder_2": _G}),
}  # fmt: skip
"""Width of the text tokens -> published sizes of the U-Net and of the text towers."""


@final
@dataclass(frozen=True)
class _Model:
    """What a LoRA is held against.

    Attributes:
        base: what people call it.
        hosts: its nets without numbers, of the text towers those among the parts that are changed.
    """

    base: Base
    hosts: Callable[[Collection[str]], Mapping[str, Host]]


def fits_on(report: Report, base: str | Path) -> dict[str, Any]:
    """`base` in words, `fits` (None: nothing tells) and `why`, a paragraph.

    Raises `UsageError` for a base that is no name, path or model, `FileProblem` where its files are damaged.
    """
    model = _of(base)
    name, fault, made = model.base.name, misfit(report, model.base), report.told.base
    if fault is not None:
        return {"base": name, "fits": False, "why": fault}
    if report.kind.name == "lora":
        try:
            fitted = fit(read(report.path), model.hosts(report.told.facts.get("parts", ())))
        except HvisError as error:
            return {"base": name, "fits": False, "why": str(error)}
        count = sum(len(changes) for changes in fitted.parts.values())
        all_of = "Its one change applies." if count == 1 else f"All of its {count} changes apply."
        return {
            "base": name,
            "fits": True,
            "why": fitted.report or all_of,
        }
    if made is None:
        return {"base": name, "fits": None, "why": f"Nothing in {report.path.name} tells which base it is for."}
    return {"base": name, "fits": True, "why": f"It was made for {made}, as the model is."}


def _of(base: str | Path) -> _Model:
    named = named_base(base) if isinstance(base, str) else None
    if named is not None:
        return _with_unet(_SIZES[named.tokens[0]][0], named)
    path = Path(base)
    if not path.exists():
        raise unknown("base", str(base), [*BASES, "the path of a model"])
    subject = Subject(path)
    report = report_of(subject)
    if subject.is_folder and (path / "transformer" / CONFIG).is_file():
        return _pixart(diffusers_pixart.config_from_diffusers(read_json(path / "transformer" / CONFIG)))
    if subject.is_folder and report.kind.name in ("pipeline", "unet"):
        folder = path / "unet" if report.kind.name == "pipeline" else path
        return _with_unet(config_from_diffusers(read_json(folder / CONFIG)))
    if report.kind.name in ("checkpoint", "unet") and subject.format is not None:
        facts = Facts(path, subject.format, 0, subject.tensors, subject.metadata)
        layout = layout_of(facts, NOTHING)
        if layout.unet is None:
            raise FileProblem(f"{path} has no U-Net in the names of checkpoints. Name a whole model.")
        return _with_unet(layout.unet.config)
    raise UsageError(f"{path} is {report.title}, not a model that something could be put on. Name a model.")


def _with_unet(config: UNetConfig, named: Base | None = None) -> _Model:
    return _Model(named or base_of(config.tokens_dim, config.vector_dim), partial(_hosts, config))


def _pixart(config: PixArtConfig) -> _Model:
    maps = (diffusers_pixart.keymap(), original_pixart.keymap())
    return _Model(base_of(config.width), lambda parts: {"transformer": Host(empty(partial(PixArt, config)), maps)})


def _hosts(config: UNetConfig, changed: Collection[str]) -> dict[str, Host]:
    """The nets of a base without numbers, as hosts of LoRAs; of the text towers those that are changed."""
    parts = set(changed)
    theirs = diffusers_unet.keymap(config_to_diffusers(config))
    original = ldm_unet.keymap(config, linear=config.tokens_dim != _SD1.tokens_dim, prefix="")
    hosts = {"unet": Host(empty(partial(UNet, config)), (theirs, original))}
    for part, tower in _SIZES.get(config.tokens_dim, (None, {}))[1].items():
        if part not in parts and parts <= {"unet", "text_encoder", "text_encoder_2"}:
            continue
        hosts[part] = Host(empty(partial(CLIPText, tower)), (text_towers_clip.keymap(tower),))
    return hosts
