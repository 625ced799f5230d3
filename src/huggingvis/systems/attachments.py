"""Adapters that a request names, put on a system's nets for as long as its pictures are made.

What a file is, its tensors say (`checkpoints.kinds`); the file of `systems/attaching/` with the kind's name puts it on:
`opened(path, bench)` reads it once and refuses it where it was made for another model, `attach(found, use, bench)` does
the rest at every request. Several add up; afterwards the nets have their own bits again. Book: chapter 6, "Extra
weights".
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, final, runtime_checkable
from weakref import ref

import torch
from torch import Tensor, nn

from huggingvis.adapters.textual_inversion import Embedding, TextualInversions
from huggingvis.adapters.window import Window, window_of
from huggingvis.checkpoints.keymap import KeyMap
from huggingvis.checkpoints.kinds import kind_of, kinds
from huggingvis.codecs.clip_pictures import clip_picture
from huggingvis.codecs.clip_tokens import CLIPTokens
from huggingvis.core.diffusion import Diffuses
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.media import Picture
from huggingvis.core.picture_files import open_picture
from huggingvis.core.protocols import Generative
from huggingvis.core.request import AdapterUse, Request
from huggingvis.core.system import Spec, canvas_of
from huggingvis.data.control_pictures import for_use, prepared
from huggingvis.nets.unet import UNet
from huggingvis.systems.prompt_reading import ClipReader

Stamp = tuple[str, int, int] | None


class Removable(Protocol):
    """What an attachment leaves in hand."""

    def remove(self) -> None: ...


@runtime_checkable
class Partial(Protocol):
    """An opened file of which some may not apply."""

    @property
    def report(self) -> str:
        """What does not, in a paragraph; "" where all does."""
        ...


class ReadsPicture(Protocol):
    """An adapter beside a U-Net that reads a picture."""

    def condition(self, picture: Tensor) -> dict[str, Tensor]: ...

    def attach(self, base: UNet) -> Removable: ...


@final
@dataclass
class Bench:
    """What adapters work on, and with what.

    Attributes:
        spec: of the system.
        nets: by the names that diffusers gives parts: unet, text_encoder, text_encoder_2.
        maps: for each net, the key maps of the formats in which its layers have names.
        readers: the text towers that can learn words.
        device, dtype: of what is read.
        request, n: what is made, and how many at once.
        window: the clocks at which the present adapter acts.
        number: of the present adapter, from 0; its entries of the condition are told apart by it.
    """

    spec: Spec
    nets: Mapping[str, nn.Module]
    maps: Mapping[str, tuple[KeyMap, ...]]
    readers: Sequence[ClipReader]
    device: torch.device
    dtype: torch.dtype
    request: Request = Request()
    n: int = 1
    window: Window = Window()
    number: int = 0

    @property
    def unet(self) -> UNet:
        """The U-Net. Raises `UsageError` for a system without one."""
        net = self.nets.get("unet")
        if not isinstance(net, UNet):
            raise UsageError(
                f"This adapter is made for a U-Net, but {self.spec.name!r} has a {', a '.join(self.nets)}. Use it with "
                "the model it was made for."
            )
        return net

    @property
    def name(self) -> str:
        """What the present adapter's entries of the condition begin with."""
        return f"adapter{self.number}"

    def picture(self, use: AdapterUse) -> Tensor:
        """What an adapter reads of its picture, [1, 3, H, W] in [-1, 1], in the canvas's size. Raises as `named`."""
        x = for_use(replace(use, image=self.named(use)), canvas_of(self.request, self.spec))
        return torch.from_numpy(x)[None].to(self.device, self.dtype)

    def seen(self, use: AdapterUse, side: int) -> Tensor:
        """The picture as CLIP's image tower of `side` pixels sees it, [1, 3, side, side]. Raises as `named`."""
        path = self.named(use)
        picture = Picture(prepared(path, use.prepare, None)) if use.prepare else open_picture(path)
        return clip_picture(picture, side)[None].to(self.device, self.dtype)

    def named(self, use: AdapterUse) -> str:
        """The file of the picture that an adapter reads. Raises `UsageError` where none is given."""
        if not use.image:
            title = kind_of(use.path).title
            raise UsageError(f"{use.path} is {title}, which reads a picture: name one (--control FILE:PICTURE).")
        return use.image

    def put_on(self, adapter: ReadsPicture, use: AdapterUse) -> tuple[Removable, Mapping[str, Tensor]]:
        """The adapter on the U-Net, and what it adds to the condition. Raises as `picture`, before a net is touched."""
        cond = self.everywhere(adapter.condition(self.picture(use)))
        return adapter.attach(self.unet), cond

    def everywhere(self, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Entries of one picture for all of them."""
        return {key: value.expand(self.n, *value.shape[1:]) for key, value in cond.items()}


@final
@dataclass(frozen=True)
class Learnt:
    """An opened file of words that the text towers learn."""

    words: tuple[Embedding, ...]


def check_all_steps(use: AdapterUse, title: str) -> None:
    """Raises `UsageError` where an adapter that is there for a whole walk should act for a part of it."""
    if use.start > 0.0 or use.end < 1.0:
        raise UsageError(
            f"{use.path} is {title} and acts on all steps, but is asked for from {use.start:g} to {use.end:g} of them. "
            "Leave start and end out, or lower its weight."
        )


@final
class Attachments:
    """Adapters on one system.

    Files are read once, and kept until they change, or until a request begins without them that no other waits behind.
    """

    def __init__(self, bench: Bench):
        self.bench = bench
        self._opened: dict[str, tuple[Stamp, ModuleType, Any]] = {}
        self._waiting: list[ref[Request]] = []
        self._busy = False

    @contextmanager
    def __call__(self, request: Request, n: int, generator: Generative | None = None) -> Iterator[Mapping[str, Tensor]]:
        """A block in which the request's adapters are on the nets; gives what they add to the condition.

        Raises `UsageError` within another such block: adapters of two requests would act on both.
        """
        if self._busy:
            raise UsageError(
                f"{self.bench.spec.name!r} is making pictures with adapters of its own request. Wait for them, or load "
                "the model a second time."
            )
        self._let_go(request)
        told: dict[str, Tensor] = {}
        with ExitStack() as stack, torch.no_grad():
            self._busy = bool(request.adapters)
            stack.callback(setattr, self, "_busy", False)
            for number, use in enumerate(request.adapters):
                module, found = self._open(use.path)
                window = _window(use, generator)
                bench = replace(self.bench, request=request, n=n, number=number, window=window)
                removable, more = module.attach(found, use, bench)
                if removable is not None:
                    stack.callback(removable.remove)
                told |= more
            stack.enter_context(self.words(request))
            yield told

    @contextmanager
    def words(self, request: Request) -> Iterator[None]:
        """A block in which the text towers know the learnt words of the request."""
        learnt = self._learnt(request)
        with ExitStack() as stack:
            for reader in self.bench.readers if learnt else ():
                stack.callback(setattr, reader, "words", reader.words)
                reader.words = learnt
            yield

    def notes(self, request: Request) -> tuple[str, ...]:
        """What of the adapters does not apply, in sentences. Their files stay open for as long as `request` waits."""
        self._waiting.append(ref(request))
        said = []
        for use in request.adapters:
            found = self._open(use.path)[1]
            if isinstance(found, Partial) and found.report:
                said.append(f"{Path(use.path).name}: {found.report}")
        learnt = self._learnt(request)
        if learnt is not None:
            called = {*learnt.used(request.prompt.text), *learnt.used(request.prompt.negative)}
            said += [
                f"The prompt does not call the embedding {name!r}: write that word where it should act."
                for name in learnt.names
                if name not in called
            ]
        return tuple(said)

    def _let_go(self, request: Request) -> None:
        """Close what is named neither by `request`, which begins, nor by one of which `notes` were taken before."""
        waiting = [one for one in (kept() for kept in self._waiting) if one is not None]
        begun = next((one for one in waiting if one.adapters == request.adapters), None)
        waiting = [one for one in waiting if one is not begun]
        self._waiting = [ref(one) for one in waiting]
        named = {use.path for one in (request, *waiting) for use in one.adapters}
        self._opened = {path: opened for path, opened in self._opened.items() if path in named}

    def _learnt(self, request: Request) -> TextualInversions[CLIPTokens] | None:
        """The learnt words of the request in use with the text towers; None where there are none."""
        opened = [self._open(use.path)[1] for use in request.adapters if use.weight]
        words = [word for found in opened if isinstance(found, Learnt) for word in found.words]
        readers = self.bench.readers
        if not words or not readers:
            return None
        return TextualInversions(readers[0].tokens, {reader.name: reader.tower for reader in readers}, words)

    def _open(self, path: str) -> tuple[ModuleType, Any]:
        stamp = _stamp(path)
        if path not in self._opened or self._opened[path][0] != stamp:
            kind = kind_of(path)
            if not kind.adapter:
                known = ", ".join(sorted(one.title for one in kinds() if one.adapter))
                raise FileProblem(
                    f"{path} is {kind.title}, which does not go on top of a model. Adapters are {known}; a model is "
                    "given as --model."
                )
            module = importlib.import_module(f"huggingvis.systems.attaching.{kind.name.replace('-', '_')}")
            self._opened[path] = stamp, module, module.opened(Path(path), self.bench)
        return self._opened[path][1:]


def _stamp(path: str) -> Stamp:
    """Changes with the file at `path`; of a folder or of nothing always the same."""
    if not os.path.isfile(path):
        return None
    told = os.stat(path)
    return os.path.realpath(path), told.st_mtime_ns, told.st_size


def _window(use: AdapterUse, generator: Generative | None) -> Window:
    if use.start <= 0.0 and use.end >= 1.0:
        return Window()
    if not isinstance(generator, Diffuses):
        raise UsageError("An adapter can act for a part of the steps only where there are steps.")
    model = generator.diffusion
    grid = model.grid(model.process.pace)
    clocks = grid.clocks if grid.clocks is not None else model.process.clock(grid.times[:-1])
    return window_of(clocks, use.start, use.end)
