"""Heavy imports without the garbage collector, which would walk a million objects of PyTorch and find nothing.

Collections during the import of PyTorch and of this library, and the last one before the process ends, take as long as
importing the library itself. Modules never become garbage, so they need not be looked at, neither now nor later.
"""

from __future__ import annotations

import gc
import importlib
import sys

HEAVY = "torch"


def imported(*names: str) -> None:
    """Import modules by name; where they bring PyTorch, all that is alive afterwards is taken off the collector.

    Where PyTorch is there already the collector belongs to whoever imported it, and nothing but the import happens.
    """
    first = HEAVY not in sys.modules and gc.isenabled()
    if first:
        gc.collect()  # what is garbage by now would stay for good
        gc.disable()
    try:
        for name in names:
            importlib.import_module(name)
        if first and HEAVY in sys.modules:
            gc.freeze()
    finally:
        if first:
            gc.enable()
