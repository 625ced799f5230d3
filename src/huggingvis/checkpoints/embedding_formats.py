"""Textual inversions from and to files, in every form that the community uses.

| form | what the file holds |
|---|---|
| A1111 `.pt`, and the first program's | `string_to_param` {word: T}, `name`, `step`, `sd_checkpoint` ... |
| A1111 picture | the same in a PNG, see `embedding_pictures` |
| kohya | `emb_params` T |
| SD XL | `clip_l` T, `clip_g` T |
| diffusers | {word: T}, one or several words; a second tower's in `learned_embeds_2` |
| within a LoRA | `bundle_emb.<name>.` and any of the above |

T is [N, D] or, for one vector, [D]. Written is safetensors only. Book: chapter 5, "Textual inversion".
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from huggingvis.adapters.textual_inversion import Embedding
from huggingvis.checkpoints import io
from huggingvis.checkpoints.embedding_names import BUNDLE, BY_WIDTH, FILES, LONGEST, NOT_A_WORD, PARAM, TOWERS
from huggingvis.checkpoints.embedding_pictures import is_picture, read_picture
from huggingvis.checkpoints.formats import Format, read_header, sniff
from huggingvis.core.errors import FileProblem, UsageError
from huggingvis.core.files import explain


def load_embeddings(path: Path | str) -> tuple[Embedding, ...]:
    """All embeddings in a file, or in a folder with diffusers' `learned_embeds` files.

    Executes nothing that a file contains. Raises `FileProblem` for what is missing, damaged or no embedding.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if is_picture(path):
        table = read_picture(path)
        name = table.get("name")
        return _of_table(path, name if isinstance(name, str) and name else path.stem, table)
    if sniff(path) is Format.SAFETENSORS:
        header = read_header(path)
        bundled = any(name.startswith(BUNDLE) for name in header.tensors)
        if not bundled:
            _refuse_weights(path, header.tensors)
        tensors = io.load(path, wanted=lambda name: name.startswith(BUNDLE) or not bundled)
        found = _of_table(path, path.stem, tensors)
        return tuple(replace(e, metadata={**header.metadata, **e.metadata}) for e in found)
    if path.suffix == ".safetensors":
        raise FileProblem(
            f"{path} is named .safetensors but is a pickle, a format that can carry programs. Somebody renamed it: get "
            "the real safetensors file, or, if you know its source, rename it to .pt."
        )
    return _of_table(path, path.stem, torch_table(path))


def bundled_embeddings(path: Path, tensors: Mapping[str, Tensor]) -> tuple[Embedding, ...]:
    """The embeddings among the tensors of a LoRA (`path` is for messages); none if it brings none."""
    return _of_bundle(path, {name: tensor for name, tensor in tensors.items() if name.startswith(BUNDLE)})


def save_kohya(path: Path | str, embedding: Embedding) -> Path:
    """Write `emb_params`, or for several towers `clip_l` and `clip_g`; its name is the file's. Raises `UsageError`."""
    if len(embedding.vectors) == 1:
        tensors = {"emb_params": next(iter(embedding.vectors.values()))}
    elif set(embedding.vectors) == set(TOWERS):
        tensors = dict(embedding.vectors)
    else:
        raise UsageError(
            f"An embedding file has room for one tower or for {' and '.join(TOWERS)}, but {embedding.name!r} has "
            f"vectors for {', '.join(embedding.vectors)}."
        )
    return io.save(path, tensors, dict(embedding.metadata))


def save_diffusers(folder: Path | str, embedding: Embedding) -> list[Path]:
    """Write `learned_embeds.safetensors`, for two towers also `learned_embeds_2.safetensors`, under its own word."""
    folder, word = Path(folder), embedding.token or embedding.name
    sets = [embedding.vectors[tower] for tower in sorted(embedding.vectors, key=_rank)]
    if len(sets) > len(FILES):
        raise UsageError(f"diffusers' files have room for two towers, but {embedding.name!r} has {len(sets)}.")
    folder.mkdir(parents=True, exist_ok=True)
    metadata = dict(embedding.metadata)
    return [io.save(folder / f"{name}.safetensors", {word: v}, metadata) for name, v in zip(FILES, sets)]


def _rank(tower: str) -> int:
    return TOWERS.index(tower) if tower in TOWERS else -1


def _of_folder(folder: Path) -> tuple[Embedding, ...]:
    """diffusers' folder: the files of both towers belong together word by word."""
    found: dict[str, Embedding] = {}
    for name in FILES:
        file = next((p for s in (".safetensors", ".bin") if (p := folder / f"{name}{s}").is_file()), None)
        for embedding in load_embeddings(file) if file else ():
            before = found.get(embedding.token)
            vectors = {**before.vectors, **embedding.vectors} if before else embedding.vectors
            found[embedding.token] = replace(embedding, vectors=_same_length(folder, embedding.name, vectors))
    if not found:
        raise FileProblem(f"{folder} holds no embedding: expected {FILES[0]}.safetensors or {FILES[0]}.bin in it.")
    return tuple(found.values())


def _of_table(path: Path, name: str, table: Mapping[str, Any]) -> tuple[Embedding, ...]:
    """What form this is, and what it holds."""
    if any(key.startswith(BUNDLE) for key in table):
        return _of_bundle(path, table)
    flat = {key.removeprefix(PARAM + "."): value for key, value in table.items() if key.startswith(PARAM + ".")}
    if PARAM in table or flat:
        return tuple(_of_a1111(path, name, {PARAM: flat, **table}))
    tensors = {key: value for key, value in table.items() if isinstance(value, Tensor)}
    if not tensors:
        raise _no_embedding(path, f"it holds {', '.join(map(repr, list(table)[:4])) or 'nothing'}")
    if set(tensors) <= {*TOWERS}:
        vectors = {tower: _vectors(path, tower, tensors[tower]) for tower in TOWERS if tower in tensors}
        return (Embedding(name, _same_length(path, name, vectors)),)
    if set(tensors) in ({"emb_params"}, {""}):  # kohya's, or a bare tensor
        return (Embedding(name, _by_width(path, next(iter(tensors.values())))),)
    _refuse_weights(path, tensors)
    own = len(tensors) == 1 and name not in FILES
    return tuple(Embedding(name if own else word, _by_width(path, t), word) for word, t in tensors.items())


def _of_bundle(path: Path, table: Mapping[str, Any]) -> tuple[Embedding, ...]:
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in table.items():
        name, _, form = key.removeprefix(BUNDLE).partition(".")
        if not name or not form:
            raise FileProblem(f"{path} has a bundled embedding without a name: {key!r}; expected {BUNDLE}NAME.FORM.")
        groups.setdefault(name, {})[form] = tensor
    return tuple(embedding for name, group in groups.items() for embedding in _of_table(path, name, group))


def _of_a1111(path: Path, name: str, table: Mapping[str, Any]) -> Iterator[Embedding]:
    params = table[PARAM]
    params = params.content() if isinstance(params, ParameterTable) else params
    if not isinstance(params, Mapping) or not params:
        raise FileProblem(f"{path} has no table of vectors in its `{PARAM}`. It is damaged: get it again.")
    told = ("name", "step", "sd_checkpoint", "sd_checkpoint_name")
    metadata = {key: str(table[key]) for key in told if isinstance(table.get(key), str | int)}
    for word, tensor in params.items():
        token = "" if word == "*" else str(word)
        yield Embedding(name if len(params) == 1 else token or name, _by_width(path, tensor), token, metadata)


def _by_width(path: Path, tensor: object) -> dict[str, Tensor]:
    vectors = _vectors(path, "the embedding", tensor)
    width = vectors.shape[1]
    return {BY_WIDTH.get(width, f"width_{width}"): vectors}


def _vectors(path: Path, name: str, tensor: object) -> Tensor:
    """A file's tensor as [N, D], checked."""
    if not (isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.is_meta and not tensor.is_sparse):
        raise FileProblem(f"{path}: {name} should be a tensor of floating numbers, but is none. Get the file again.")
    tensor = tensor.detach()
    tensor = tensor[None] if tensor.ndim == 1 else tensor  # [N, D]
    if tensor.ndim != 2 or not tensor.numel() or len(tensor) > LONGEST:
        raise FileProblem(
            f"{path}: {name} should be a few vectors [N, D], but is of shape {list(tensor.shape)}. It is no embedding, "
            "or of a kind that is not known here."
        )
    io.check_finite(tensor, name, path)
    return tensor


def _same_length(path: Path, name: str, vectors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    lengths = {tower: len(v) for tower, v in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise FileProblem(
            f"{path}: the embedding {name!r} should have as many vectors for each text tower, but has {lengths}. "
            "Its parts belong to different embeddings: get them again."
        )
    return vectors


def _refuse_weights(path: Path, names: Mapping[str, Any]) -> None:
    strange = next((name for name in names if NOT_A_WORD.search(name)), None)
    if strange is not None or len(names) > LONGEST:
        raise _no_embedding(path, f"it holds {len(names)} tensors of weights, {strange or next(iter(names))!r} for one")


def _no_embedding(path: Path, found: str) -> FileProblem:
    return FileProblem(
        f"{path} is no textual inversion: {found}. Expected `string_to_param` (A1111), `emb_params` (kohya), `clip_l` "
        "and `clip_g` (SD XL), a word and its vectors (diffusers), or a LoRA with bundled embeddings."
    )


@final
class ParameterTable:
    """Takes the place of PyTorch's `ParameterDict`, in which the first program saved, while a file is read."""

    def content(self) -> Mapping[str, Any]:
        """The table itself."""
        found = vars(self).get("_parameters")
        return found if isinstance(found, Mapping) else {}


def torch_table(path: Path) -> Mapping[str, Any]:
    """What a PyTorch file holds, by the restricted unpickler."""
    try:
        with torch.serialization.safe_globals([(ParameterTable, "torch.nn.modules.container.ParameterDict")]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks for {named.group(1)!r}, a program" if named else "it holds more than an embedding"
        raise FileProblem(
            f"{path} was refused and nothing in it was executed: {what}. Get a safetensors version of the embedding."
        ) from None
    except OSError as error:
        raise explain(error, path, "read") from error
    except Exception as error:  # the unpickler lets through whatever damage leads to: struct.error, AssertionError ...
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileProblem(f"{path} cannot be read: {first}. It is damaged or cut short: get it again.") from error
    if isinstance(content, Tensor):
        return {"": content}
    if not isinstance(content, Mapping):
        raise _no_embedding(path, f"it holds a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}
