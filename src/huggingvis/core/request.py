"""The Request: the ONE record of what was asked for. Command line, JSON, PNG text and HTTP all carry it.

Book chapter: the three walks. Frozen, plain, without tensors: `to_json` and `from_json` lose nothing, so a picture
that carries its request can be made again. `check` holds every rule about values; a system states its own `Limits`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from huggingvis.core import config
from huggingvis.core.errors import FileProblem, UsageError, unknown
from huggingvis.core.request_sampling import MAX_SEED as MAX_SEED
from huggingvis.core.request_sampling import OWN as OWN
from huggingvis.core.request_sampling import Sampling as Sampling
from huggingvis.core.request_sampling import Unsaid as Unsaid
from huggingvis.core.request_sampling import as_said, check_seeds, drawn
from huggingvis.core.request_sizes import Refine as Refine
from huggingvis.core.request_sizes import Refiner as Refiner
from huggingvis.core.request_sizes import Tiles as Tiles
from huggingvis.core.request_sources import Colourise as Colourise
from huggingvis.core.request_sources import FromPicture as FromPicture
from huggingvis.core.request_sources import Inpaint as Inpaint
from huggingvis.core.request_sources import Outpaint as Outpaint
from huggingvis.core.request_sources import Source as Source
from huggingvis.core.resizing import Resize
from huggingvis.core.rules import number as _number
from huggingvis.core.rules import path as _path
from huggingvis.core.rules import whole as _whole
from huggingvis.core.upscalers import upscaler_of

VERSION = 1
_MOST_TIMES = 16.0
FITS = get_args(Resize)
"""How a picture of control comes to the canvas's shape."""
EMPHASIS = ("original", "no-norm", "ignore", "none")
"""What weights in a prompt do to a text tower's states: multiply them and restore their mean, only multiply, nothing;
with the last, brackets are letters."""
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")


@dataclass(frozen=True)
class Prompt:
    """What should be in the picture, and what should not."""

    text: str = ""  #: what the picture should show
    negative: str = ""  #: what the picture should not show
    emphasis: str = "original"  #: what weights such as (red:1.3) do: original, no-norm, ignore, none
    written: str = ""  #: the prompt as it was typed, where wildcards, choices or styles made `text` of it
    written_negative: str = ""  #: the same of the negative prompt
    styles: tuple[str, ...] = ()  #: names of the styles in it


@dataclass(frozen=True)
class Canvas:
    """How large, and how many."""

    width: int | None = None  #: pixels; none: the model's own
    height: int | None = None  #: pixels; none: the model's own
    count: int = 1  #: pictures, each from its own noise
    #: pixels a side of the parts that latents become pictures in and back; none: parts where the whole would take much
    #: memory; 0: always the whole
    vae_tile: int | None = None


@dataclass(frozen=True)
class AdapterUse:
    """Extra weights that sit on the net for this request."""

    path: str  #: the weights' file
    weight: float = 1.0  #: strength; 0 is none, negative turns the effect round
    image: str = ""  #: the picture that it reads, for a ControlNet, T2I-Adapter or IP-Adapter
    start: float = 0.0  #: it acts from this part of the steps, 0 to 1
    end: float = 1.0  #: until this part of the steps
    encoder: str = ""  #: folder of the image encoder that an IP-Adapter sees by
    prepare: str = ""  #: what is made of the picture first: canny, lines, ... with numbers; none: it is taken as it is
    fit: str = "stretch"  #: how the picture comes to the canvas's shape: stretch, crop or fill
    text_weight: float | None = None  #: a LoRA's strength in the text towers; none: that of the net


@dataclass(frozen=True)
class Request:
    """Everything that decides a picture, apart from the model."""

    prompt: Prompt = Prompt()
    canvas: Canvas = Canvas()
    sampling: Sampling = Unsaid()  #: where it is left out, a model's own numbers
    source: Source | None = None
    refine: Refine | None = None
    adapters: tuple[AdapterUse, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)  #: what only some models read, by name
    refiner: Refiner | None = None
    tiles: Tiles | None = None

    def typed(self) -> Request:
        """The same request, each part of which is a record of its own type. Raises `UsageError` where one is not."""
        return Request.from_dict(self.to_dict())

    def with_seeds(self) -> Request:
        """The request with a number drawn for each seed that is -1. Raises as `typed`."""
        request = self.typed()
        return replace(request, sampling=drawn(request.sampling))

    def with_own(self, own: Sampling) -> Request:
        """The request with a model's `own` numbers where it says none."""
        if not isinstance(self.sampling, Unsaid):
            return self
        return replace(self, sampling=replace(own, **self.sampling.numbers()))

    def to_dict(self) -> dict[str, Any]:
        """The plain form, with its version: what JSON, PNG text and HTTP bodies hold; of `sampling` what is said."""
        plain = {"version": VERSION, **config.to_dict(self)}
        if isinstance(self.sampling, Unsaid):
            told = plain.pop("sampling")
            said = {"sampling": {name: told[name] for name in told if name in self.sampling.said}}
            plain |= said if self.sampling.said else {}
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: Request | None = None, words: bool = False) -> Request:
        """The request a plain form describes, on top of `base` if there is one.

        Missing keys take their defaults, but for numbers of `sampling`, which are the model's own; a missing version is
        the present one. `words`: of a person, for whom `none` is a word too.
        Raises `UsageError` for unknown keys (with the nearest), wrong types, and versions this library does not know.
        """
        if not isinstance(data, Mapping):
            raise UsageError(f"A request must be a table with keys such as 'prompt', but {data!r:.80} was found.")
        version = data.get("version", VERSION)
        if type(version) is not int or not 1 <= version <= VERSION:
            raise UsageError(
                f"This request has version {version!r}, but this library reads versions 1 to {VERSION}. "
                "It was probably made by a newer huggingvis: upgrade, or remove the fields that are new."
            )
        plain = {key: value for key, value in data.items() if key != "version"}
        found = config.from_words(cls, plain, base=base, owner="") if words else config.from_dict(cls, plain, base=base)
        if not isinstance(plain.get("sampling"), Mapping):
            return found
        return replace(found, sampling=as_said(found.sampling, plain["sampling"], (base or cls()).sampling))

    def to_json(self) -> str:
        """One line of JSON. Raises `UsageError` for a request that holds NaN or infinity, which JSON cannot."""
        try:
            return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise UsageError(f"This request cannot be JSON: {error}. Every number must be finite.") from error

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The request in a JSON text. Raises `FileProblem` for a text that is no JSON, else as `from_dict`."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileProblem(f"Expected a request in JSON, but the text does not parse: {error}.") from error
        return cls.from_dict(data)


@dataclass(frozen=True)
class Limits:
    """What a system accepts. `samplers` and `schedules`: the names it knows; empty when any name may pass. `options`:
    names of what this kind of model reads beside what all do.
    """

    words: int = 1000
    characters: int = 10_000
    side: int = 8192
    multiple: int = 8
    count: int = 10_000
    steps: int = 10_000
    prompt_required: bool = True
    samplers: tuple[str, ...] = ()
    schedules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def check(request: Request, limits: Limits = Limits()) -> Request:
    """The request itself if every value is possible. Raises `UsageError` saying what was expected and found."""
    request = request.typed()  # so that the rules meet numbers
    _check_prompt(request.prompt, limits)
    _check_canvas(request.canvas, limits)
    _check_sampling(request.sampling, limits)
    check_seeds(request.sampling, request.canvas.count, (limits.multiple, limits.side))
    if request.source is not None:
        request.source.check()
    _check_sizes(request, limits)
    for name in request.options:
        if name not in limits.options:
            raise unknown("option of this model", name, limits.options)
    for i, use in enumerate(request.adapters):
        _path(f"adapters.{i}.path", use.path)
        _number(f"adapters.{i}.weight", use.weight, -100.0, 100.0)
        _number(f"adapters.{i}.text_weight", use.text_weight or 0.0, -100.0, 100.0)
        _number(f"adapters.{i}.start", use.start, 0.0, 1.0)
        _number(f"adapters.{i}.end", use.end, use.start, 1.0)
        if use.fit not in FITS:
            raise unknown(f"way for adapters.{i}.fit", use.fit, FITS)
    return request


def count_words(text: str) -> int:
    """Words as people count them: runs between spaces, and each Chinese, Japanese or Korean character."""
    return sum(1 for _ in _WORD.finditer(text))


def _check_prompt(prompt: Prompt, limits: Limits) -> None:
    if limits.prompt_required and not prompt.text.strip():
        raise UsageError("The prompt is empty. Say what the picture should show, for example: a red star.")
    if prompt.emphasis not in EMPHASIS:
        raise unknown("emphasis", prompt.emphasis, EMPHASIS)
    for name, text in (("prompt", prompt.text), ("negative prompt", prompt.negative)):
        words = count_words(text)
        if words > limits.words:
            raise UsageError(f"The {name} has {words:,} words, but at most {limits.words:,} are read. Shorten it.")
        if len(text) > limits.characters:
            raise UsageError(
                f"The {name} has {len(text):,} characters, but at most {limits.characters:,} are read. Shorten it."
            )
        bad = next((c for c in text if "\ud800" <= c <= "\udfff" or (c < " " and c not in "\t\n\r")), None)
        if bad is not None:
            raise UsageError(f"The {name} contains {bad!r}, which is no character of a text. Remove it.")


def _check_canvas(canvas: Canvas, limits: Limits, of: str = "") -> None:
    for name, side in ((f"{of}width", canvas.width), (f"{of}height", canvas.height)):
        if side is not None:
            _check_side(name, side, limits)
    _whole("count", canvas.count, 1, limits.count)


def _check_side(name: str, side: int, limits: Limits) -> None:
    _whole(name, side, limits.multiple, limits.side, unit=" pixels")
    if side % limits.multiple:
        below = side - side % limits.multiple
        above = below + limits.multiple
        near = f"{below} or {above}" if above <= limits.side else f"{below}"
        raise UsageError(f"{name} must be a multiple of {limits.multiple} pixels, found {side}. Nearest: {near}.")


def _check_sizes(request: Request, limits: Limits) -> None:
    """The second pass, the second model, and what is done in parts."""
    refine, tiles = request.refine, request.tiles
    if refine is not None:
        if not 1.0 <= refine.scale <= _MOST_TIMES:
            raise UsageError(
                f"refine.scale must be a number between 1 and {_MOST_TIMES:g}, how many times larger the second pass "
                f"is, as in --hires 2; found {refine.scale:g}. A size in pixels is refine.width and refine.height, as "
                "in --hires 96x96."
            )
        _whole("refine.steps", refine.steps, 1, limits.steps)
        _number("refine.strength", refine.strength, 0.0, 1.0)
        upscaler_of(refine.upscaler)
        _check_canvas(Canvas(refine.width, refine.height), limits, "refine.")
        again = request.sampling
        again = replace(again, sampler=refine.sampler or again.sampler, schedule=refine.schedule or again.schedule)
        if refine.guidance_scale is not None:
            again = replace(again, guidance_scale=refine.guidance_scale)
        _check_sampling(again, limits)
        _check_prompt(Prompt(refine.prompt or request.prompt.text, refine.negative or ""), limits)
    if request.refiner is not None:
        _path("refiner.model", request.refiner.model)
        _number("refiner.at", request.refiner.at, 0.0, 1.0)
    if tiles is not None:
        _check_canvas(Canvas(tiles.width, tiles.height), limits, "tiles.")
        _number("tiles.overlap", tiles.overlap, 0.0, 0.95)
    if request.canvas.vae_tile:  # none and 0 are words of their own
        _check_side("vae_tile", request.canvas.vae_tile, limits)


def _check_sampling(sampling: Sampling, limits: Limits) -> None:
    for kind, name, known in (
        ("sampler", sampling.sampler, limits.samplers),
        ("schedule", sampling.schedule, limits.schedules),
    ):
        if (known and name not in known) or not name:
            raise unknown(kind, name, known)
    _whole("steps", sampling.steps, 1, limits.steps)
    _number("guidance_scale", sampling.guidance_scale, 0.0, 100.0)
    _number("guidance_rescale", sampling.guidance_rescale, 0.0, 1.0)
    _number("eta", sampling.eta, 0.0, 1.0)
    for bound in sampling.guidance_interval:
        _number("guidance_interval", bound, 0.0, 1.0)
    if sampling.guidance_interval[0] > sampling.guidance_interval[1]:
        found = sampling.guidance_interval
        raise UsageError(f"guidance_interval must rise from near clean (t = 0) to noise (t = 1), found {found}.")
