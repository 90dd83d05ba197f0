"""Measurements in a process of their own, so that peak memory is theirs alone."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rsir.errors import RsirError


class MeasurementError(RsirError, RuntimeError):
    """A measurement in another process did not end well."""


def alone(target: str, **arguments: Any) -> Any:
    """Call `module:function` in a new process; arguments and result are plain JSON values.

    Raises:
        MeasurementError: if the process fails; the last line it said is told.

    >>> alone("rsir.bench.clock:figure", value=1.23456)
    1.235
    """
    command = [sys.executable, "-m", "rsir.bench.alone", target, json.dumps(arguments)]
    return last_json(command)


def last_json(command: list[str]) -> Any:
    """The JSON on the last line of what a command prints.

    Raises:
        MeasurementError: if the command fails, or cannot be started.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise MeasurementError(f"{command[0]} cannot be started: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        why = "out of memory" if done.returncode == -9 else said[-1]
        raise MeasurementError(f"{Path(command[-2]).name} ended with {done.returncode}: {why}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _main(target: str, arguments: str) -> None:
    module, function = target.split(":")
    print(json.dumps(getattr(importlib.import_module(module), function)(**json.loads(arguments))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
