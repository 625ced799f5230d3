"""How true it is what a model says of pictures. Book: chapter 4, "Sentences as bits"."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from huggingvis.codecs.words import cut
from huggingvis.core.layout import Layout
from huggingvis.core.noise import SeedNoise
from huggingvis.data.said import names_all, true_sentences
from huggingvis.data.standard import Split
from huggingvis.data.world import World
from huggingvis.metrics.words_shared import word_f1
from huggingvis.recipes.captioned import CHUNK, captions_of
from huggingvis.recipes.describing import Describer
from huggingvis.recipes.evaluation import Evaluation
from huggingvis.recipes.sources import open_split

ASKED = 200
"""Pictures that are asked about, evenly spaced among those held out."""
SHOWN = 8
MEANING = {
    "words_shared": "words shared with its caption (F1)",
    "named": "share that name what is there, no more",
    "true": "share that are true in every word",
}


def evaluated(say: Describer, data: str, root: str) -> Evaluation:
    """What is said of held-out pictures of `data`, beside the same sentences said of the next ones.

    Of the world by its grammar (`data.said`), of other pictures by the words shared with their captions.
    """
    pictures = open_split(data, Split.VALIDATION, say.facts.view, root=root).some(ASKED)
    captions, said = captions_of(pictures), list[str]()
    for batch in pictures.once(CHUNK):
        said += say(batch["image"], SeedNoise(range(len(said), len(said) + len(batch["image"]))))
    others = said[1:] + said[:1]
    scores = {"words_shared": [_words(each, captions) for each in (said, others)]}
    if data.strip().lower().partition(":")[0] == "world":
        world = World(size=say.facts.size, split="test")
        layouts = [world.layout(int(i)) for i in pictures.items]
        own, chance = truths(world, layouts, said), truths(world, layouts, others)
        scores |= {name: [own[name], chance[name]] for name in own}
    rows = (f"{MEANING[name]:<42} {own:.3f}   {chance:.3f}" for name, (own, chance) in scores.items())
    shown = (f"  {new}    ({old})" for new, old in list(zip(said, captions, strict=True))[:SHOWN])
    head = f"Said of {len(said)} held-out pictures in {say.usual.steps} steps, and the same said of others"
    record = {name: {"value": own, "by_chance": chance} for name, (own, chance) in scores.items()}
    few = () if len(said) > 1 else ("Only one picture is held out, so that there are no others to compare with.",)
    return Evaluation({"n": len(said), "steps": say.usual.steps, "said": record}, "\n".join((head, *rows, *shown)), few)


def _words(said: Sequence[str], told: Sequence[str]) -> float:
    return mean(word_f1(cut(a), cut(b)) for a, b in zip(said, told, strict=True))


def truths(world: World, layouts: Sequence[Layout], said: Sequence[str]) -> dict[str, float]:
    """Shares of the sentences `said` of `layouts` that name what is there, and that are true."""
    pairs = list(zip(layouts, said, strict=True))
    return {
        "named": mean(names_all(world, layout, text) for layout, text in pairs),
        "true": mean(text in true_sentences(world, layout) for layout, text in pairs),
    }
