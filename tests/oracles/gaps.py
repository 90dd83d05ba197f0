"""A law of gaps: how long the last step took decides what comes next. Its best scores are known."""

import polars as pl
import torch
from torch import Tensor

from rsir.ragged import Ragged

NUM_ITEMS, LENGTH = 30, 8
MINUTE, DAY = 60.0, 86_400.0


def walks(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Items and times in seconds, (count, 8) each: on a ring, one ahead after minutes, two ahead after days.

    So in 90 % of steps, the other way round in the rest. Minutes and days are as likely: who knows the times
    can be right in 90 % of cases, who does not in half of them. No item comes twice.
    """
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(4, count, LENGTH - 1, generator=generator)
    long = share[0] < 0.5
    gap = torch.where(long, DAY, MINUTE) * (1 + 9 * share[1])
    known = torch.cat([share[2, :, :1] < 0.5, long[:, :-1]], 1)  # the first step has no gap before it
    step = 1 + (known ^ (share[3] > 0.9)).long()
    begin = torch.randint(NUM_ITEMS, (count, 1), generator=generator)
    items = torch.cat([begin, begin + step.cumsum(1)], 1) % NUM_ITEMS
    return items, 1.7e9 + torch.nn.functional.pad(gap.double().cumsum(1).round(), (1, 0))


def rows(items: Tensor, time: Tensor | None) -> Ragged:
    """As rows of one length."""
    lengths = torch.full((len(items),), items.shape[1])
    return Ragged.from_lengths(items.flatten(), lengths, None if time is None else time.flatten())


def log(count: int, seed: int) -> pl.DataFrame:
    """As a log."""
    items, time = walks(count, seed)
    user = torch.arange(count).repeat_interleave(LENGTH)
    columns = {"user_id": user, "item_id": items.flatten(), "timestamp": time.flatten().long()}
    return pl.DataFrame({name: column.numpy() for name, column in columns.items()})
