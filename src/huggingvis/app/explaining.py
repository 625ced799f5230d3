"""How a prompt is read, put into words and numbers without a network: tokens, weights, chunks, steps, tags.

A model's tokenizer is enough for that; no weights are loaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from huggingvis.app.locating import located
from huggingvis.app.preferences import Preferences
from huggingvis.app.screen import Screen
from huggingvis.checkpoints.json_files import read_json
from huggingvis.codecs.prompt_chunks import Chunk, Pieces, chunked
from huggingvis.codecs.prompt_script import Reading, Said, Script, Steps, script

CLIP = "clip"
DEFAULT = "tiny"
WIDTH = 76
FEW = 6


Unknown = Callable[[str], Sequence[tuple[str, tuple[str, ...]]]]


def _nothing(text: str) -> Sequence[tuple[str, tuple[str, ...]]]:
    """No word is unknown."""
    return ()


@final
@dataclass(frozen=True)
class Reader:
    """Whose tokens they are. `chunks` of a reading; `spell` a token; `unknown` words of a text with near ones."""

    name: str
    chunks: Callable[[Reading], Sequence[Chunk]]
    spell: Callable[[int], str]
    room: int
    unknown: Unknown = _nothing


def reader_of(args: argparse.Namespace, usual: Preferences, screen: Screen) -> Reader:
    """The tokens of the model that is named. Raises as `located`, and `FileProblem` for damaged tokenizers."""
    named = args.model or usual.model or DEFAULT
    if named == CLIP:
        return _clip(None, "CLIP")
    if named == DEFAULT and not Path(named).exists():
        from importlib import resources

        from huggingvis.data.sprites import objects_v1
        from huggingvis.data.vocabulary import unknown_words

        folder = Path(str(resources.files("huggingvis"))) / "weights" / DEFAULT
        return _own(folder, DEFAULT, lambda text: unknown_words(objects_v1(), text))
    path = Path(str(located(named, args, usual, screen)))
    if (path / "tokenizer.json").is_file() and not (path / "model_index.json").is_file():
        return _own(path, named)
    return _of_folder(path, named)


def explained(prompts: tuple[str, str], steps: int, emphasis: str, reader: Reader) -> dict[str, Any]:
    """Everything about a prompt and its negative one, in JSON values."""
    read = [script(prompts[0], emphasis), script(prompts[1], emphasis, negative=True)]
    count = Steps(steps)
    notes = [note for one in read for note in one.notes(count)]
    words = " ".join(said.reading.text for one in read for parts in _walked(one, count) for said in parts)
    for word, near in reader.unknown(words):
        hint = f"; words it knows that are near: {', '.join(near)}" if near else ""
        notes.append(f"The model does not know the word {word!r}{hint}.")
    return {
        "tokens_of": reader.name,
        "steps": steps,
        "emphasis": emphasis,
        "prompt": {"text": read[0].text, "reads": _reads(read[0], count, reader)},
        "negative": {"text": read[1].text, "reads": _reads(read[1], count, reader) if read[1].text else []},
        "tags": [{"tag": str(tag), "kind": tag.kind, "name": tag.name} for tag in read[0].extras],
        "notes": notes,
    }


def sentences(told: Mapping[str, Any]) -> Iterator[str]:
    """What `explained` found, in lines."""
    for name in ("prompt", "negative"):
        for read in told[name]["reads"]:
            title = name if name == "prompt" else "negative prompt"
            yield f"{title}, {_when(read['steps'], told['steps'])}"
            for number, part in enumerate(read["parts"], start=1):
                if len(read["parts"]) > 1 or part["weight"] != 1.0:
                    yield f"  part {number}, weight {part['weight']:g}"
                for n, chunk in enumerate(part["chunks"], start=1):
                    moved = f", {chunk['moved']} brought here by a comma" if chunk["moved"] else ""
                    yield f"  chunk {n}: {len(chunk['tokens'])} of {chunk['room']} tokens{moved}"
                    yield from _lines(chunk["tokens"])
    for tag in told["tags"]:
        yield f"{tag['tag']}: no words, {tag['name']!r} of kind {tag['kind']}"


def _when(numbers: Sequence[int], total: int) -> str:
    """Steps in words: runs of them, the first few."""
    if len(numbers) == total:
        return "every step"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:FEW]]
    more = " ..." if len(runs) > FEW else ""
    return f"step{'s' if len(numbers) > 1 else ''} {', '.join(words)}{more} of {total}"


def _walked(read: Script, steps: Steps) -> dict[tuple[Said, ...], list[int]]:
    """What is read, and by which steps of a walk, counted from 1; all of them where nothing changes."""
    found: dict[tuple[Said, ...], list[int]] = {}
    if not read.moving:
        return {read.walked(0, steps): list(range(1, steps.total + 1))}
    for i in range(steps.total):
        found.setdefault(read.walked(i, steps), []).append(i + 1)
    return found


def _reads(read: Script, steps: Steps, reader: Reader) -> list[dict[str, Any]]:
    def chunk(one: Chunk) -> dict[str, Any]:
        pairs = zip(one.ids, one.weights, strict=True)
        tokens = [{"id": id, "text": reader.spell(id), "weight": round(weight, 6)} for id, weight in pairs]
        return {"room": reader.room, "moved": one.moved, "tokens": tokens}

    return [
        {
            "steps": numbers,
            "parts": [
                {"weight": said.weight, "chunks": [chunk(one) for one in reader.chunks(said.reading)]} for said in parts
            ],
        }
        for parts, numbers in _walked(read, steps).items()
    ]


def _lines(tokens: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tokens with the weights that are not 1, in lines of a terminal's width."""
    line = "   "
    for token in tokens:
        word = f" {token['text']}" + (f"×{token['weight']:.4g}" if token["weight"] != 1.0 else "")
        if len(line) + len(word) > WIDTH:
            yield line
            line = "   "
        line += word
    if line.strip():
        yield line


def _of_folder(path: Path, named: str) -> Reader:
    """The tokenizer in a folder of diffusers; a single file's is CLIP's."""
    index = path / "model_index.json"
    row = read_json(index).get("tokenizer") if index.is_file() else None
    place, kind = path / "tokenizer", str(row[-1]) if isinstance(row, list) and row else ""
    if kind.startswith("T5"):
        from huggingvis.codecs.t5_tokens import T5Tokens

        t5 = T5Tokens.load(place)
        return _row(named, t5.pieces, 119, str)
    if kind.startswith("Bert"):
        from huggingvis.codecs.bert_tokens import BERTTokens

        bert = BERTTokens.load(place)
        return _row(named, bert.pieces, bert.length - 2, str)
    return _clip(place if place.is_dir() else None, named)


def _clip(place: Path | None, name: str) -> Reader:
    from huggingvis.codecs.clip_tokens import CLIPTokens
    from huggingvis.codecs.clip_vocabulary import WORD_END, byte_letters

    tokens = CLIPTokens.bundled() if place is None else CLIPTokens.load(place)
    words = {id: token for token, id in tokens.vocabulary.ids.items()}
    bytes_of = {letter: byte for byte, letter in zip(_bytes(), byte_letters(), strict=True)}

    def spell(id: int) -> str:
        token = words.get(id, f"#{id}").removesuffix(WORD_END)
        raw = bytes(bytes_of.get(letter, 63) for letter in token)
        try:
            return raw.decode()
        except UnicodeDecodeError:  # a part of a letter
            return f"<{raw.hex(' ')}>"

    pieces: Pieces = tokens
    return Reader(name, lambda reading: chunked(reading, pieces), spell, tokens.room)


def _bytes() -> list[int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [byte for byte in range(256) if byte not in printable]


def _own(folder: Path, name: str, unknown: Unknown = _nothing) -> Reader:
    from huggingvis.codecs.text import TextTokenizer

    tokens = TextTokenizer.load(folder / "tokenizer.json")

    def spell(id: int) -> str:
        return str(tokens.engine.id_to_token(id)).removesuffix("</w>")

    return _row(name, tokens.pieces, tokens.length, spell, unknown)


def _row(
    name: str,
    pieces: Callable[[str], Sequence[int]],
    room: int,
    spell: Callable[[int], str],
    unknown: Unknown = _nothing,
) -> Reader:
    """A model that reads one row of tokens and leaves the rest out."""

    def one(reading: Reading) -> tuple[Chunk, ...]:
        said = [(id, span.weight) for section in reading.sections for span in section for id in pieces(span.text)]
        read = said[:room]
        return (Chunk(tuple(id for id, _ in read), tuple(weight for _, weight in read)),)

    return Reader(name, one, spell, room, unknown)
