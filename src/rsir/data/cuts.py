"""Where each user's row is cut into training, validation and test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rsir.data.interactions import Interactions
from rsir.data.times import iso_microseconds, iso_text
from rsir.errors import SplitError


@dataclass(frozen=True)
class Cut:
    """Where each user's row is cut.

    Attributes:
        train_stop: int64 (U,), length of the training sequence; 0 for a user without one.
        valid_at: int64 (U,), place of the validation target in the row; −1 for a user without.
        test_at: int64 (U,), the same for the test target.
        facts: what there is to say of the cut; plain JSON values.
        why_none: the reason to give where no case is left.
    """

    train_stop: Tensor
    valid_at: Tensor
    test_at: Tensor
    facts: dict[str, object]
    why_none: str


def cut_last_two(interactions: Interactions) -> Cut:
    """The last event of each user for the test, the one before for validation, from 3 events on."""
    lengths = interactions.ragged.lengths
    long = lengths >= 3
    return Cut(
        train_stop=torch.where(long, lengths - 2, lengths),
        valid_at=torch.where(long, lengths - 2, -1),
        test_at=torch.where(long, lengths - 1, -1),
        facts={"users_too_short_to_evaluate": int((~long).sum())},
        why_none=f"leave-one-out needs users with 3 events, the longest has {int(lengths.max())}",
    )


def cut_by_time(
    interactions: Interactions, cutoff: int | float | str | None, test_fraction: float, valid_fraction: float
) -> Cut:
    """Everybody's rows at the same two times; the arguments are those of `SplitConfig`.

    Raises:
        SplitError: if the log has no times, or the cutoff is of another kind or leaves nothing before it.
        DataError: if the cutoff should be an ISO date and is not.
    """
    if interactions.time is None:
        raise SplitError(
            "a global time split needs times, the log has none: name --time-column, or leave_one_out"
        )
    test_from = _test_cutoff(interactions, cutoff, test_fraction)
    before = interactions.time[interactions.time < test_from]
    if not before.numel():
        raise SplitError(f"no event is older than the cutoff {cutoff or test_from}: choose a later one")
    valid_from = _newest(before, valid_fraction)
    old, known = _count_before(interactions, valid_from), _count_before(interactions, test_from)
    lengths = interactions.ragged.lengths
    shown = [iso_text(int(x)) if interactions.time_is_date else x for x in (valid_from, test_from)]
    return Cut(
        train_stop=old,
        valid_at=torch.where((old > 0) & (known > old), old, -1),
        test_at=torch.where((known > 0) & (lengths > known), known, -1),
        facts={
            "valid_from": shown[0],
            "test_from": shown[1],
            "valid_users_without_history": int(((old == 0) & (known > 0)).sum()),
            "test_users_without_history": int((known == 0).sum()),
            "users_without_valid_event": int((known == old).sum()),
            "users_without_test_event": int((lengths == known).sum()),
        },
        why_none=f"no user has events before and in it (validation from {shown[0]}, test from {shown[1]})",
    )


def _test_cutoff(
    interactions: Interactions, cutoff: int | float | str | None, test_fraction: float
) -> int | float:
    assert interactions.time is not None
    if cutoff is None:
        return _newest(interactions.time, test_fraction)
    if interactions.time_is_date:
        return iso_microseconds(str(cutoff))
    try:
        number = int(cutoff) if str(cutoff).lstrip("-").isdigit() else float(cutoff)
    except ValueError as error:
        raise SplitError(f"cutoff {cutoff!r} is no number, but the times of the log are numbers") from error
    if not math.isfinite(number):
        raise SplitError(f"cutoff {cutoff!r} is not finite: give a time within the log")
    # Whole times are compared with a whole number: with a float PyTorch would round them to float32.
    return number if interactions.time.is_floating_point() else math.ceil(number)


def _newest(time: Tensor, fraction: float) -> int | float:
    """The time at which the newest `fraction` of the events begins; at least one event is in it."""
    newest = max(1, round(time.numel() * fraction))
    return time.kthvalue(time.numel() - newest + 1).values.item()


def _count_before(interactions: Interactions, cutoff: int | float) -> Tensor:
    """How many events of each user are older than the cutoff; int64 (U,)."""
    assert interactions.time is not None
    return torch.bincount(interactions.user[interactions.time < cutoff], minlength=len(interactions.users))
