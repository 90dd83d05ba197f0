"""Where each held-out item stands in the whole catalogue, and which items stand first.

`rank = 1 + #{score > target's} + #{ties} / 2` among the items that may be recommended. What
happens to items already in the history is a policy:

- `mask`: they are out, and a repeated target with them (a miss, rank +inf);
- `mask_except_target`: they are out, a repeated target is not;
- `allow`: nothing is out.

Shape suffixes: see `ragged.py`; here B is the cases of a batch, P pairs of a case and a seen item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from rsir.data.splits import Cases
from rsir.errors import ConfigError, DataError, ModelError
from rsir.models.base import Recommender, SequenceModel
from rsir.models.topk import rows_in_cache

SeenPolicy = Literal["mask", "mask_except_target", "allow"]
Progress = Callable[[int, int], None]
"""Called with the cases done and the cases in all."""


def ranks(
    model: Recommender,
    cases: Cases,
    seen: SeenPolicy = "mask",
    *,
    train_counts: Tensor | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The rank of each target: what early stopping needs; float64 (N,) on the CPU.

    Args:
        model: the recommender; a network is put in evaluation mode for the while.
        cases: histories and held-out targets.
        seen: what becomes of items already in the history.
        train_counts: int64 (V,), training events of each item; a target with 0 is cold, rank +inf.
        batch_size: cases scored at a time; one (batch_size, V) matrix of scores is held.
        device: where the model is; default the device of its parameters, else of the cases.
        progress: called with cases done and cases in all.

    Raises:
        DataError: if there are no cases.
        ModelError: if a score is not finite or the scores have a wrong shape.
    """
    rank, _ = ranks_and_lists(
        model,
        cases,
        seen,
        0,
        train_counts=train_counts,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    return rank


def top_items(scores_BV: Tensor, k: int) -> Tensor:
    """The k best items of each row, best first, equal scores by item index; int64 (B, min(k, V)).

    >>> top_items(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), 3).tolist()
    [[1, 3, 0]]
    """
    k = min(k, scores_BV.shape[1])
    best = scores_BV.topk(k)
    last_B1 = best.values[:, -1:]
    items = best.indices.sort(1).values
    tied = (scores_BV >= last_B1).sum(1, dtype=torch.int32) > k
    if tied.any():  # topk takes any of the items tied for the last places; take the first ones
        scores, last = scores_BV[tied], last_B1[tied]
        level = scores == last
        missing = k - (scores > last).sum(1, keepdim=True)
        keep = (scores > last) | (level & (level.cumsum(1, dtype=torch.int32) <= missing))
        items[tied] = keep.nonzero()[:, 1].view(-1, k)
    order = torch.argsort(scores_BV.gather(1, items), dim=1, descending=True, stable=True)
    return items.gather(1, order)


def ranks_and_lists(
    model: Recommender,
    cases: Cases,
    seen: SeenPolicy,
    num_listed: int,
    *,
    train_counts: Tensor | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """The ranks (N,), and the first `num_listed` items of each case; both on the CPU.

    Lists are int64 (N, min(num_listed, V)), best first, equal scores by item index, −1 where
    nothing is left to recommend. Arguments and errors as in `ranks`; if lists are wanted, a
    second (batch_size, V) matrix is held.
    """
    if len(cases) == 0:
        raise DataError("there are no cases to rank; the split held nothing out")
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; score at least 1 case at a time")
    place = _device_of(model, cases) if device is None else device
    rank = torch.empty(len(cases), dtype=torch.float64)
    lists = torch.empty((len(cases), min(num_listed, model.num_items)), dtype=torch.int64)
    done = 0
    with _evaluating(model):
        score = _scorer(model)
        for rows in torch.argsort(cases.histories.lengths, stable=True).split(batch_size):  # pads less
            batch = Cases(cases.histories.select(rows), cases.target[rows], cases.user[rows]).to(str(place))
            row_P, item_P = _masked_pairs(batch, seen, model.num_items)
            for part, scores_BV in score(batch):
                masked = _pairs_of(part, row_P, item_P)
                rank[rows[part].cpu()] = _rank(scores_BV, batch.target[part], *masked).cpu()
                if num_listed:
                    lists[rows[part].cpu()] = _list(scores_BV, *masked, num_listed).cpu()
            done += len(batch)
            if progress is not None:
                progress(done, len(cases))
    rank[_missed(cases, seen, train_counts)] = torch.inf
    return rank, lists


def repeated(cases: Cases) -> Tensor:
    """Which targets are already in their own history; bool (N,)."""
    row = cases.histories.row
    again = cases.histories.values == cases.target[row]
    return torch.bincount(row[again], minlength=len(cases)) > 0


def _missed(cases: Cases, seen: SeenPolicy, train_counts: Tensor | None) -> Tensor:
    """Which targets cannot be hit: masked ones, cold ones; bool (N,) on the CPU."""
    missed = repeated(cases).cpu() if seen == "mask" else torch.zeros(len(cases), dtype=torch.bool)
    return missed if train_counts is None else missed | (train_counts.cpu()[cases.target.cpu()] == 0)


def _device_of(model: Recommender, cases: Cases) -> torch.device:
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return cases.target.device if first is None else first.device


@contextmanager
def _evaluating(model: Recommender) -> Iterator[None]:
    """Evaluation mode without gradients; each module is then put back in the mode it was in.

    Not `inference_mode`: what is cached of the cases meanwhile may be trained with later.
    """
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    try:
        if isinstance(model, nn.Module):
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _scorer(model: Recommender) -> Callable[[Cases], Iterator[tuple[slice, Tensor]]]:
    """What scores a batch, some rows at a time."""
    if isinstance(model, SequenceModel):
        vectors_DV = model.item_vectors().T.contiguous()
        return lambda batch: _parts(model, vectors_DV, batch)
    return lambda batch: iter(
        [(slice(len(batch)), _checked(model, model.score(batch.histories), len(batch)))]
    )


def _parts(model: SequenceModel, vectors_DV: Tensor, batch: Cases) -> Iterator[tuple[slice, Tensor]]:
    """Scores of a few rows at a time: on a CPU they stay in cache while ranks are counted."""
    states = model.encode_last(batch.histories)
    rows = rows_in_cache(states, vectors_DV.shape[1])
    for start in range(0, len(batch), rows):
        part = slice(start, min(start + rows, len(batch)))
        scores_BV = (states[part] @ vectors_DV).float()
        yield part, _checked(model, scores_BV, part.stop - part.start)


def _checked(model: Recommender, scores_BV: Tensor, rows: int) -> Tensor:
    expected = (rows, model.num_items)
    if scores_BV.shape != expected:
        raise ModelError(f"{type(model).__name__}.score gave shape {tuple(scores_BV.shape)}, not {expected}")
    low, high = torch.aminmax(scores_BV)  # NaN if any score is: one pass, no temporary
    if not (torch.isfinite(low) & torch.isfinite(high)):
        raise ModelError(
            f"{type(model).__name__} gave a non-finite score; a rank among such scores means nothing"
        )
    return scores_BV


def _pairs_of(part: slice, row_P: Tensor, item_P: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs, ascending by row, of some rows, which are then counted from 0."""
    first, last = torch.searchsorted(row_P, row_P.new_tensor([part.start or 0, part.stop])).tolist()
    return row_P[first:last] - (part.start or 0), item_P[first:last]


def _masked_pairs(batch: Cases, seen: SeenPolicy, num_items: int) -> tuple[Tensor, Tensor]:
    """The items that must not be recommended: row (P,) and item (P,), each pair once."""
    if seen == "allow":
        return batch.target[:0], batch.target[:0]
    pairs = torch.unique(batch.histories.row * num_items + batch.histories.values)
    row, item = pairs // num_items, pairs % num_items
    if seen == "mask_except_target":
        keep = item != batch.target[row]
        row, item = row[keep], item[keep]
    return row, item


def _rank(scores_BV: Tensor, target_B: Tensor, row_P: Tensor, item_P: Tensor) -> Tensor:
    """Tie-aware rank of the target; float64 (B,). Masked items are taken off the counts afterwards."""
    goal_B1 = scores_BV.gather(1, target_B[:, None])
    # int32 sums: eight times as fast as the default int64 on a CPU
    higher = (scores_BV > goal_B1).sum(1, dtype=torch.int32)
    level = (scores_BV >= goal_B1).sum(1, dtype=torch.int32) - higher - 1
    seen, goal = scores_BV[row_P, item_P], goal_B1[row_P, 0]
    masked_higher = torch.bincount(row_P[seen > goal], minlength=len(target_B))
    masked_level = torch.bincount(row_P[seen == goal], minlength=len(target_B))
    return 1 + (higher - masked_higher) + (level - masked_level).double() / 2


def _list(scores_BV: Tensor, row_P: Tensor, item_P: Tensor, k: int) -> Tensor:
    """The k best items that may be recommended, −1 where none is left; int64 (B, min(k, V))."""
    masked = scores_BV.clone(memory_format=torch.contiguous_format)
    masked[row_P, item_P] = -torch.inf
    items = top_items(masked, k)
    return items.masked_fill(masked.gather(1, items) == -torch.inf, -1)
