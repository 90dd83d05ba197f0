"""Where each held-out item stands in the whole catalogue, and which items stand first.

`rank = 1 + #{score > target's} + #{ties} / 2` among the items that may be recommended. What
happens to items already in the history is a policy:

- `mask`: they are out, and a repeated target with them (a miss, rank +inf);
- `mask_except_target`: they are out, a repeated target is not;
- `allow`: nothing is out.

Shape suffixes: see `ragged.py`; here B is the cases of a batch, P events of their histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rsir.compiled import loops
from rsir.data.splits import Cases
from rsir.errors import ConfigError, DataError, ModelError
from rsir.models.base import Recommender, SequenceModel
from rsir.models.topk import rows_in_cache

_GPU_CASES, _GPU_SCORES, _GPU_PLACES = 4096, 1 << 28, 1 << 18
"""Most cases of a batch on a GPU, scores, and places of padded histories."""
SeenPolicy = Literal["mask", "mask_except_target", "allow"]
Progress = Callable[[int, int], None]
"""Called with the cases done and the cases in all."""


def ranks(
    model: Recommender,
    cases: Cases,
    seen: SeenPolicy = "mask",
    *,
    train_counts: Tensor | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The rank of each target: what early stopping needs; float64 (N,) on the CPU.

    Args:
        model: the recommender; a network is put in evaluation mode for the while.
        cases: histories and held-out targets.
        seen: what becomes of items already in the history.
        train_counts: int64 (V,), training events of each item; a target with 0 is cold, rank +inf.
        batch_size: cases scored at a time; one (batch_size, V) matrix of scores is held. Default 256, for
            a `SequenceModel` on a GPU up to 4,096 if their scores take no more than a gigabyte.
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
    batch_size: int | None = None,
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
    place = _device_of(model, cases) if device is None else device
    if batch_size is None:
        batch_size = _cases_at_once(model, place)
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; score at least 1 case at a time")
    ordered, order = cases.shortest_first(str(place))
    found, listed, check = list[Tensor](), list[Tensor](), _Check(model)
    with _evaluating(model):
        score = _scorer(model, check)
        for start in range(0, len(cases), batch_size):
            batch = ordered.span(start, min(start + batch_size, len(cases)))
            seen_P = _Seen.of(batch, seen, model.num_items)
            for part, scores_BV in score(batch):
                masked = seen_P.part(part)
                found.append(_rank(scores_BV, batch.target[part], masked, check))
                if num_listed:
                    listed.append(_list(scores_BV, masked, num_listed))
            if progress is not None:
                progress(start + len(batch), len(cases))
    check.end()
    rank, lists = (_back(parts, order.cpu()) for parts in (found, listed))
    rank[_missed(cases, seen, train_counts)] = torch.inf
    return rank, lists


def _cases_at_once(model: Recommender, device: torch.device | str) -> int:
    """How many cases to score at a time: a GPU is kept busy by more."""
    if torch.device(device).type != "cuda" or not isinstance(model, SequenceModel):
        return 256
    return max(256, min(_GPU_CASES, _GPU_SCORES // model.num_items, _GPU_PLACES // model.max_length))


def _back(parts: list[Tensor], order: Tensor) -> Tensor:
    """What was found of the cases in the order taken, in their own; on the CPU, moved there at once."""
    if not parts:
        return torch.empty((len(order), 0), dtype=torch.int64)
    taken = torch.cat(parts).cpu()
    return torch.empty_like(taken).index_copy_(0, order, taken)


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


class _Check:
    """Refuses scores of a wrong shape at once, and those that are not finite: a GPU is asked at the end."""

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self.finite = list[Tensor]()

    def shape(self, scores_BV: Tensor, rows: int) -> Tensor:
        """The scores, if their shape is right."""
        name, expected = type(self.model).__name__, (rows, self.model.num_items)
        if scores_BV.shape != expected:
            raise ModelError(f"{name}.score gave shape {tuple(scores_BV.shape)}, not {expected}")
        return scores_BV

    def see(self, finite: Tensor) -> None:
        """Whether some scores are finite; bool ()."""
        self.finite.append(finite)
        if not finite.is_cuda:
            self.end()

    def end(self) -> None:
        """Look at what was not looked at yet."""
        if self.finite and not torch.stack(self.finite).all():
            raise ModelError(
                f"{type(self.model).__name__} gave a non-finite score; a rank among such scores means nothing"
            )
        self.finite = []


def _scorer(model: Recommender, check: _Check) -> Callable[[Cases], Iterator[tuple[slice, Tensor]]]:
    """What scores a batch, some rows at a time."""
    if isinstance(model, SequenceModel):
        vectors_DV = model.item_vectors().T.contiguous()
        return lambda batch: _parts(model, vectors_DV, batch, check)
    return lambda batch: iter([(slice(0, len(batch)), check.shape(model.score(batch.histories), len(batch)))])


def _parts(
    model: SequenceModel, vectors_DV: Tensor, batch: Cases, check: _Check
) -> Iterator[tuple[slice, Tensor]]:
    """Scores of a few rows at a time: on a CPU they stay in cache while ranks are counted."""
    states = model.encode_last(batch.histories)
    rows = rows_in_cache(states, vectors_DV.shape[1])
    for start in range(0, len(batch), rows):
        part = slice(start, min(start + rows, len(batch)))
        scores_BV = (states[part] @ vectors_DV).float()
        yield part, check.shape(scores_BV, part.stop - part.start)


@dataclass(frozen=True)
class _Seen:
    """The events of histories as pairs of a case and an item, ascending; a GPU is never asked how many.

    Attributes:
        row: int64 (P,), the case of each.
        item: int64 (P,).
        barred: bool (P,), whether it must not be recommended.
        counts: bool (P,), whether it is barred and the first of its pair.
        ends: int64 (B + 1,) on the CPU, where each case begins and the last ends.
    """

    row: Tensor
    item: Tensor
    barred: Tensor
    counts: Tensor
    ends: Tensor

    @classmethod
    def of(cls, batch: Cases, seen: SeenPolicy, num_items: int) -> _Seen:
        """What the policy says of the cases of a batch."""
        histories = batch.histories
        if seen == "allow":
            none = histories.values[:0]
            ends = torch.zeros_like(histories.host_offsets)
            return cls(none, none, none.bool(), none.bool(), ends)
        pair = (histories.row * num_items + histories.values).sort().values
        row, item = histories.row, pair % num_items
        barred = item != batch.target[row] if seen == "mask_except_target" else torch.ones_like(row).bool()
        first = torch.ones_like(barred)
        torch.ne(pair[1:], pair[:-1], out=first[1:])
        return cls(row, item, barred, barred & first, histories.host_offsets)

    def part(self, part: slice) -> _Seen:
        """The pairs of some cases, which are then counted from 0."""
        ends = self.ends[part.start : part.stop + 1]
        pairs = slice(int(ends[0]), int(ends[-1]))
        row = self.row[pairs] - part.start
        return _Seen(row, self.item[pairs], self.barred[pairs], self.counts[pairs], ends - ends[0])


def _standing(scores_BV: Tensor, goal_B1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many scores are higher than the goal, how many level, int32 (B,) each; whether all are finite."""
    standing = loops("rsir.models.standing") if scores_BV.is_cpu else None
    if standing is None or scores_BV.dtype != torch.float32 or not scores_BV.is_contiguous():
        # int32 sums: eight times as fast as the default int64 on a CPU
        higher = (scores_BV > goal_B1).sum(1, dtype=torch.int32)
        level = (scores_BV >= goal_B1).sum(1, dtype=torch.int32) - higher - 1
        low, high = torch.aminmax(scores_BV)  # NaN if any score is: one pass, no temporary
        return higher, level, torch.isfinite(low) & torch.isfinite(high)
    higher, level = torch.empty(2, len(scores_BV), dtype=torch.int32)
    scores, goal = scores_BV.numpy(), goal_B1[:, 0].contiguous().numpy()
    wrong = standing.count(scores, scores.view("int32"), goal, higher.numpy(), level.numpy())
    return higher, level, torch.tensor(wrong == 0)


def _rank(scores_BV: Tensor, target_B: Tensor, seen: _Seen, check: _Check) -> Tensor:
    """Tie-aware rank of the target; float64 (B,). Masked items are taken off the counts afterwards."""
    goal_B1 = scores_BV.gather(1, target_B[:, None])
    higher, level, finite = _standing(scores_BV, goal_B1)
    check.see(finite)
    score_P, goal_P = scores_BV[seen.row, seen.item], goal_B1[seen.row, 0]
    none = torch.zeros_like(target_B)
    masked_higher = none.index_add(0, seen.row, ((score_P > goal_P) & seen.counts).long())
    masked_level = none.index_add(0, seen.row, ((score_P == goal_P) & seen.counts).long())
    return 1 + (higher - masked_higher) + (level - masked_level).double() / 2


def _list(scores_BV: Tensor, seen: _Seen, k: int) -> Tensor:
    """The k best items that may be recommended, −1 where none is left; int64 (B, min(k, V))."""
    masked = scores_BV.clone(memory_format=torch.contiguous_format)
    score_P = masked[seen.row, seen.item].masked_fill(seen.barred, -torch.inf)
    masked[seen.row, seen.item] = score_P
    items = top_items(masked, k)
    return items.masked_fill(masked.gather(1, items) == -torch.inf, -1)
