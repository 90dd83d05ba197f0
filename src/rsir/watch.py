"""What a long act tells whoever watches it. The base class listens to nothing."""

from __future__ import annotations


class Watch:
    """Override what you want to hear; the command line draws progress bars from it."""

    def stage(self, name: str, arm: str, round_index: int) -> None:
        """A stage begins: "train", "generate" or "evaluate", of "rounds" or "control"."""

    def advance(self, done: int, total: int | None) -> None:
        """The stage is so far; `total` is None where nobody knows it."""

    def note(self, line: str) -> None:
        """One line that a person would want to read."""
