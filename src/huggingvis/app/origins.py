"""What `--from PICTURE` begins with: the record of a picture of ours, or another program's notes, and their files here.

A record of ours repeats the picture to the bit; of another program's notes as much is done as is understood, and what
is not, or is not here, is said in one paragraph. Files are looked for by the names they were told by, in the folders of
--models; a hash beside a name is compared with the file's.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.locating import places
from huggingvis.app.preferences import hashes_place
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.request import OWN, AdapterUse, Request
from huggingvis.export.dialects.reading import Wanted

if TYPE_CHECKING:
    from huggingvis.app.preferences import Preferences
    from huggingvis.core.system import System
    from huggingvis.export.image import Provenance

FLAGS = {"lora": "--lora", "embedding": "--embedding", "controlnet": "--control", "ip-adapter": "--control",
         "vae": "--vae", "text-encoder": "--text-encoder", "checkpoint": "--model"}  # fmt: skip
"""How a file is given that was not found."""


@dataclass
class Origin:
    """A picture's making, with the paths here of what it needs. `foreign`: it is of another program."""

    told: Provenance
    model: str | None = None
    vae: str | None = None
    text_encoders: list[str] = field(default_factory=list)
    adapters: tuple[AdapterUse, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.told.path

    @property
    def made(self) -> Mapping[str, Any]:
        return self.told.made

    @property
    def foreign(self) -> bool:
        return self.told.request_json is None

    @property
    def started(self) -> Mapping[str, Any]:
        """Numbers of a picture that it began with, where the notes have these and not the picture."""
        return self.told.reading.started if self.told.reading else {}

    def request(self, system: System | None = None) -> Request:
        """What is asked for; of another program's notes on top of a `system`'s own numbers."""
        request, reading = self.told.request(), self.told.reading
        if reading is None:
            return request
        request = replace(request, adapters=self.adapters)
        if system is None:
            return request
        sampling = replace(system.defaults, **reading.numbers)
        if OWN in (sampling.sampler, sampling.schedule) and OWN not in system.limits.samplers:
            usual = {name: getattr(system.defaults, name) for name in ("sampler", "schedule")}
            sampling = replace(
                sampling, **{name: value for name, value in usual.items() if getattr(sampling, name) == OWN}
            )
        options = {name: word for name, word in request.options.items() if name in system.limits.options}
        for name in request.options.keys() - options.keys():
            self.notes.append(f"{system.spec.name!r} knows no {name} ({request.options[name]}), which is left out.")
        request = replace(request, sampling=sampling, options=options)
        if not _walks(system, request):
            told, ours = sampling.schedule, system.defaults.schedule
            self.notes.append(f"{system.spec.name!r} has no schedule {told!r}: its usual one, {ours!r}, is used.")
            request = replace(request, sampling=replace(sampling, schedule=ours))
        return request

    def put(self, kind: str, path: str) -> None:
        """Note where the autoencoder, or one of the text encoders, lies."""
        if kind == "vae":
            self.vae = path
        else:
            self.text_encoders.append(path)

    def said(self) -> tuple[str, ...]:
        """One paragraph of all there is to say, or nothing."""
        return (f"{self.path.name}: {' '.join(self.notes)}",) if self.notes else ()


def _walks(system: System, request: Request) -> bool:
    """Whether a model has the schedule of a request; one of a noise table needs one."""
    from huggingvis.core.diffusion import Diffuses

    try:
        model = system.generator(request)
    except UsageError:
        return True  # what else is wrong with the request is said where it is checked
    try:
        return not isinstance(model, Diffuses) or bool(model.diffusion.grid(model.diffusion.process.pace))
    except UsageError:
        return False


def remember_hashes() -> None:
    """Let hashes of large files be read once, and not by each command anew."""
    from huggingvis.checkpoints.file_hashes import USUAL

    USUAL.keep(hashes_place())


def origin_of(args: argparse.Namespace, usual: Preferences) -> Origin | None:
    """What `--from` names; None where it is not given. Raises `FileProblem`, and `UsageError` for a model not found."""
    if args.picture is None:
        return None
    from huggingvis.export.image import read_provenance

    told = read_provenance(args.picture)
    told.request()
    origin = Origin(told)
    if told.reading is None:
        origin.model = _recorded("checkpoint", told.made.get("model_path"), args, usual)
        origin.notes += _changed(told.made)
        if args.model is None:
            _with_parts(origin, args, usual)
        return origin
    _find(origin, args, usual)
    origin.notes = [f"read from the notes of {told.reading.program}.", *origin.notes, *told.reading.notes]
    return origin


def _recorded(kind: str, path: object, args: argparse.Namespace, usual: Preferences) -> str | None:
    """A recorded path, where a file is still there, or what goes by that file's name here."""
    if not isinstance(path, str) or not path:
        return None
    return path if os.path.exists(path) else _here(Wanted(kind, path), args, usual)


def _with_parts(origin: Origin, args: argparse.Namespace, usual: Preferences) -> None:
    """The autoencoder and text encoders that the picture was made with in the place of its model's own."""
    given = {"vae": args.vae, "text-encoder": args.text_encoder}
    for row in _rows(origin.made):
        kind = str(row.get("kind"))
        if given.get(kind, True):
            continue
        path = _recorded(kind, row.get("path"), args, usual)
        if path is None:
            wanted = Wanted(kind, str(row.get("path")), hash=str(row.get("sha256", ""))[:10])
            origin.notes.append(_missing(wanted, None))
        else:
            origin.put(kind, path)


def _changed(made: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on files of a record that are others now."""
    for row in ({"path": made.get("model_path"), "sha256": made.get("model_hash")}, *_rows(made)):
        path, digits = row.get("path"), row.get("sha256")
        if isinstance(path, str) and isinstance(digits, str) and _matches(path, digits) is False:
            yield f"{path} has changed since the picture was made (it was {digits[:10]}): it comes out otherwise."


def _rows(made: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a record on files; whatever else stands there says nothing."""
    rows = made.get("files")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _matches(path: str, digits: str) -> bool | None:
    """Whether the file at `path` has that hash; None where there is no such file, or nothing to compare."""
    from huggingvis.checkpoints.file_hashes import USUAL

    return USUAL.of(path).match(digits) if os.path.isfile(path) else None


def _find(origin: Origin, args: argparse.Namespace, usual: Preferences) -> None:
    """The files of another program's notes."""
    assert origin.told.reading is not None
    given = {"lora": args.lora, "embedding": args.embedding, "controlnet": args.control, "ip-adapter": args.control,
             "vae": args.vae, "text-encoder": args.text_encoder, "checkpoint": args.model}  # fmt: skip
    adapters = []
    for file in origin.told.reading.files:
        if given.get(file.kind):
            if file.kind == "checkpoint" and file.hash:
                _compare(origin, file, str(args.model))
            continue
        path = _here(file, args, usual)
        if file.kind == "checkpoint":
            path = path or _packaged(file)
            origin.model = path or origin.model
            if path is None and usual.model is None:
                raise UsageError(_no_model(origin, file))
        elif path is None or file.kind not in ("lora", "embedding", "vae", "text-encoder"):
            origin.notes.append(_missing(file, path))
            continue
        elif file.kind in ("vae", "text-encoder"):
            origin.put(file.kind, path)
        else:
            adapters.append(AdapterUse(path, file.weight))
        if path is not None:
            _compare(origin, file, path)
    origin.adapters = tuple(adapters)
    if origin.model is None and args.model is None and usual.model is None:
        raise UsageError(f"{origin.path} does not say with which model it was made. Name one with --model.")


def _here(file: Wanted, args: argparse.Namespace, usual: Preferences) -> str | None:
    """The path of a file that goes by the name here."""
    from huggingvis.checkpoints.local_folders import KINDS, lookup
    from huggingvis.checkpoints.resolve import ALSO

    roots = places(args, usual)
    if not roots or file.kind not in KINDS or not file.name:
        return None
    try:
        kinds = (file.kind, *ALSO.get(file.kind, ()))
        found = next(
            filter(None, (lookup(name, kind, roots) for kind in kinds for name in (file.name, file.stem))), None
        )
    except UsageError:  # several go by that name
        return None
    return str(found) if found else None


def _packaged(file: Wanted) -> str | None:
    """The name of a model of this package; files of others have hashes."""
    from huggingvis.api import packaged_models

    return file.name if not file.hash and file.name in packaged_models() else None


def _compare(origin: Origin, file: Wanted, path: str) -> None:
    try:
        same = _matches(path, file.hash)
    except FileProblem:
        return
    if same is False:
        origin.notes.append(
            f"{path} is not the file that the picture was made with, whose hash begins with {file.hash}."
        )


def _missing(file: Wanted, path: str | None) -> str:
    digits = f" (hash {file.hash})" if file.hash else ""
    if file.kind in ("controlnet", "ip-adapter"):
        where = f"{path or 'FILE'}:PICTURE:{file.weight:g}"
        return f"It was led by {file.name!r}{digits} and a picture that is not named: give both with --control {where}."
    flag = FLAGS.get(file.kind)
    if flag is None:
        return f"The {file.kind} {file.name!r}{digits} cannot be used here, and is left out."
    weight = f":{file.weight:g}" if file.kind == "lora" else ""
    return f"The {file.kind} {file.name!r}{digits} is not here and is left out: give it with {flag} FILE{weight}."


def _no_model(origin: Origin, file: Wanted) -> str:
    assert origin.told.reading is not None
    digits = f"hash {file.hash}" if file.hash else "no hash told"
    named = f"the model {file.name!r} ({digits})" if file.name else f"a model of {digits}"
    return (
        f"{origin.path} was made by {origin.told.reading.program} with {named}, which is not among the models here. "
        "Say where it is with --model, or in which folder your models are with --models; any other model makes another "
        "picture of the same words."
    )
