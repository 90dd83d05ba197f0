"""Splits: what is trained on, what selects a model, what is read once at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rsir.data.cuts import Cut, cut_by_time, cut_last_two
from rsir.data.interactions import Interactions
from rsir.data.sequences import Sequences
from rsir.errors import SplitError
from rsir.ragged import Ragged
from rsir.settings import Settings


@dataclass(frozen=True)
class Cases:
    """Held-out questions: after this history, which item came next?

    Attributes:
        histories: `Ragged` of N rows of item indices, none empty.
        target: int64 (N,), the item that came next.
        user: int64 (N,), whose history it is.
    """

    histories: Ragged
    target: Tensor
    user: Tensor

    def __len__(self) -> int:
        return self.target.numel()

    def to(self, device: torch.device | str) -> Cases:
        """The same cases on another device."""
        return Cases(self.histories.to(device), self.target.to(device), self.user.to(device))

    def shortest_first(self, device: torch.device | str) -> tuple[Cases, Tensor]:
        """On a device by length of history, so that batches pad less; and which case each was, int64 (N,).

        A GPU keeps them: validation is looked at again and again.
        """
        kept: tuple[Cases, Tensor] | None = self.__dict__.get("_shortest_first")
        where = torch.empty(0, device=device).device
        if kept is not None and kept[0].target.device == where:
            return kept
        order = torch.argsort(self.histories.lengths, stable=True)
        found = Cases(self.histories.select(order), self.target[order], self.user[order]).to(where), order
        if where.type != "cpu":
            self.__dict__["_shortest_first"] = found
        return found

    def span(self, start: int, stop: int) -> Cases:
        """The cases start … stop − 1, which are not copied."""
        return Cases(self.histories.span(start, stop), self.target[start:stop], self.user[start:stop])


@dataclass(frozen=True)
class Split:
    """Observed data cut in three. Only `train` is ever handed to generation.

    Attributes:
        train: observed sequences to learn from, one a user.
        valid: cases for model selection.
        test: cases for the final evaluation.
        facts: what the cut did, for the report (kind, counts, cold and repeated targets,
            test events older than the newest training event …); plain JSON values.
    """

    train: Sequences
    valid: Cases
    test: Cases
    facts: dict[str, object] = field(default_factory=dict)


class SplitConfig(Settings):
    """How a log is cut. Fractions and the cutoff are read by `global_time` alone."""

    kind: Literal["leave_one_out", "global_time"] = Field(
        "leave_one_out",
        description="leave_one_out: each user's last two events; global_time: what came after a date",
    )
    cutoff: int | float | str | None = Field(
        None, description="time of the first test event, a number or an ISO date as in the log"
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=1, description="newest share of all events to test on, if no cutoff"
    )
    valid_fraction: float = Field(0.1, gt=0, lt=1, description="newest share of the events before the test")


def split(interactions: Interactions, config: SplitConfig = SplitConfig()) -> Split:
    """Cut a log into training sequences, validation cases and test cases.

    Leave-one-out: the test target is `s[-1]` after `s[:-1]`, the validation target `s[-2]` after
    `s[:-2]`, the training sequence `s[:-2]`; users with fewer than 3 events only train. Note
    that a user's training events can be newer than another user's test event.

    Global time: the training sequences are the events before the validation window, which ends
    where the test begins. A case is a user's first event in a window, its history all earlier
    events of the user; users without earlier event cannot be asked.

    Args:
        interactions: the log.
        config: the kind of split. For `global_time` the test begins at `cutoff`, or at the time of the
            event with which the newest `test_fraction` of all events begins; the validation window is the
            newest `valid_fraction` of the events before. Events of equal time fall on the same side.

    Raises:
        SplitError: if nothing is left to train on or to evaluate, or times are needed and missing.

    >>> from rsir.data.read import from_sequences
    >>> cut = split(from_sequences([[1, 2, 3, 4], [2, 1]]))
    >>> cut.train.events.tolists(), cut.test.histories.tolists(), cut.test.target.tolist()
    ([[0, 1], [1, 0]], [[0, 1, 2]], [3])
    """
    if config.kind == "leave_one_out":
        plan = cut_last_two(interactions)
    else:
        plan = cut_by_time(interactions, config.cutoff, config.test_fraction, config.valid_fraction)
    rows = interactions.ragged
    users = torch.nonzero(plan.train_stop).flatten()
    if not users.numel():
        raise SplitError("the split leaves no event to train on: move the cutoff or use smaller fractions")
    kept = rows.select(users)
    events = kept.slice_rows(torch.zeros_like(users), plan.train_stop[users])
    train = Sequences.observed(events, len(interactions.items), user=users)
    valid, test = _cases(rows, plan.valid_at), _cases(rows, plan.test_at)
    if not (len(valid) and len(test)):
        raise SplitError(f"no {'validation' if len(test) else 'test'} case is left: {plan.why_none}")
    facts = {"kind": config.kind, **plan.facts, **_facts(train, valid, test), **_leak(interactions, plan)}
    return Split(train, valid, test, facts)


def _cases(rows: Ragged, place: Tensor) -> Cases:
    """The event at `place` of each row as target, what is before it as history; −1 for no case."""
    users = torch.nonzero(place >= 0).flatten()
    place = place[users]
    histories = rows.select(users).slice_rows(torch.zeros_like(place), place)
    return Cases(histories, rows.values[rows.offsets[users] + place], users)


def repeated_targets(cases: Cases) -> Tensor:
    """Whether each target is already in its own history; bool (N,)."""
    same = cases.histories.values == cases.target[cases.histories.row]
    return torch.bincount(cases.histories.row[same], minlength=len(cases)) > 0


def cold_targets(train: Sequences, cases: Cases) -> Tensor:
    """Whether each target is in no training sequence; bool (N,)."""
    return train.item_counts()[cases.target] == 0


def _facts(train: Sequences, valid: Cases, test: Cases) -> dict[str, object]:
    facts: dict[str, object] = {
        "train_users": len(train),
        "train_events": train.num_events,
        "train_items": int((train.item_counts() > 0).sum()),
    }
    for name, cases in (("valid", valid), ("test", test)):
        facts[f"{name}_cases"] = len(cases)
        facts[f"cold_{name}_targets"] = int(cold_targets(train, cases).sum())
        facts[f"repeated_{name}_targets"] = int(repeated_targets(cases).sum())
    return facts


def _leak(interactions: Interactions, plan: Cut) -> dict[str, object]:
    """How many test events are older than the newest training event; None where there are no times."""
    name = "test_events_older_than_newest_training_event"
    if interactions.time is None:
        return {name: None, f"{name}_share": None, f"{name}_note": "unknown: the log has no times"}
    rows = interactions.ragged
    newest = interactions.time[rows.position < plan.train_stop[rows.row]].max()
    users = torch.nonzero(plan.test_at >= 0).flatten()
    older = interactions.time[rows.offsets[users] + plan.test_at[users]] < newest
    return {name: int(older.sum()), f"{name}_share": float(older.double().mean())}
