"""What a measured number depends on: the machine and the versions. Recorded beside every result that is kept.

Standard library only, and no name of the host.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from huggingvis.core.version import __version__

ALWAYS = ("huggingvis", "torch")


def cores() -> int:
    """Processor cores this process may run on."""
    return os.cpu_count() or 1 if sys.platform in ("win32", "darwin") else len(os.sched_getaffinity(0))


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on. `load`: processes that wanted to run in the last minute, before this one began."""
    load = None if sys.platform == "win32" else round(os.getloadavg()[0], 2)
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "ram_gib": _ram_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "load": load,
    }


def instructions() -> tuple[str, ...]:
    """Those of the processor's instruction sets that decide how fast bfloat16 is, where the system tells them."""
    flags = _processor().get("flags", "").split()
    return tuple(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags)


def multiplies_bfloat16() -> bool:
    """Whether the processor is known to be faster in bfloat16 than in float32."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(instructions())


def _cpu() -> str:
    """The processor's model name and `instructions`."""
    usual = platform.machine() if _processor() else platform.processor() or platform.machine()
    special = instructions()
    return _processor().get("model name", usual) + (f" ({', '.join(special)})" if special else "")


def _processor() -> dict[str, str]:
    """What Linux says of the last core; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _ram_gib() -> float | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of the distributions that are installed among `packages`."""
    out = {"python": platform.python_version()}
    for name in dict.fromkeys((*ALWAYS, *packages)):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "huggingvis":  # a checkout on the path that is not installed
                out[name] = __version__
    return out
