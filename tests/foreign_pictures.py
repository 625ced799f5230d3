"""Pictures as other programs write them: small writers after each program's own rules, for tests of their readers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

SIZE = (64, 48)


def png(path: Path, texts: Mapping[str, str], *, kind: str = "text") -> Path:
    """A PNG with text chunks: tEXt where Latin-1 suffices, `itxt` for iTXt, `ztxt` for compressed ones."""
    chunks = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        if kind == "itxt":
            chunks.add_itxt(name, text)
        else:
            chunks.add_text(name, text, zip=kind == "ztxt")
    Image.new("RGB", SIZE, "teal").save(path, pnginfo=chunks)
    return path


def exif_comment(path: Path, text: str, head: bytes = b"UNICODE\0", encoding: str = "utf-16-be") -> Path:
    """A JPEG or WebP with a UserComment, as A1111 writes it by piexif."""
    exif = Image.Exif()
    exif[0x8769] = {0x9286: head + text.encode(encoding)}
    Image.new("RGB", SIZE, "teal").save(path, exif=exif)
    return path


def comfy_webp(path: Path, prompt: Any, workflow: Any = None) -> Path:
    """ComfyUI's animated WebP: `prompt:` in Model, `workflow:` in Make."""
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(prompt)}"
    if workflow is not None:
        exif[0x010F] = f"workflow:{json.dumps(workflow)}"
    Image.new("RGB", SIZE, "teal").save(path, exif=exif)
    return path


def stealth(path: Path, text: str, *, alpha: bool = True, packed: bool = True) -> Path:
    """A text in the lowest bits, bit by bit, column by column (sd_webui_stealth_pnginfo)."""
    image = Image.new("RGBA" if alpha else "RGB", SIZE, (10, 20, 30, 255) if alpha else (10, 20, 30))
    body = gzip.compress(text.encode()) if packed else text.encode()
    name = f"stealth_{'png' if alpha else 'rgb'}{'comp' if packed else 'info'}"
    bits = "".join(f"{byte:08b}" for byte in name.encode()) + f"{8 * len(body):032b}"
    bits += "".join(f"{byte:08b}" for byte in body)
    pixels = np.array(image)
    at = 0
    for x in range(SIZE[0]):
        for y in range(SIZE[1]):
            for channel in (3,) if alpha else (0, 1, 2):
                if at < len(bits):
                    pixels[y, x, channel] = (pixels[y, x, channel] & 0xFE) | int(bits[at])
                    at += 1
    assert at == len(bits), "the picture is too small for the text"
    Image.fromarray(pixels).save(path)
    return path


def infotext(prompt: str, negative: str, settings: Mapping[str, Any]) -> str:
    """A1111's text: pairs joined by commas, quoted as JSON where a value holds a comma, a colon or a newline."""

    def quoted(value: Any) -> str:
        text = str(value)
        return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",\n:") else text

    line = ", ".join(key if key == value else f"{key}: {quoted(value)}" for key, value in settings.items())
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), line]).strip()


class Graph:
    """A ComfyUI graph made node by node: `node(class, **inputs)` gives the link to its first output."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}

    def node(self, kind: str, **inputs: Any) -> list[Any]:
        name = str(len(self.nodes) + 3)
        self.nodes[name] = {"class_type": kind, "inputs": inputs}
        return [name, 0]

    def drawn(self, widgets: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """The drawing: values as widgets in the order of `widgets`, links as rows."""
        nodes: list[dict[str, Any]] = []
        links: list[list[Any]] = []
        for name, node in self.nodes.items():
            order = widgets.get(node["class_type"], ())
            values = [node["inputs"].get(key, "randomize") for key in order]
            slots: list[dict[str, Any]] = []
            for key, value in node["inputs"].items():
                if isinstance(value, list):
                    links.append([len(links) + 1, int(value[0]), value[1], int(name), len(slots), key.upper()])
                    slots.append({"name": key, "type": key.upper(), "link": len(links)})
            nodes.append({"id": int(name), "type": node["class_type"], "mode": 0, "inputs": slots,
                          "widgets_values": values})  # fmt: skip
        return {"last_node_id": 99, "nodes": nodes, "links": links, "version": 0.4}
