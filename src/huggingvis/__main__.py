"""`python -m huggingvis` is `hvis`, for launchers that start modules, as `torchrun -m huggingvis train ...`."""

from __future__ import annotations

import sys

from huggingvis.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
