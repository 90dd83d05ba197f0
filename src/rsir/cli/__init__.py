"""The command line: thin verbs over the library.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done; 2 something
given cannot be used, one line says what; 130 stopped by Ctrl-C or SIGTERM; 1 a bug, with its traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer

import rsir
from rsir.cli import bench, data, evidence, machine, use
from rsir.cli.models import models_verb
from rsir.cli.output import Stopped, complain
from rsir.cli.run import run_verb
from rsir.cli.tune import tune_verb
from rsir.errors import RsirError

USAGE, STOPPED = 2, 130

app = typer.Typer(
    help="Recursive self-improving recommendation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run_verb)
app.add_typer(data.app, name="data")
app.command("generate")(use.generate_verb)
app.command("evaluate")(use.evaluate_verb)
app.command("recommend")(use.recommend_verb)
app.command("report")(use.report_verb)
app.command("compare")(evidence.compare_verb)
app.command("audit")(evidence.audit_verb)
app.command("diagnose")(evidence.diagnose_verb)
app.command("models")(models_verb)
app.command("tune")(tune_verb)
app.command("doctor")(machine.doctor_verb)
app.add_typer(bench.app, name="bench")
app.add_typer(machine.config_app, name="config")


def _version(asked: bool) -> None:
    if asked:
        print(rsir.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; the console entry `rsir`.

    Args:
        arguments: words after `rsir`; default those of the process.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _guarded(lambda: app(arguments, prog_name="rsir", standalone_mode=False))
    finally:
        signal.signal(signal.SIGTERM, before)


def _guarded(act: Callable[[], object]) -> int:
    """The exit code of a command, after one line on standard error where something went wrong."""
    try:
        code = act()
    except (RsirError, typer.TyperException) as error:
        return _fail(error.format_message() if isinstance(error, typer.TyperException) else str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        return _fail("out of memory: use a smaller model.dim or training.batch_size, or a larger machine")
    except Stopped as stop:
        complain(f"rsir: {stop}")
        return STOPPED
    if code == STOPPED:
        complain("rsir: stopped")
    return code if isinstance(code, int) else 0


def _out_of_memory(error: Exception) -> bool:
    """Whether Python, PyTorch on the CPU (which has no class for it) or CUDA ran out of memory."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "can't allocate memory" in str(error)


def _fail(message: str) -> int:
    complain(f"rsir: error: {message}")
    return USAGE


def _interrupt(number: int, frame: object) -> NoReturn:
    """SIGTERM does what Ctrl-C does."""
    raise KeyboardInterrupt
