"""Settings of a run of a second, and what a call of the command line gave."""

from dataclasses import dataclass

TINY = [
    "simulation.num_users=60",
    "simulation.num_items=60",
    "simulation.num_topics=3",
    "simulation.max_events=20",
    "model.dim=8",
    "model.num_blocks=1",
    "training.max_periods=2",
    "training.min_period=1",
]
TINY_FLAGS = [word for setting in TINY for word in ("--set", setting)]


@dataclass(frozen=True)
class Outcome:
    """Exit code and both streams."""

    code: int
    out: str
    err: str
