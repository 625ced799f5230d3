"""Look at training data: a sheet of pictures with their captions, classes and truth.

hvis data preview world -n 16 -o sheet.png
hvis data preview mnist
hvis data preview folder:photos
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.app.arguments import one_of, whole
from huggingvis.app.preferences import preferences
from huggingvis.app.screen import Screen
from huggingvis.core.errors import UsageError
from huggingvis.core.files import check_folder

if TYPE_CHECKING:
    from huggingvis.core.layout import Layout
    from huggingvis.core.media import Picture

CELL = 192
MOST = 400


def arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("action", type=one_of("action of data", ("preview",)), help="preview")
    parser.add_argument("source", help="world, mnist, fashion_mnist, cifar10 (each :FOLDER), folder:PATH")
    parser.add_argument(
        "-n", "--count", metavar="N", type=whole("--count", 1), default=16, help="pictures (default 16)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="the sheet (default OUT/preview.png)")
    parser.add_argument("--size", metavar="N", type=whole("--size", 4), help="side of the pictures in pixels")
    parser.add_argument("--seed", metavar="N", type=whole("--seed", 0), default=0, help="which pictures (default 0)")
    parser.add_argument("--root", metavar="FOLDER", type=Path, help="where standard data sets lie or are downloaded to")


def run(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    usual = preferences()
    if args.count > MOST:
        raise UsageError(f"A sheet shows at most {MOST} pictures, found --count {args.count}.")
    output = args.output or usual.output / "preview.png"
    check_folder(output.parent)
    from huggingvis.export.grid import Sheet, contact_sheet
    from huggingvis.export.image import save

    world = args.source.partition(":")[0].strip().lower() == "world"
    pictures, captions, truths = _layouts(args) if world else _pictures(args, args.root or usual.data)
    sheet = contact_sheet(pictures, Sheet(cell=CELL), captions)
    save(sheet, output)
    screen.say(f"{output}  ({len(pictures)} pictures of {args.source})")
    return {"sheet": str(output), "source": args.source, "items": truths}


Shown = tuple[list["Picture"], list[str], list[dict[str, Any]]]


def _layouts(args: argparse.Namespace) -> Shown:
    """Layouts with their boxes drawn in, and both captions."""
    from huggingvis.core.media import Picture
    from huggingvis.data.world import World

    world = World(size=args.size or CELL, seed=args.seed)
    layouts = [world.layout(i) for i in range(args.count)]
    pictures = [_boxed(Picture(world.image(layout)), layout) for layout in layouts]
    said = [{code: world.caption(layout, code, i % 32) for code in ("en", "zh")} for i, layout in enumerate(layouts)]
    truths = [
        {
            "category": layout.category,
            "class": world.sprites.groups[world.kind(layout)],
            "captions": sentences,
            "things": [
                {
                    "name": thing.key,
                    "box": [round(x, 4) for x in (thing.box.x0, thing.box.y0, thing.box.x1, thing.box.y1)],
                }
                for thing in layout.things
            ],
        }
        for layout, sentences in zip(layouts, said, strict=True)
    ]
    codes = ("en", "zh") if _writes_chinese() else ("en",)
    captions = [
        "\n".join((*(sentences[code] for code in codes), f"({layout.category})"))
        for sentences, layout in zip(said, layouts, strict=True)
    ]
    return pictures, captions, truths


def _writes_chinese() -> bool:
    """Whether an installed font can; else the sheet has English alone, and the JSON document both."""
    from huggingvis.export.lettering import Lettering

    return Lettering().drawable("狐狸")[1] == "狐狸"


def _boxed(picture: Picture, layout: Layout) -> Picture:
    from PIL import ImageDraw

    image = picture.to_pil()
    draw, side = ImageDraw.Draw(image), image.width - 1
    for thing in layout.things:
        box = [min(side, max(0, x * side)) for x in (thing.box.x0, thing.box.y0, thing.box.x1, thing.box.y1)]
        draw.rectangle(box, outline=(255, 0, 255))
    return type(picture).from_pil(image)


def _pictures(args: argparse.Namespace, root: Path) -> Shown:
    """Training pictures as a recipe would see them, with class and caption."""
    from huggingvis.core.media import Picture
    from huggingvis.recipes.sources import View, open_source

    source = open_source(args.source, View(args.size), root=root, seed=args.seed)
    count = min(args.count, len(source.training))
    batch = source.training.batch(0, count)
    pictures = [Picture.from_signal(x) for x in batch["image"].numpy()]
    truths: list[dict[str, Any]] = [{} for _ in range(count)]
    for i, truth in enumerate(truths):
        if "label" in batch:
            truth["class"] = source.facts.classes[int(batch["label"][i])]
        if "caption" in batch:
            truth["caption"] = batch["caption"][i]
    captions = ["\n".join(str(value) for value in truth.values()) for truth in truths]
    return pictures, captions, truths
