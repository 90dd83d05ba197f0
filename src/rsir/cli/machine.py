"""`rsir doctor` and `rsir config show`: what is installed, and what can be set."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
import typer

from rsir.cli import options as o
from rsir.cli.output import print_facts, print_json, print_table
from rsir.config import describe_config, load_config
from rsir.devices import environment, peak_rss_bytes, resolve_device

config_app = typer.Typer(help="The settings.", no_args_is_help=True)
_OPTIONAL = {"pandas": "pandas", "pyarrow": "pandas", "yaml": "yaml", "numba": "fast"}
"""Optional libraries and the extra that brings them."""


def doctor_verb(device: o.Device = "auto", as_json: o.Json = False) -> None:
    """Versions, threads, device and memory of this machine."""
    where = resolve_device(device)
    facts = {
        **environment(where),
        "cuda_available": torch.cuda.is_available(),
        "memory_available_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"),
        "peak_rss_bytes": peak_rss_bytes(),
        "extras": {
            name: "installed" if find_spec(name) else f"pip install 'rsir[{extra}]'"
            for name, extra in _OPTIONAL.items()
        },
    }
    if where.type == "cuda":
        free, total = torch.cuda.mem_get_info(where)
        facts["device_memory"] = {"free_bytes": free, "total_bytes": total}
    print_json(facts) if as_json else print_facts(facts)


@config_app.command("show")
def show_verb(config: o.ConfigFile = None, set_: o.Set = None, as_json: o.Json = False) -> None:
    """All settings with value, default and meaning; a star marks what is not the default."""
    rows = list(describe_config(load_config(config, o.overrides({}, set_))))
    if as_json:
        print_json({key: {"value": v, "default": d, "meaning": m} for key, v, d, m in rows})
        return
    stars = ([f"{'*' if v != d else ' '} {key}", _shown(v), _shown(d), m] for key, v, d, m in rows)
    print_table(["setting", "value", "default", "meaning"], stars)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
