"""How long until one can begin: imports and the command line in fresh processes, beside diffusers' and bare torch.

    python benchmarks/startup.py

Wall seconds and peak memory of whole processes whose files are in the page cache. The start of `hvis generate` is what
it imports before it reads weights; the peer's counterpart is the import of its text-to-image pipeline.
"""

from __future__ import annotations

import sys

from common import Report, Spent, interleaved, parser, process, row

NOTHING = "python -c pass"
TORCH = "import torch"
IMPORT, PEER_IMPORT = "import huggingvis", "import diffusers"
HELP, PEER_HELP = "hvis --help", "diffusers-cli --help"
START, PEER_START = "start of hvis generate", "from diffusers import StableDiffusionPipeline"

WORDS = {
    NOTHING: ("-c", "pass"),
    TORCH: ("-c", TORCH),
    IMPORT: ("-c", IMPORT),
    PEER_IMPORT: ("-c", PEER_IMPORT),
    HELP: ("-m", "huggingvis.app.cli", "--help"),
    PEER_HELP: ("-m", "diffusers.commands.diffusers_cli", "--help"),
    START: ("-c", "import huggingvis.api, huggingvis.edits.generate, huggingvis.systems.tiny, huggingvis.export.image"),
    PEER_START: ("-c", PEER_START),
}
OURS = {IMPORT: (PEER_IMPORT, NOTHING), HELP: (PEER_HELP, NOTHING), START: (PEER_START, TORCH)}


def main() -> None:
    options = parser(__doc__, repeats=9, threads=0).parse_args()
    report = Report(__file__, options, ("diffusers", "transformers"))

    def run(words: tuple[str, ...]) -> Spent:
        return process([sys.executable, *words], threads=options.threads)

    contenders = {name: lambda words=words: run(words) for name, words in WORDS.items()}
    spent = interleaved(contenders, options.repeats)
    seconds = {name: [s.seconds for s in all_of] for name, all_of in spent.items()}
    memory = {name: [s.peak_mib for s in all_of if s.peak_mib is not None] for name, all_of in spent.items()}
    for what, unit, table in (("wall time", "s", seconds), ("peak memory", "MiB", memory)):
        for name, values in table.items():
            if values:
                peers = {peer: table[peer] for peer in OURS.get(name, ())}
                report.add(row(what, name, unit, values, beside=peers))
    report.write()


if __name__ == "__main__":
    main()
