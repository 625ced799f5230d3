"""ComfyUI's `workflow`: the drawing of a graph, with nodes, their widgets in order, and links between their slots.

What was run is in `prompt` (`comfy`); where only the drawing was kept it is turned into such a graph. A drawing does
not name its widgets: their order is known for the nodes below, those of others are lost. Nodes that are switched off
(mode 2 or 4) are passed by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from huggingvis.export.dialects import comfy
from huggingvis.export.dialects.reading import Reading

_OFF = (2, 4)
_AFTER_SEED = "control_after_generate"
_K = ("steps", "cfg", "sampler_name", "scheduler")
WIDGETS: Mapping[str, tuple[str, ...]] = {
    "KSampler": ("seed", _AFTER_SEED, *_K, "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", _AFTER_SEED, *_K, "start_at_step", "end_at_step",
                         "return_with_leftover_noise"),
    "CLIPTextEncode": ("text",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "VAELoader": ("vae_name",),
    "CLIPLoader": ("clip_name", "type"),
    "DualCLIPLoader": ("clip_name1", "clip_name2", "type"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "ControlNetLoader": ("control_net_name",),
    "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength", "start_percent", "end_percent"),
    "LoadImage": ("image",),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "PrimitiveNode": ("value",),
}  # fmt: skip
"""Widgets of nodes in their order on the screen."""


def read(texts: Mapping[str, str]) -> Reading | None:
    """The reading of `workflow`; None where that is no drawing with a sampler that is known."""
    try:
        told = json.loads(texts.get("workflow") or "")
    except (ValueError, RecursionError):
        return None
    graph = _graph(told) if isinstance(told, dict) else None
    found = comfy.read_graph(graph) if graph else None
    if found is None:
        return None
    why = "Only the drawing of its workflow was kept, which may have been changed after the picture was made."
    return replace(found, notes=(*found.notes, why))


def _graph(told: Mapping[str, Any]) -> comfy.Graph | None:
    nodes = {str(node["id"]): node for node in _list(told.get("nodes")) if isinstance(node, dict) and "id" in node}
    links = {
        str(link[0]): str(link[1]) for link in _list(told.get("links")) if isinstance(link, list) and len(link) > 3
    }
    graph = {}
    for name, node in nodes.items():
        if node.get("mode") in _OFF:
            continue
        inputs = dict(zip(WIDGETS.get(str(node.get("type")), ()), _list(node.get("widgets_values")), strict=False))
        for slot in _list(node.get("inputs")):
            if isinstance(slot, dict) and slot.get("link") is not None:
                source = _source(str(slot["link"]), slot.get("type"), nodes, links)
                if source is not None:
                    inputs[str(slot.get("name") or "")] = [source, 0]
        graph[name] = {"class_type": str(node.get("type")), "inputs": inputs}
    return graph or None


def _source(link: str, kind: Any, nodes: Mapping[str, Any], links: Mapping[str, str]) -> str | None:
    """The node that a link comes from, past those that are switched off."""
    for _ in range(len(nodes) + 1):
        name = links.get(link)
        node = nodes.get(name) if name is not None else None
        if node is None:
            return None
        if node.get("mode") not in _OFF:
            return name
        slots = [slot for slot in _list(node.get("inputs")) if isinstance(slot, dict) and slot.get("type") == kind]
        if not slots or slots[0].get("link") is None:
            return None
        link = str(slots[0]["link"])
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
