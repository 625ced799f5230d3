"""Models trained and measured: `train`, `evaluate`, `compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingvis.api.loading import device_of, load
from huggingvis.core import catalog
from huggingvis.core.config import from_dict

if TYPE_CHECKING:
    from huggingvis.api.loading import Model
    from huggingvis.recipes.comparing import Compared, Comparison
    from huggingvis.recipes.evaluation import Evaluation, Evaluator, Progress
    from huggingvis.train.run import Run


def train(
    recipe: str,
    run: str | Path,
    config: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    shard: bool = False,
) -> Run:
    """Train recipe `recipe` in the folder `run`; `config` holds the numbers that differ from its defaults.

        hv.train("vae", "runs/vae", {"data": "folder:photos", "size": 32, "steps": 2000})
        hv.train("vae", "runs/vae", {"data": "folder:photos", "size": 32, "steps": 4000}, resume=True)
        pictures = hv.generate("", model="runs/vae", count=16)

    `hvis train` lists the recipes, `hvis train vae --help` the numbers of one; nested ones are dicts in it.
    Under `torchrun` every process trains its share of each batch, and with `shard` keeps only a part of each net.
    Raises `UsageError` for an unknown recipe or number, `Cancelled` after ctrl-C, with everything saved.
    """
    from huggingvis.recipes.setting import Setting, sensible
    from huggingvis.train.parallel import from_torchrun

    module = catalog.find_recipe(recipe)
    numbers = sensible(from_dict(module.Config, dict(config or {})))
    parallel = from_torchrun(device_of(device), shard)
    try:
        result: Run = module.train(numbers, Setting(Path(run), resume=resume, parallel=parallel))
    finally:
        parallel.close()
    return result


def evaluate(
    model: Model = None,
    how: Evaluator | None = None,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """What is measured of a model, a run or a folder of pictures, in JSON values and in words.

    `how`: `SceneScores`, `HeldOut`, `ParzenWindow`, `FolderDistance` (see `recipes.evaluation`), each with its numbers;
    without it scene accuracy where sentences are read, and of another run its last held-out losses. `progress` makes a
    bar for each piece of work. Raises `UsageError` for a model that cannot be measured so.
    """
    from huggingvis.recipes.evaluation import Subject, silent
    from huggingvis.recipes.usual_evaluation import Usual

    subject = Subject(model, device_of(device), lambda: load(model, device=device), progress or silent)
    return (how or Usual())(subject)


def compare(
    model: Model = None,
    how: Comparison | None = None,
    *,
    device: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda text: None,
    keep: str | Path | None = None,
) -> Compared:
    """The samplers of a diffusion model side by side, against a fine solution from the same noise.

    `say` is told beforehand how long it takes. `keep`: a folder for what is done, from which it goes on when stopped.
    """
    from huggingvis.recipes.comparing import Comparison, compare_samplers

    kept = Path(keep) if keep is not None else None
    return compare_samplers(load(model, device=device), how or Comparison(), progress, say=say, keep=kept)
