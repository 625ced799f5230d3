"""What a checkpoint file is, without building a model: format, tensors, types, sizes, metadata, hashes, family.

A family of models is recognised by a few of its tensors' names and shapes. Each file of systems/ that binds a family
may hold a `FAMILY`; `families_in` collects them, so a new family is a new file and nothing here changes.
Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from huggingvis.checkpoints.formats import Format, Header, TensorFact, read_header, sniff
from huggingvis.core.errors import MissingExtra
from huggingvis.core.files import explain


@dataclass(frozen=True)
class Facts:
    """What a file says of itself. `size` in bytes on disk; types in safetensors spelling where it has one."""

    path: Path
    format: Format
    size: int
    tensors: Mapping[str, TensorFact]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def numel(self) -> int:
        """Numbers in all tensors together."""
        return sum(fact.numel for fact in self.tensors.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """Numbers of each type, most frequent first."""
        count: dict[str, int] = {}
        for fact in self.tensors.values():
            count[fact.dtype] = count.get(fact.dtype, 0) + fact.numel
        return dict(sorted(count.items(), key=lambda item: -item[1]))

    def as_json(self) -> dict[str, object]:
        """The facts in JSON values, without the list of tensors."""
        return {
            "path": str(self.path),
            "format": self.format.value,
            "bytes": self.size,
            "tensors": len(self.tensors),
            "numbers": self.numel,
            "dtypes": self.dtypes,
            "metadata": dict(self.metadata),
        }


def inspect(path: Path | str, *, inside: str | None = None) -> Facts:
    """The facts of one checkpoint file; of safetensors only the header is read, of zip files the table of tensors.

    Raises `FileProblem` as `load` does.
    """
    path = Path(path)
    kind = sniff(path)
    header = read_header(path) if kind is Format.SAFETENSORS else _torch_header(path, inside)
    return Facts(path, kind, path.stat().st_size, header.tensors, header.metadata)


def _torch_header(path: Path, inside: str | None) -> Header:
    from huggingvis.checkpoints.io import facts  # torch is loaded only for the files that need it

    return Header(facts(path, inside=inside))


def sha256(path: Path | str) -> str:
    """SHA-256 of the file, 64 hexadecimal digits."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise explain(error, path, "read") from error


def short_hash(path: Path | str) -> str:
    """The first 10 digits of SHA-256: what A1111 writes as `Model hash` into pictures."""
    return sha256(path)[:10]


Signature = Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class Family:
    """A family of checkpoints and the tensors that give it away; None in a shape stands for any size.

    `other`: the tensors that give away the second file of a family that comes in two. `use`: what such a file is good
    for, said of it to people. `alone`: one file is a system, which its module's `bind(path, device)` makes.
    """

    name: str
    signature: Signature
    other: Signature | None = None
    use: str = "`hvis generate --model FILE` draws by it"
    alone: bool = True

    def recognises(self, tensors: Mapping[str, TensorFact]) -> bool:
        """Whether every tensor of a signature is there in its shape."""
        return any(
            all(name in tensors and _fits(tensors[name].shape, shape) for name, shape in signature.items())
            for signature in (self.signature, self.other)
            if signature is not None
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w is None or n == w for n, w in zip(shape, wanted))


def families_in(package: ModuleType) -> tuple[Family, ...]:
    """The `FAMILY` of every module in `package` that has one; modules whose extra is not installed are passed over."""
    return tuple(family for family, _ in modules_with_family(package))


def modules_with_family(package: ModuleType) -> list[tuple[Family, ModuleType]]:
    """As `families_in`, with the module of each."""
    found = []
    for entry in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            module = importlib.import_module(entry.name)
        except MissingExtra:
            continue
        family = vars(module).get("FAMILY")
        if isinstance(family, Family):
            found.append((family, module))
    return found


def family_in(package: ModuleType, tensors: Mapping[str, TensorFact]) -> tuple[Family, ModuleType] | None:
    """The family of `package` that these tensors are of, with its module; None: of none."""
    known = modules_with_family(package)
    found = identify(tensors, [family for family, _ in known])
    return next(((family, module) for family, module in known if family is found), None)


def identify(tensors: Mapping[str, TensorFact], families: Iterable[Family]) -> Family | None:
    """The family with the longest matching signature, or None."""
    fits = [family for family in families if family.recognises(tensors)]
    return max(fits, key=lambda family: len(family.signature), default=None)
