"""Make pictures from a sentence.

hvis generate "a fox to the left of a pizza" --seed 7 -n 4 -o out/
hvis generate --from out/00001-a-fox-to-the-left.png              the same picture again, from its own record
hvis generate --from out/00001-a-fox-to-the-left.png --steps 50   the same request with other numbers
hvis generate --from webui.png --models ~/stable-diffusion-webui  what another program notes of its picture
hvis generate --model runs/rdm --set database=folder:photos       with what only this kind of model reads
hvis generate "a red fox" --model model.safetensors --lora style.safetensors:0.8      a checkpoint of the community
hvis generate "a red fox" --model owner/name --image cat.png --strength 0.5           from a picture
`hvis batch` makes a file of requests, `hvis grid` labelled sheets; `hvis control` shows what --control sees.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.arguments import add_record, numbers_of, one_of, record_of, words_of
from huggingvis.app.beside import adapters_of, add_beside, check_files, find_parts
from huggingvis.app.beside import said as beside_said
from huggingvis.app.locating import MODEL, add_places, located
from huggingvis.app.origins import Origin, origin_of, remember_hashes
from huggingvis.app.preferences import Preferences, preferences
from huggingvis.app.previewing import add_preview, previewed
from huggingvis.app.prompting import Words, add_prompting, drafts, notes_of, prompt_of, requests_of, streamed
from huggingvis.app.prompting import said as prompting_said
from huggingvis.app.screen import Screen
from huggingvis.app.serving import Output, add_serving, output_of
from huggingvis.app.sizes import Size, add_sizes, refiner_of, sizes_of, sizes_said
from huggingvis.app.sources import source_of
from huggingvis.app.watching import Watched, saved, sheet, stopped
from huggingvis.core.errors import Cancelled, UsageError
from huggingvis.core.files import check_folder
from huggingvis.core.request import OWN, Canvas, Limits, Prompt, Request, Sampling, check
from huggingvis.core.request_sampling import drawn

if TYPE_CHECKING:
    from huggingvis.core.protocols import OnStep
    from huggingvis.core.system import System
    from huggingvis.edits.generate import Prepared

PREDICTED = ("epsilon", "v")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
BYTES_OF_A_RECORD = 1 << 14
USUAL_SIDE = 1024
"""Room on the disk is asked for before the model is there to say its own size."""
OTHER = {
    "model": "by another model",
    "weights": "with other weights",
    "backend": "on another backend",
    "version": "by another version of huggingvis",
    "precision": "in another precision (--precision)",
    "prediction": "by a net whose output was read otherwise (--prediction)",
}


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("prompt", nargs="?", help="what the picture should show, in quotation marks")
    parser.add_argument("--from", dest="picture", metavar="PICTURE", type=Path, help="repeat a picture from its record")
    parser.add_argument("--model", metavar="NAME", help=MODEL)
    add_places(parser)
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="where the pictures go (default out)")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps (default auto)")
    parser.add_argument(
        "--precision", metavar="NAME", type=one_of("precision", PRECISIONS), default="auto",
        help=f"of community models: {', '.join(PRECISIONS)} (default auto)",
    )  # fmt: skip
    parser.add_argument("--grid", action="store_true", help="also save all pictures on one sheet")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="an option of this model's own"
    )
    parser.add_argument("--size", metavar="WxH", action=Size, help="width and height in one, such as 96x64")
    add_record(parser, Words)
    add_record(parser, Canvas, also={"count": "-n"})
    add_record(parser, Sampling, defaults=False)
    add_prompting(parser)
    add_beside(parser)
    add_sizes(parser)
    add_preview(parser)
    add_serving(parser)


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    usual = preferences()
    remember_hashes()
    told = origin_of(args, usual)
    draw_seeds(args, told.request().sampling if told else None)
    early = request_of(args, told, None)
    ours = told is None and _packaged(args.model or usual.model)
    _early(early, prompt_required=ours)
    if ours:
        _without_adapters(args, usual)
    find_parts(args, usual, screen)
    early = replace(early, adapters=adapters_of(args, early.adapters, usual, screen))
    refiner = refiner_of(args, early.refiner, usual, screen)
    drafted = drafts(args, early, told.request().prompt if told else Prompt(), usual, screen)
    for one in requests_of(early, drafted):
        check_files(one, args.picture)
    folder = args.output or usual.output
    check_folder(folder, room=_room(args))
    began = time.perf_counter()

    output = output_of(args, folder, usual, screen)
    system = system_of(args, usual, told, screen)
    loaded = time.perf_counter() - began
    watch = previewed(args, system, screen)
    if told is not None and not told.foreign and not _changed(args):
        return _repeat(told, system, output, loaded, watch)
    request = replace(request_of(args, told, system), refiner=refiner)
    requests = requests_of(request, drafted)
    before, ready = _before(told, screen), _prepared(system, requests)
    notes = [*before, *notes_of(ready, screen), *_bound_otherwise(ready[0], told, screen)]
    began = time.perf_counter()
    with Watched(screen, request, watch) as on_step:
        made, kept = saved(streamed(ready, on_step), request, output)
    seconds = {"load": round(loaded, 3), "sample": round(time.perf_counter() - began, 3)}
    on_one = sheet(kept, request, output) if args.grid else None
    screen.say(_summary(len(made), seconds))
    return {
        "pictures": made,
        "grid": on_one,
        "request": kept[0].request.to_dict() if kept[0].request else None,
        "notes": notes,
        "seconds": seconds,
    }


def draw_seeds(args: argparse.Namespace, base: Sampling | None = None) -> None:
    """Draw the seeds that are asked for as -1, in `base` too, so that all that reads `args` has the same."""
    asked = record_of(Sampling, args, base)
    found = drawn(asked)
    words = [f"--{name}={getattr(found, name)}" for name in ("seed", "variation_seed")
             if getattr(found, name) != getattr(asked, name)]  # fmt: skip
    setattr(args, Sampling.__qualname__, [*words_of(Sampling, args), *words])


def _changed(args: argparse.Namespace) -> bool:
    """Whether anything was said that a repeated picture would not have."""
    said = any(words_of(cls, args) for cls in (Words, Canvas, Sampling))
    beside = args.grid or args.set or args.safety_checker or beside_said(args) or prompting_said(args)
    return said or args.prompt is not None or bool(beside) or sizes_said(args)


def request_of(args: argparse.Namespace, told: Origin | None, system: System | None) -> Request:
    """What the flags ask for: on top of a picture's record, else of the model's own numbers."""
    if told is None:
        base = Request(sampling=system.defaults) if system else Request()
    else:
        base = told.request(system)
        seeds = {name: told.made.get(name, getattr(base.sampling, name)) for name in ("seed", "variation_seed")}
        base = replace(base, canvas=replace(base.canvas, count=1), sampling=replace(base.sampling, **seeds))
    return replace(
        base,
        prompt=prompt_of(args, base.prompt),
        canvas=record_of(Canvas, args, base.canvas),
        sampling=numbers_of(args, base.sampling),
        source=source_of(args, base.source, told.started if told else {}),
        **sizes_of(args, base),
        options={**base.options, **_options(args.set)},
    )


def _options(words: Sequence[str]) -> dict[str, str]:
    """What `--set NAME=VALUE` says, each time it is given."""
    for word in words:
        if not all(word.partition("=")[::2]):
            raise UsageError(f"--set takes a name and a value, as in --set database=mnist; found {word!r}.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _packaged(named: str | None) -> bool:
    """Whether that is a model of the package: they all read sentences."""
    from huggingvis import api

    return named is None or (named in api.packaged_models() and not Path(named).exists())


def _without_adapters(args: argparse.Namespace, usual: Preferences) -> None:
    """A packaged model takes none: said before they are looked for."""
    from huggingvis import api
    from huggingvis.edits.generate import no_adapters

    if args.lora or args.embedding or args.control:
        raise no_adapters(args.model or usual.model or api.DEFAULT_MODEL)


def _early(request: Request, prompt_required: bool) -> None:
    """Refuse what the model cannot take before seconds are spent on loading it."""
    check(request, Limits(multiple=1, prompt_required=prompt_required, options=tuple(request.options)))
    if request.sampling.sampler not in (OWN, Sampling().sampler):
        from huggingvis.samplers.names import split_label

        split_label(request.sampling.sampler)


def _room(args: argparse.Namespace) -> int:
    canvas = record_of(Canvas, args)
    each = 3 * (canvas.width or USUAL_SIDE) * (canvas.height or USUAL_SIDE) + BYTES_OF_A_RECORD
    return each * max(1, canvas.count)


def system_of(args: argparse.Namespace, usual: Preferences, told: Origin | None, screen: Screen) -> System:
    from huggingvis import api

    device = args.device or usual.device
    said = {"vae": args.vae, "text_encoder": args.text_encoder, "prediction": args.prediction,
            "precision": args.precision}  # fmt: skip
    if told is not None:
        said |= {"vae": args.vae or told.vae, "text_encoder": args.text_encoder or told.text_encoders,
                 "prediction": _read_as(args, told)}  # fmt: skip
    named = args.model or (usual.model if told is None else told.model or (usual.model if told.foreign else None))
    if named is not None or told is None:
        model = located(named, args, usual, screen)
        return api.load(model, device=device, **said)
    made_by = str(told.made.get("model", api.DEFAULT_MODEL))
    if made_by in api.packaged_models():
        return api.load(made_by, device=device, **said)
    for place in (usual.runs / Path(made_by).name, Path(usual.model or "")):
        if place.name == made_by and place.is_dir():
            return api.load(place, device=device, **said)
    raise UsageError(
        f"{told.path} was made by the model {made_by!r}, which is neither a packaged one nor a run in {usual.runs}. "
        "Say where it is with --model."
    )


def _read_as(args: argparse.Namespace, told: Origin) -> str | None:
    """How the output of a single file's net is read: as is said, else as it was for the picture of a record."""
    from huggingvis.recipes.models import leaves_prediction_open

    read = told.made.get("prediction")
    single = args.model is None and told.model is not None and leaves_prediction_open(Path(told.model))
    return args.prediction or (read if single and read in PREDICTED else None)


def _prepared(system: System, requests: Sequence[Request]) -> list[Prepared]:
    from huggingvis.edits.generate import prepared

    return [prepared(system, request) for request in requests]


def _before(told: Origin | None, screen: Screen) -> tuple[str, ...]:
    """What there is to know of the picture that is repeated."""
    said = told.said() if told else ()
    for note in said:
        screen.note(note)
    return said


def _bound_otherwise(ready: Prepared, told: Origin | None, screen: Screen) -> list[str]:
    """In what the model is loaded otherwise than for the picture that the request comes from."""
    from huggingvis.edits.used import bound

    now = bound(ready.system, ready.request)
    return _differs({key: (told.made[key], now.get(key)) for key in now if key in told.made}, screen) if told else []


def _differs(found: Mapping[str, tuple[Any, Any]], screen: Screen) -> list[str]:
    notes = [
        f"The picture was made {OTHER[key]}: {before} then, {now} now."
        for key, (before, now) in found.items()
        if before != now
    ]
    for note in notes:
        screen.note(note)
    return notes


def _repeat(told: Origin, system: System, output: Output, loaded: float, watch: OnStep | None) -> dict[str, Any]:
    from huggingvis import api

    path, request, screen = told.path, told.request(), output.screen
    notes = [*_before(told, screen), *notes_of(_prepared(system, (request,)), screen)]
    began = time.perf_counter()
    try:
        with Watched(screen, request, watch) as on_step:
            picture, found = api.repeat(path, system=system, on_step=on_step)
    except KeyboardInterrupt:
        raise Cancelled(stopped(0, 1, output.folder)) from None
    notes += _differs(found.differs, screen)
    saved = output.save(picture)
    seconds = {"load": round(loaded, 3), "sample": round(time.perf_counter() - began, 3)}
    same = "the same bits as" if found.identical else f"up to {found.apart}/255 away from"
    screen.say(f"{saved}  ({same} {path}, {seconds['sample']:.2f} s)")
    return {
        "pictures": [{"path": str(saved), **picture.made}],
        "repeats": {"path": str(path), "identical": found.identical, "largest_difference": found.apart},
        "request": request.to_dict(),
        "notes": notes,
        "seconds": seconds,
    }


def _summary(count: int, seconds: dict[str, float]) -> str:
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    return f"{pictures} in {seconds['sample']:.2f} s, after {seconds['load']:.2f} s of loading"
