"""`hvis`: the verbs on the command line, each a file of `app/commands`, found by its name.

A verb's module has a docstring (its first line is its help), `arguments(parser, words)` and `run(args, screen)`,
which returns its result in JSON values. Only the module of the verb that is called is imported, and what is heavy only
by `run`.

Exit codes: 0, or that of the error (`core.errors`); 130 after ctrl-C, 70 for a fault of the program itself.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingvis.app.arguments import Parser
from huggingvis.app.screen import Screen
from huggingvis.core.errors import Cancelled, HvisError, UsageError, unknown
from huggingvis.core.version import __version__

FAULT = 70
BROKEN_PIPE = 141
_COMMANDS = Path(__file__).parent / "commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    screen = Screen(json="--json" in words)
    try:
        return _guarded(words, screen)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _guarded(words: list[str], screen: Screen) -> int:
    try:
        _dispatch(words, screen)
        sys.stdout.flush()
        return 0
    except SystemExit as end:  # argparse leaves so after --help and --version
        sys.stdout.flush()
        return int(end.code or 0)
    except HvisError as error:
        return _explain(error, screen)
    except KeyboardInterrupt:
        return _explain(Cancelled("Stopped. Nothing half-written was left behind."), screen)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _apologise(error, screen)


def verbs() -> list[str]:
    return sorted(path.stem for path in _COMMANDS.glob("[a-z]*.py"))


def _purpose(verb: str) -> str:
    """What a verb does, in a line, read without importing it."""
    source = (_COMMANDS / f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _dispatch(words: list[str], screen: Screen) -> None:
    if not words or words[0].startswith("-"):
        _introduce(words)
        return
    verb, *rest = words
    if verb not in (known := verbs()):
        raise unknown("verb", verb, known)
    module = importlib.import_module(f"huggingvis.app.commands.{verb}")
    parser = Parser(prog=f"hvis {verb}", description=module.__doc__)
    module.arguments(parser, rest)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output, for programs")
    with screen.quiet_output():
        try:
            result = module.run(parser.read(rest), screen)
        except UsageError as error:
            error.args = (parser.in_flags(str(error)),)
            raise
    screen.finish(result)


def _introduce(words: list[str]) -> None:
    """`hvis`, `hvis --help`, `hvis --version`."""
    table = "\n".join(f"  {verb:<10}  {_purpose(verb)}" for verb in verbs())
    parser = Parser(
        prog="hvis",
        usage="hvis VERB [words and flags of the verb]",
        description=f"HuggingVis {__version__}: visual generation.\n\nVerbs:\n{table}",
        epilog="`hvis VERB --help` says more about one of them.",
    )
    parser.add_argument("--version", action="version", version=f"hvis {__version__}")
    parser.read([word for word in words if word != "--json"])
    if "--json" in words:
        raise UsageError("--json needs a verb, as in `hvis catalog --json`.")
    parser.print_help()


def _explain(error: HvisError, screen: Screen) -> int:
    if _wants_traceback():
        traceback.print_exception(error)
    record: Mapping[str, object] = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    screen.fail(str(error), record, error.result)
    return error.exit_code


def _apologise(error: Exception, screen: Screen) -> int:
    if _wants_traceback():
        traceback.print_exception(error)
    said = (
        f"Sorry: something went wrong inside hvis that it should have explained ({type(error).__name__}: {error}). "
        "Set HVIS_TRACEBACK=1 and call it again to see where, and please report it with that output."
    )
    screen.fail(said, {"kind": type(error).__name__, "message": said, "exit_code": FAULT})
    return FAULT


def _wants_traceback() -> bool:
    return os.environ.get("HVIS_TRACEBACK", "") not in ("", "0")


if __name__ == "__main__":
    sys.exit(main())
