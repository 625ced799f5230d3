"""ComfyUI's `prompt`: the graph that was run, node by node, `{"3": {"class_type": "KSampler", "inputs": {...}}, ...}`.

An input is a value, or `["4", 0]`: the first output of node 4. What made the picture is found backwards from what saved
it: the sampler; from there the words (through what sets, joins or controls them), the model (through LoRAs) and the
latents (empty ones, a picture's, or another sampler's made larger: a second pass). Nodes on this way that are not known
are named. ComfyUI draws first noise on the CPU and that of the steps on the GPU: `rng` comfy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from huggingvis.core.request import Canvas, Prompt, Refine, Request
from huggingvis.core.request_sampling import OWN
from huggingvis.export.dialects import solvers
from huggingvis.export.dialects.reading import Reading, Told, Wanted, sampling_of, solver_of, unknown_note

PROGRAM = "ComfyUI"
_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_LARGER = ("LatentUpscale", "LatentUpscaleBy")
_THROUGH = ("Reroute", "ModelSamplingDiscrete", "RescaleCFG")
_DEEPEST = 500
"""Nodes on one way; a longer one goes round."""

Node = Mapping[str, Any]
Graph = Mapping[str, Node]


def read(texts: Mapping[str, str]) -> Reading | None:
    """The reading of `prompt`; None where that is no graph, or has no sampler that is known."""
    graph = graph_of(texts.get("prompt"))
    return None if graph is None else read_graph(graph)


def graph_of(text: str | None) -> Graph | None:
    """The nodes of a graph in JSON."""
    try:
        told = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    nodes = {str(name): node for name, node in told.items() if isinstance(node, dict) and "class_type" in node}
    return {name: {**node, "inputs": node["inputs"]} for name, node in nodes.items()
            if isinstance(node.get("inputs"), dict)} or None  # fmt: skip


def read_graph(graph: Graph) -> Reading | None:
    """What the graph says of the picture that it saves."""
    walk = _Walk(graph)
    last = walk.sampler()
    if last is None:
        return None
    first = walk.before(last)
    told = Told(walk.values(first or last))
    numbers = _sampling(told, first or last)
    prompt = Prompt(walk.words(first or last, "positive"), walk.words(first or last, "negative"))
    canvas, refine = walk.canvas(first or last), None
    if first is not None:
        refine = _refine(walk, last, canvas, told)
    elif "VAEEncode" in str(walk.kind_of_latents(last)):
        told.start({"strength": walk.number(last, "denoise", 1.0)}, walk.picture)
    files = walk.files(first or last)
    options = {"clip_skip": str(walk.skip)} if walk.skip > 1 else {}
    told.notes += [*walk.notes, *unknown_note(PROGRAM, walk.unknown)]
    told.ignore(*told.values)  # links, and widgets that say nothing
    return Reading.of(told, PROGRAM, Request(prompt, canvas, refine=refine, options=options), numbers, files)


def _sampling(told: Told, node: Node) -> dict[str, Any]:
    numbers = sampling_of(told, {"steps": "steps", "guidance_scale": "cfg", "seed": "seed"})
    label, chosen = told.text("sampler_name") or "", told.text("scheduler") or "normal"
    found = solver_of(told, PROGRAM, label, solvers.COMFY.get(label))
    schedule = solvers.COMFY_SCHEDULES.get(chosen)
    if schedule is None:
        told.notes.append(f"ComfyUI's schedule {chosen!r} has no counterpart here: the model's own is used.")
    parts = (told.whole("start_at_step", 0, 10_000) or 0, told.whole("end_at_step", 0, 1 << 40) or 10_000)
    if node["class_type"] == "KSamplerAdvanced" and (parts[0] > 0 or parts[1] < numbers.get("steps", 0)):
        told.notes.append(f"Its sampler walked from step {parts[0]} to {parts[1]} only; here all steps are walked.")
    return {**found, **numbers, "schedule": schedule or OWN, "rng": "comfy"}


def _refine(walk: _Walk, last: Node, canvas: Canvas, told: Told) -> Refine:
    told.notes.append("It has two passes: prompt, model and seed of the first are used for both.")
    strength = min(1.0, max(1e-6, walk.number(last, "denoise", 0.5)))
    steps = int(min(10_000, max(1, walk.number(last, "steps", 20))))
    return Refine(scale=walk.scale(last, canvas), steps=steps, strength=strength)


@dataclass
class _Walk:
    """The ways through a graph, and what was found on them."""

    graph: Graph
    unknown: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    controls: list[Wanted] = field(default_factory=list)
    skip: int = 1
    picture: str = ""

    def at(self, value: Any) -> Node | None:
        """The node that an input comes from."""
        return self.graph.get(str(value[0])) if isinstance(value, list) and value else None

    def come_from(self, node: Node | None, *inputs: str) -> Iterator[Node]:
        """The nodes backwards from `node`, each by the first of the inputs that it has."""
        for _ in range(_DEEPEST):
            if node is None:
                return
            yield node
            node = next((found for name in inputs if (found := self.at(node["inputs"].get(name)))), None)

    def sampler(self) -> Node | None:
        """The sampler nearest to what saved the picture, or the only one there is."""
        ends = [node for node in self.graph.values() if "images" in node["inputs"]]
        for end in ends:
            for node in self.come_from(end, "images", "image", "samples", "pixels", "latent", "upscale_model"):
                if node["class_type"] in _SAMPLERS:
                    return node
        return next((node for node in self.graph.values() if node["class_type"] in _SAMPLERS), None)

    def before(self, sampler: Node) -> Node | None:
        """The sampler whose latents this one goes on with, made larger."""
        way = list(
            self.come_from(self.at(sampler["inputs"].get("latent_image")), "samples", "pixels", "image", "latent")
        )
        kinds = [node["class_type"] for node in way]
        larger = any(kind in _LARGER or kind.startswith("ImageScale") or "Upscale" in kind for kind in kinds)
        return next((node for node in way if larger and node["class_type"] in _SAMPLERS), None)

    def values(self, sampler: Node) -> dict[str, Any]:
        """The sampler's inputs that are values, those of other nodes followed."""
        inputs = {name: self.value(value) for name, value in sampler["inputs"].items()}
        inputs.setdefault("seed", inputs.get("noise_seed"))
        return inputs

    def value(self, value: Any) -> Any:
        """A value, or that of the node it comes from."""
        for _ in range(_DEEPEST):
            node = self.at(value)
            if node is None:
                return None if isinstance(value, list) else value
            inputs = node["inputs"]
            names = (
                "value",
                "text",
                "string",
                "int",
                "float",
                "number",
                "seed",
                "Number",
                "Text",
                "String",
                "source",
                "",
            )
            value = next((inputs[name] for name in names if name in inputs), None)
        return None

    def number(self, node: Node, name: str, otherwise: float) -> float:
        value = self.value(node["inputs"].get(name))
        good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
        return float(value) if good else otherwise

    # ---- words

    def words(self, sampler: Node, side: str) -> str:
        """The text of the positive or the negative condition."""
        for node in self.come_from(self.at(sampler["inputs"].get(side)), side, "conditioning", "conditioning_1",
                                   "conditioning_to"):  # fmt: skip
            kind, inputs = node["class_type"], node["inputs"]
            if kind.startswith("CLIPTextEncode"):
                self._skipped(node)
                texts = [self.value(inputs.get(name)) for name in ("text", "text_g", "text_l")]
                return next((text for text in texts if isinstance(text, str)), "")
            if kind == "ConditioningZeroOut":
                return ""
            if kind.startswith("ControlNetApply"):
                self._control(node)
            elif kind != "Reroute":
                self.unknown.append(kind)
        return ""

    def _skipped(self, node: Node) -> None:
        for step in self.come_from(self.at(node["inputs"].get("clip")), "clip"):
            if step["class_type"] == "CLIPSetLastLayer":
                self.skip = int(min(24, max(1, -self.number(step, "stop_at_clip_layer", -1))))

    def _control(self, node: Node) -> None:
        loader = self.at(node["inputs"].get("control_net"))
        name = self.value(loader["inputs"].get("control_net_name")) if loader else None
        found = Wanted("controlnet", str(name or ""), self.number(node, "strength", 1.0))
        if found not in self.controls:
            self.controls.append(found)

    # ---- latents

    def kind_of_latents(self, sampler: Node) -> str:
        """The kind of the node that the sampler's latents begin with; a picture's name is kept."""
        kind = ""
        for node in self.come_from(self.at(sampler["inputs"].get("latent_image")), "samples", "latent"):
            kind = node["class_type"]
            if kind == "SetLatentNoiseMask" or kind == "VAEEncodeForInpaint":
                self.notes.append("Only a part of that picture was made anew: give its mask with --mask.")
            if kind.startswith("VAEEncode"):
                for step in self.come_from(self.at(node["inputs"].get("pixels")), "image", "pixels", "images"):
                    if step["class_type"] == "LoadImage":
                        self.picture = str(self.value(step["inputs"].get("image")))
                return kind
        return kind

    def canvas(self, sampler: Node) -> Canvas:
        """Width and height of the empty latents."""
        for node in self.come_from(self.at(sampler["inputs"].get("latent_image")), "samples", "latent"):
            if "width" in node["inputs"] and "height" in node["inputs"] and node["class_type"] not in _LARGER:
                sides = [int(self.number(node, name, 0)) for name in ("width", "height")]
                return Canvas(*sides) if all(1 <= side <= 65_536 for side in sides) else Canvas()
        return Canvas()

    def scale(self, last: Node, canvas: Canvas) -> float:
        """How much larger the second pass is; twice, where it does not say."""
        for node in self.come_from(self.at(last["inputs"].get("latent_image")), "samples", "pixels", "image", "latent"):
            if "scale_by" in node["inputs"]:
                return min(16.0, max(1.0, self.number(node, "scale_by", 2.0)))
            width = self.number(node, "width", 0)
            if width and canvas.width and (node["class_type"] in _LARGER or node["class_type"] == "ImageScale"):
                return min(16.0, max(1.0, width / canvas.width))
        return 2.0

    # ---- files

    def files(self, sampler: Node) -> tuple[Wanted, ...]:
        """Model, LoRAs, VAE, text encoders and control nets."""
        found: list[Wanted] = []
        for node in self.come_from(self.at(sampler["inputs"].get("model")), "model"):
            inputs, kind = node["inputs"], node["class_type"]
            if kind in ("LoraLoader", "LoraLoaderModelOnly"):
                weight = self.number(node, "strength_model", 1.0)
                found.append(Wanted("lora", str(self.value(inputs.get("lora_name")) or ""), weight))
                if self.number(node, "strength_clip", weight) != weight:
                    self.notes.append("A LoRA has another weight on the text; here it has one, that on the net.")
            elif "ckpt_name" in inputs:
                found.append(Wanted("checkpoint", str(self.value(inputs["ckpt_name"]) or "")))
            elif "unet_name" in inputs:
                found.append(Wanted("checkpoint", str(self.value(inputs["unet_name"]) or "")))
            elif kind not in _THROUGH:
                self.unknown.append(kind)
        for node in self.graph.values():
            if node["class_type"] == "VAELoader":
                found.append(Wanted("vae", str(self.value(node["inputs"].get("vae_name")) or "")))
            elif node["class_type"] in ("CLIPLoader", "DualCLIPLoader"):
                names = (self.value(node["inputs"].get(f"clip_name{n}")) for n in ("2", "1", ""))
                found += [Wanted("text-encoder", str(name)) for name in names if name]
        return tuple(found[::-1] + self.controls)
