"""A system: named weights bound into something that generates.

`Spec` says what it is in words and numbers, `parts` are its networks, `conditioner` reads requests, `generator` makes
the generative model that a request's numbers (steps, sampler, guidance) ask for, `codec` turns its samples into media.

It is what `hv.load` gives, and has the same verbs whatever the model behind it is, where that is able to:

    model = hv.load("runs/vae")
    x = model.signals(["digit.png"])      # pictures as tensors, [1, C, H, W] in [-1, 1]
    z = model.encode(x)                   # their latents
    again = model.decode(z)               # [1, C, H, W]
    nats = model.log_prob(x)              # [1]
    hv.export(model.pictures(model.sample(16, seed=7)), "out")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.core.protocols import (
    Cond,
    Conditioner,
    Decodes,
    DrawsNone,
    Encodes,
    Generative,
    Latent,
    Likelihood,
    Shaped,
    Shows,
    Styles,
)
from huggingvis.core.request import Canvas, FromPicture, Limits, Prompt, Request, Sampling, check
from huggingvis.core.request_fields import in_order, place_of, with_field
from huggingvis.core.streams import noise_of

_SAMPLED = ("prompt", "sampling", "options")
"""Parts of a request that a batch of samples is asked for by."""


@dataclass(frozen=True)
class Spec:
    """What a system is: `family` names the file that binds it, `size` its native (width, height), `channels` 1 or 3.

    `trained`: further sizes that it was trained on. `path`: the file or folder that it was bound from, of a model of
    others; `vae`: that of an autoencoder in the place of its own; `text_encoders`: likewise.
    """

    name: str
    family: str
    size: tuple[int, int]
    multiple: int = 1
    licence: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 3
    trained: tuple[tuple[int, int], ...] = ()
    path: str = ""
    vae: str = ""
    text_encoders: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """Weights bound to their meaning.

    `defaults` are the sampling numbers it is best used with; `limits` what it accepts; `example` is a prompt to show it
    by, empty where none is needed. `shows`: what its net is shown of a picture that a request starts from; None for a
    net that sees x_t alone. `adapts`: what puts a request's adapters on its nets; None where it takes none. `lock`: who
    has it may sample; adapters change the nets for as long as pictures are made, so threads take turns.
    """

    spec: Spec
    parts: Mapping[str, nn.Module]
    conditioner: Conditioner
    codec: Decodes
    generator: Callable[[Request], Generative]
    defaults: Sampling = Sampling()
    limits: Limits = Limits()
    example: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shows: Shows | None = None
    adapts: Adapts | None = None
    lock: AbstractContextManager[bool] = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def verbs(self) -> tuple[str, ...]:
        """Which of sample, encode, decode and log_prob this model has."""
        coder, model = self._coder, self._model
        able = {
            "sample": self.shows is None and not isinstance(model, DrawsNone),
            "encode": isinstance(coder, Encodes),
            "decode": isinstance(coder, Decodes),
            "log_prob": isinstance(model, Likelihood),
        }
        return tuple(verb for verb, is_so in able.items() if is_so)

    @torch.no_grad()
    def sample(self, n: int = 1, prompt: str = "", *, seed: int = 0, **asked: Any) -> Tensor:
        """`n` pictures [n, C, H, W] in [-1, 1], made in one go; picture i is that of `hv.generate` with seed + i.

        `prompt`: a sentence or the name of a class, where the model reads such. A `seed` of -1 is a random one. What
        else is `asked` of the words and the sampling goes by the names that `hv.generate` knows: steps=20,
        sampler="unipc" (by our own names), cfg=5, negative="rain". Raises `UsageError` for a prompt that the model does
        not read, for a name that is none of these, and for a model that draws none.
        """
        request = Request(Prompt(prompt), Canvas(count=n), replace(self.defaults, seed=seed))
        for name in in_order(asked):
            if place_of(name).partition(".")[0] not in _SAMPLED:
                raise UsageError(
                    f"`sample` takes words and numbers of sampling (steps, sampler, cfg, negative), and {name!r} is "
                    "neither. hv.generate takes everything that a request may say."
                )
            request = with_field(request, name, asked[name])
        request = request.with_seeds()
        check(request, self.limits)
        with self.lock:
            cond = self.conditioner.prepare(self.conditioner([request] * n))
            noise = noise_of(request.sampling, range(n), self.spec.size)
            return self.codec.decode(self.generator(request).sample(n, cond, noise=noise))

    def encode(self, x: Tensor) -> Tensor:
        """Latents [B, ...] of pictures [B, C, H, W] in [-1, 1]: what the model, or a diffusion's codec, tells of them.

        Where a law is told (a VAE's), its mean. Raises `UsageError` for a model without an encoder, and for pictures
        of another shape than its own, or of sides that a diffusion's codec cannot divide.
        """
        coder = self._coder
        if not isinstance(coder, Encodes):
            raise self._lacks("encode")
        return coder.encode(self._fit(x))

    def decode(self, z: Tensor, prompt: str = "") -> Tensor:
        """Pictures [B, C, H, W] in [-1, 1] of latents [B, ...]; `prompt` as in `sample`, for a model of classes.

        Raises `UsageError` for latents of another shape, and for a prompt where the latents alone decide.
        """
        coder = self._coder
        if isinstance(coder, Latent):
            z = self._of_latents(coder, z.to(self.device, torch.float32))
            return self.codec.decode(coder.decode(z, self._asked(prompt, len(z))))
        if not isinstance(coder, Decodes):
            raise self._lacks("decode")
        if prompt.strip():
            raise UsageError(
                f"{self.spec.name!r} decodes latents without words, so {prompt.strip()!r:.80} would change nothing. "
                "Leave the prompt out."
            )
        wide = torch.float32 if z.is_floating_point() else z.dtype  # codes are whole numbers
        return coder.decode(self._of_latents(coder, z.to(self.device, wide)))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p of pictures [B, C, H, W] in [-1, 1], nats, [B]: a flow's density, a VAE's bound.

        Raises `UsageError` for a model without one. `hvis evaluate` tells such numbers as papers do.
        """
        model = self._model
        if not isinstance(model, Likelihood):
            raise self._lacks("log_prob")
        return model.log_prob(self._fit(x))

    def signals(self, pictures: Sequence[Picture | str | Path]) -> Tensor:
        """Pictures, or files of them, as the model sees them: the largest centred part of its shape, [B, C, H, W] in
        [-1, 1]."""
        if not pictures:
            raise UsageError("This needs at least one picture. Name its file.")
        mode = "L" if self.spec.channels == 1 else "RGB"
        opened = [p if isinstance(p, Picture) else open_picture(p) for p in pictures]
        fitted = [ImageOps.fit(one.to_pil().convert(mode), self.spec.size, Image.Resampling.BILINEAR) for one in opened]
        x = np.stack([Picture.from_pil(image).to_signal() for image in fitted])
        return torch.from_numpy(x).to(self.device)

    def pictures(self, x: Tensor) -> list[Picture]:
        """Tensors [B, C, H, W] in [-1, 1] as pictures."""
        return [Picture.from_signal(signal) for signal in x.detach().float().cpu().numpy()]

    @property
    def _model(self) -> Generative:
        shown = None if self.shows is None else FromPicture("")  # whose net sees pictures is not asked without one
        return self.generator(Request(sampling=self.defaults, source=shown))

    @property
    def _coder(self) -> Generative | Decodes:
        """What stands between pictures and latents: a diffusion's codec, else the model itself."""
        model = self._model
        return self.codec if isinstance(model, Diffuses) else model

    def _asked(self, prompt: str, n: int) -> Cond:
        return self.conditioner.prepare(self.conditioner([Request(Prompt(prompt))] * n))

    def _fit(self, x: Tensor) -> Tensor:
        (width, height), channels, model = self.spec.size, self.spec.channels, self._model
        expected, fits = f"[B, {channels}, {height}, {width}]", x.shape[2:] == (height, width)
        if isinstance(model, Diffuses):
            factor = width // model.diffusion.shape[-1]  # a codec takes other sizes too
            fits = all(side and side % factor == 0 for side in x.shape[2:])
            expected = f"[B, {channels}, H, W]{f', H and W multiples of {factor},' if factor > 1 else ''}"
        if x.ndim != 4 or x.shape[1] != channels or not fits:
            raise UsageError(
                f"Expected pictures {expected} with values in [-1, 1], found {list(x.shape)}. `signals` makes them of "
                "picture files."
            )
        return x.to(self.device, torch.float32)

    def _of_latents(self, coder: Generative | Decodes, z: Tensor) -> Tensor:
        """`z` itself. Raises `UsageError` for a shape that `coder` cannot read."""
        shapes, found = self._latent_shapes(coder), z.shape[1:]
        fits = any(len(found) == len(s) and all(b in (0, a) for a, b in zip(found, s, strict=True)) for s in shapes)
        if shapes and not fits:
            told = " or ".join(f"[B, {', '.join(str(side or 'any') for side in shape)}]" for shape in shapes)
            way = " `encode` makes them of pictures." if isinstance(coder, Encodes) else ""
            raise UsageError(f"Expected latents {told} for {self.spec.name!r}, found {list(z.shape)}.{way}")
        return z

    def _latent_shapes(self, coder: Generative | Decodes) -> list[tuple[int, ...]]:
        """Shapes that latents may have, without the batch, 0 for any number; none where it is not known."""
        model = self._model
        if isinstance(model, Diffuses):
            channels, *sides = model.diffusion.shape
            return [(channels, *[0] * len(sides))]
        if isinstance(coder, Latent):
            one = tuple(coder.middle.shape)
            return [one, (coder.layers, *one)] if isinstance(coder, Styles) else [one]
        return [coder.latent_shape] if isinstance(coder, Shaped) else []

    def _lacks(self, verb: str) -> UsageError:
        model, has = self._model, ", ".join(self.verbs) or "none of the others"
        other = "Take a model of another family: `hvis catalog` lists them."
        way = model.why_none if isinstance(model, DrawsNone) else other
        return UsageError(f"{self.spec.name!r} is a {type(model).__name__} and has no {verb}; it has {has}. {way}")


class Adapts(Protocol):
    """Puts what a request names (LoRA, embeddings, control nets) on a system's nets for as long as a block lasts."""

    def __call__(
        self, request: Request, n: int, generator: Generative | None = None
    ) -> AbstractContextManager[Mapping[str, Tensor]]:
        """A block within which the nets are adapted; what it gives belongs into the condition of `n` pictures.

        `generator`: the model that makes them, whose steps an adapter may act at a part of.
        """
        ...

    def words(self, request: Request) -> AbstractContextManager[None]:
        """A block within which prompts are read with the words that the request's adapters bring."""
        ...

    def notes(self, request: Request) -> tuple[str, ...]:
        """What of the adapters does not apply, in sentences."""
        ...


def nearest_trained(spec: Spec, size: tuple[int, int]) -> tuple[int, int]:
    """Of the sizes that a model was trained on, `size` if it is one, else that of the nearest height / width."""
    known = (spec.size, *spec.trained)
    return size if size in known else min(known, key=lambda one: abs(one[1] / one[0] - size[1] / size[0]))


def canvas_of(request: Request, spec: Spec) -> tuple[int, int]:
    """(width, height) that a request asks for: the model's own where it does not say."""
    return request.canvas.width or spec.size[0], request.canvas.height or spec.size[1]
