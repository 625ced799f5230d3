"""The vocabulary of CLIP's tokenizer: bundled with the package, or from a folder, and written back as a folder.

A list of merges says everything: ids 0..255 are the bytes, 256..511 the bytes that end a word (`</w>`), then comes one
id for each merge in the order in which they were learnt, then start and end of text. `vocabularies/` holds the 48,894
merges of openai/CLIP (MIT licence beside them), which OpenCLIP uses too: a single-file checkpoint brings no tokenizer.
Book: chapter 5, "Reading the prompt".
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, final

from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Engine

from huggingvis.core.errors import FileProblem
from huggingvis.core.files import explain, write_atomically

T = TypeVar("T")
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

_BUNDLED = Path(__file__).parent / "vocabularies" / "clip_merges.txt.gz"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_LENGTH, _LONGEST = 77, 4096  # configurations without a limit write 1e30


@final
@dataclass(frozen=True)
class Vocabulary:
    """Ids by token and the merges in their order; `engine` applies them. Shared by tokenizers that pad differently."""

    ids: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    engine: Engine = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises `FileProblem` if start or end is missing, or the merges make tokens that have no id."""
        for token in (START, END):
            self.id(token)
        object.__setattr__(self, "engine", _engine(self.ids, self.merges))

    def id(self, token: str) -> int:
        """The id of a token that must be there. Raises `FileProblem`."""
        if token not in self.ids:
            raise FileProblem(f"A CLIP vocabulary should hold {token!r}, but this one of {len(self.ids)} does not.")
        return self.ids[token]


@final
@dataclass(frozen=True)
class ClipFolder:
    """What a `tokenizer` folder says: vocabulary, padding token, ids of a row, and words added after the vocabulary."""

    vocabulary: Vocabulary
    pad: str = END
    length: int = _LENGTH
    words: Mapping[str, int] = field(default_factory=dict)


@lru_cache(maxsize=1)
def bundled() -> Vocabulary:
    """The vocabulary of 49,408 ids that all CLIP and OpenCLIP text towers of the Stable Diffusion family share."""
    merges = _lines(gzip.decompress(_BUNDLED.read_bytes()).decode())
    letters = byte_letters()
    tokens = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), START, END]
    return Vocabulary({token: id for id, token in enumerate(tokens)}, merges)


def byte_letters() -> list[str]:
    """The letter that stands for each byte, in the order of ids: printable bytes come first, as themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def read_folder(folder: Path) -> ClipFolder:
    """A folder with vocab.json and merges.txt, or tokenizer.json, and what configuration lies beside.

    Raises `FileProblem` for what is missing or damaged.
    """
    try:
        return _read(folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileProblem(
            f"{folder} should be a CLIP tokenizer, but its tables are not what they should be "
            f"({type(error).__name__}: {error}). Fetch the folder again."
        ) from error


def _read(folder: Path) -> ClipFolder:
    config = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    whole = folder / "tokenizer.json"
    if whole.is_file() and not (folder / "vocab.json").is_file():
        vocabulary, found = _in(folder, _of_whole, _text(whole))
    else:
        texts = (_text(folder / "vocab.json"), _text(folder / "merges.txt"))
        vocabulary, found = _in(folder, _of_tables, *texts), _added(_json(whole))
    named = {_content(entry): int(id) for id, entry in config.get("added_tokens_decoder", {}).items()}
    added = _numbered({**found, **named, **_json(folder / "added_tokens.json")})
    length = config.get("model_max_length", _LENGTH)
    return ClipFolder(
        vocabulary,
        _content(config.get("pad_token", END)),
        int(length) if 2 < length <= _LONGEST else _LENGTH,
        {token: id for token, id in added.items() if token not in vocabulary.ids},
    )


def _in(folder: Path, made: Callable[..., T], *texts: str) -> T:
    """What is made of a folder's texts. Errors name the folder, which what is remembered does not depend on."""
    try:
        return made(*texts)
    except FileProblem as error:
        raise FileProblem(f"The tokenizer in {folder} cannot be used. {error}") from error


# The two towers of SDXL bring the same tables, and so do most models: to read them takes a quarter of a second.
@lru_cache(maxsize=4)
def _of_tables(ids: str, merges: str) -> Vocabulary:
    return Vocabulary(_numbered(_table(ids, "vocab.json")), _lines(merges))


@lru_cache(maxsize=4)
def _of_whole(text: str) -> tuple[Vocabulary, Mapping[str, int]]:
    """What `tokenizer.json` says: the vocabulary, and tokens that were added to it."""
    whole = _table(text, "tokenizer.json")
    added = _added(whole)
    ids = {**whole["model"]["vocab"], **{token: added[token] for token in (START, END) if token in added}}
    return Vocabulary(_numbered(ids), [_pair(merge) for merge in whole["model"]["merges"]]), added


def _added(whole: Mapping[str, Any]) -> dict[str, int]:
    return {entry["content"]: entry["id"] for entry in whole.get("added_tokens", [])}


def _numbered(ids: dict[str, Any]) -> dict[str, int]:
    if not all(type(id) is int and id >= 0 for id in ids.values()):
        raise ValueError("an id that is no number")
    return ids


def write_folder(folder: Path, content: ClipFolder) -> Path:
    """The folder that `read_folder`, transformers and diffusers read. Raises `FileProblem` when the system refuses."""
    token = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    ends = {"bos_token": START, "eos_token": END, "unk_token": END}
    config = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": content.length,
        "pad_token": content.pad,
        "tokenizer_class": "CLIPTokenizer",
        **{name: {"__type": "AddedToken", "content": end, **token} for name, end in ends.items()},
    }
    special = {name: {"content": end, **token} for name, end in ends.items()} | {"pad_token": content.pad}
    files = {
        "vocab.json": json.dumps(dict(content.vocabulary.ids), ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in content.vocabulary.merges),
        "special_tokens_map.json": json.dumps(special, indent=2),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    if content.words:
        files["added_tokens.json"] = json.dumps(dict(content.words), ensure_ascii=False, indent=2)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    for name, text in files.items():
        data = text.encode()
        write_atomically(folder / name, lambda file, data=data: file.write(data))  # type: ignore[misc]
    return folder


def _engine(ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Engine:
    try:
        model = models.BPE(dict(ids), list(merges), unk_token=END, end_of_word_suffix=WORD_END)
    except Exception as error:  # the library raises a plain Exception where a merge makes a piece without an id
        raise FileProblem(f"The merges do not belong to the vocabulary ({error}). Fetch both again.") from error
    engine = Engine(model)
    engine.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    engine.add_special_tokens([AddedToken(token, normalized=False) for token in (START, END)])
    return engine


def _lines(text: str) -> list[tuple[str, str]]:
    lines = text.replace("\r\n", "\n").split("\n")  # pieces may hold letters at which str.splitlines would cut
    return [_pair(line) for line in lines[lines[0].startswith("#version") :] if line]


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise ValueError(f"a merge should be two pieces of a word, but one is {merge!r}")
    return parts[0], parts[1]


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileProblem(
            f"There is no {path.name} in {path.parent}. A CLIP tokenizer is a folder with vocab.json and merges.txt, "
            "or with tokenizer.json; without such a folder the vocabulary of this package can be used."
        ) from None
    except OSError as error:
        raise explain(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} should be UTF-8 text, but is not ({error}). Fetch it again.") from error


def _json(path: Path) -> dict[str, Any]:
    """The table in a JSON file; an empty one if there is no such file."""
    return _table(_text(path), str(path)) if path.is_file() else {}


def _table(text: str, name: str) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{name} should be JSON, but is not ({error}). Fetch it again.") from error
    if not isinstance(table, dict):
        raise FileProblem(f"{name} should hold a JSON table, but holds a {type(table).__name__}. Fetch it again.")
    return table
