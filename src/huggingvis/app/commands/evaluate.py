"""Measure a model: its pictures of sentences, its held-out numbers, its samples, or two folders of pictures.

hvis evaluate                                       the packaged model, 1,000 prompts in each language
hvis evaluate runs/vae                              the held-out losses of the run's last validation
hvis evaluate runs/vae --split test --draws 5000    what its family is compared by, on any pictures (--data, --root)
hvis evaluate runs/gan --parzen 10000               Parzen window estimate of its samples
hvis evaluate runs/pggan --swd 4096                 sliced Wasserstein distance of its samples, scale by scale
hvis evaluate runs/stylegan --path-length 1000      how smooth the way between two of its pictures is
hvis evaluate runs/cgan --accuracy 1000 --judge lenet.pth    how often it draws the class it is asked for
hvis evaluate runs/ddpm --frechet 1000 --judge lenet.pth     how far its pictures are from real ones
hvis evaluate runs/vae --probe 10000                how well classes are told by its features
hvis evaluate made --against photos --inception pt_inception-2015-12-05-6726825d.pth       FID and KID
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.arguments import number, one_of, whole
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.core.errors import UsageError
from huggingvis.core.files import check_file, in_its_folder, write_atomically
from huggingvis.core.machine import cores, machine, versions

if TYPE_CHECKING:
    from huggingvis.recipes.evaluation import Evaluator, Wanted

SPLITS = ("train", "validation", "test")
WHICH = "train, validation or test (default test)"
PICTURES = ("data", "split", "root", "limit")
DRAWN = ("sampler", "schedule", "steps", "guidance_scale")


@dataclass(frozen=True)
class Kind:
    """An evaluation that a flag asks for: how it is made of all flags, and which others it takes beside its own."""

    make: Callable[[argparse.Namespace], Evaluator]
    beside: tuple[str, ...] = PICTURES


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    def count(flag: str, text: str) -> None:
        parser.add_argument(flag, metavar="N", type=whole(flag, 1), help=text)

    parser.add_argument("model", nargs="?", help="a packaged model, a model folder, a run folder or a picture folder")
    count("--prompts", "prompts in each language, the same number of each kind (default 1000)")
    parser.add_argument("--data", metavar="NAME", help="pictures to measure on, as in training (default the run's own)")
    parser.add_argument("--split", metavar="NAME", type=one_of("split", SPLITS), help=WHICH)
    parser.add_argument("--root", metavar="DIR", help="folder of standard data sets (default the run's own)")
    count("--limit", "measure on that many of the pictures, evenly spaced (default all)")
    count("--draws", "random draws of each held-out number (default its family's own)")
    count("--parzen", "Parzen window around that many samples; the papers take 10000")
    count("--swd", "sliced Wasserstein distance between that many samples and as many pictures; the paper takes 16384")
    count("--path-length", "perceptual path length over that many ways between latents; the paper takes 100000")
    count("--accuracy", "share of that many samples that --judge takes for the class they were asked for")
    count("--frechet", "Fréchet distance between that many samples and as many pictures, in features of --judge")
    parser.add_argument("--sampler", metavar="NAME", help="of the samples of --frechet (default the model's own)")
    parser.add_argument("--schedule", metavar="NAME", help="of the same")
    count("--steps", "of the same")
    parser.add_argument("--guidance-scale", metavar="X", type=number("--guidance-scale"), help="of the same")
    count("--probe", "accuracy of a linear probe of the model's features, fitted to that many training pictures")
    parser.add_argument("--judge", metavar="FILE|RUN", type=Path,
                        help="the judge's weights or run, for --accuracy, --frechet and --path-length")  # fmt: skip
    parser.add_argument("--against", metavar="FOLDER", type=Path, help="FID and KID between two folders of pictures")
    parser.add_argument("--inception", metavar="FILE", type=Path, help="the network's weights, for --against")
    parser.add_argument("--seed", metavar="N", type=whole("--seed", 0), default=0, help="of all draws (default 0)")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, mps (default auto)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="also write the result there, as JSON")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    usual = preferences()
    if args.output is not None:
        check_file(args.output)
    how = evaluator(args)
    from huggingvis import api

    began = time.perf_counter()
    model, device = args.model or usual.model, args.device or usual.device
    found = api.evaluate(model, how, device=device, progress=screen.progress)
    record = {
        "command": shlex.join(["hvis", "evaluate", *_said(args)]),
        **found.record,
        "seconds": round(time.perf_counter() - began, 3),
        "machine": machine(threads=cores()),
        "versions": versions(()),
        "notes": list(found.notes),
    }
    screen.say(found.text)
    for note in found.notes:
        screen.note(note)
    if args.output is not None:
        text = json.dumps(record, ensure_ascii=False, indent=2)
        write_atomically(in_its_folder(args.output), lambda file: file.write(f"{text}\n".encode()))
        screen.say(f"\nWritten to {args.output}")
    return record


def evaluator(args: argparse.Namespace) -> Evaluator:
    """The evaluation that the flags ask for. Raises `UsageError` for flags that do not go together."""
    given = [name for name in FLAGS if vars(args)[name] is not None]
    asked = next((name for name in KINDS if name in given), "prompts")
    kind = KINDS[asked]
    for name in given:
        if name != asked and name not in kind.beside:
            raise UsageError(f"{_flag(name)} does not go together with {_flag(asked)}. Leave one of them out.")
    return kind.make(args)


def _against(args: argparse.Namespace) -> Evaluator:
    if args.against is None or args.model is None:
        raise UsageError("Name two folders of pictures, as in `hvis evaluate made --against photos`.")
    from huggingvis.recipes.folder_distance import FolderDistance

    return FolderDistance(args.against, args.inception, args.seed)


def _parzen(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.parzen_window import ParzenWindow

    return ParzenWindow(args.parzen, _pictures(args), args.seed)


def _swd(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.patch_distance import PatchDistance

    return PatchDistance(args.swd, _pictures(args), args.seed)


def _path_length(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.path_lengths import PathLengths

    return PathLengths(args.path_length, args.judge, args.seed)


def _accuracy(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.class_accuracy import ClassAccuracy

    return ClassAccuracy(args.accuracy, args.judge, _pictures(args), args.seed)


def _frechet(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.sample_distance import Drawn, SampleDistance

    drawn = Drawn(**{name: vars(args)[name] for name in DRAWN})
    return SampleDistance(args.frechet, args.judge, _pictures(args), drawn, args.seed)


def _drawn(args: argparse.Namespace) -> Evaluator:
    raise UsageError("Say what shall be told of pictures drawn so: --frechet 1000 their distance to real ones.")


def _probe(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.probing import Probe

    return Probe(args.probe, _pictures(args))


def _judge(args: argparse.Namespace) -> Evaluator:
    raise UsageError(
        "Say what the judge shall tell: --accuracy 1000 of classes, --frechet 1000 how far pictures are from real "
        "ones, or --path-length 1000 by its features."
    )


def _held_out(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.held_out import HeldOut

    return HeldOut(_pictures(args), args.draws, args.seed)


def _usual(args: argparse.Namespace) -> Evaluator:
    from huggingvis.recipes.usual_evaluation import Usual

    args.prompts = args.prompts or 1000
    return Usual(args.prompts, args.seed)


KINDS: Mapping[str, Kind] = {
    "against": Kind(_against, ("inception",)),
    "inception": Kind(_against, ()),
    "parzen": Kind(_parzen),
    "swd": Kind(_swd),
    "path_length": Kind(_path_length, ("judge",)),
    "accuracy": Kind(_accuracy, ("judge", *PICTURES)),
    "frechet": Kind(_frechet, ("judge", *DRAWN, *PICTURES)),
    "probe": Kind(_probe),
    "judge": Kind(_judge, ()),
    **dict.fromkeys(DRAWN, Kind(_drawn, ())),
    "draws": Kind(_held_out),
    **dict.fromkeys(PICTURES, Kind(_held_out)),
    "prompts": Kind(_usual, ()),
}
"""By the flag that asks for it; of several flags the first here does."""
FLAGS = tuple(KINDS)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _pictures(args: argparse.Namespace) -> Wanted:
    from huggingvis.data.standard import Split
    from huggingvis.recipes.evaluation import Wanted

    return Wanted(args.data, Split(args.split or "test"), args.root, args.limit)


def _said(args: argparse.Namespace) -> list[str]:
    """The words that repeat this measurement, whatever preferences the machine has."""
    flags = [
        word
        for name in (*FLAGS, "seed")
        if vars(args)[name] is not None
        for word in (_flag(name), str(vars(args)[name]))
    ]
    return [*([args.model] if args.model else []), *flags]
