"""Earlier items before the first one of short histories, by a model of reversed sequences.

A short history says little of its user. ASReP (Liu et al., SIGIR 2021, arXiv 2105.00522) lets a network that
was trained on reversed sequences write what may have come before. Here that is one more synthetic sequence:
the written items, then the whole source. It counts as a rollout's step does: those who judge rollouts must
rank the source's first item within τ behind the items put before it.

Shape suffixes: P prefixes of one length L, R sequences, E earlier items of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from rsir.acquire import Admission, RetainAll
from rsir.config import Config
from rsir.data.fronts import seen
from rsir.data.rollouts import Rollouts, StopReason
from rsir.data.sequences import OBSERVED, Sequences
from rsir.data.splits import Cases
from rsir.fidelity import RankFidelity
from rsir.generate import GenerationConfig
from rsir.models.base import Recommender, SequenceModel
from rsir.models.scorers import Past, PrefixScorer, scorer_for
from rsir.models.sought import Sought
from rsir.models.workers import side_by_side, undivided
from rsir.ragged import Ragged

_ROWS = 8192
"""Sources that are read at a time."""


def backwards(data: Sequences) -> Sequences:
    """What a model of reversed sequences is trained on: each from its end to its start, without times.

    >>> backwards(Sequences.observed(Ragged.from_lists([[4, 5, 6], [7]]), 8)).events.tolists()
    [[6, 5, 4], [7]]
    """
    return Sequences.observed(data.events.reversed(), data.num_items, data.user)


def backward_cases(cases: Cases) -> Cases:
    """What it is judged by: after the held-out item alone, which item came before? It was trained on neither.

    >>> cases = Cases(Ragged.from_lists([[4, 5]]), torch.tensor([6]), torch.tensor([0]))
    >>> asked = backward_cases(cases)
    >>> asked.histories.tolists(), asked.target.tolist()
    ([[6]], [5])
    """
    ones = torch.ones_like(cases.target)
    return Cases(
        Ragged.from_lengths(cases.target, ones), cases.histories.values[cases.histories.last], cases.user
    )


def earlier_items(
    writer: Recommender,
    judge: Recommender,
    sources: Sequences,
    config: GenerationConfig,
    *,
    number: int,
    longest: int,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rollouts:
    """Put the best unseen items, one at a time, before the first item of each short observed sequence.

    Nothing here is random, and for each `SequenceModel` the result is exact, as `generate`'s is.

    Args:
        writer: a model of reversed sequences.
        judge: who judges rollouts.
        sources: training data only.
        config: its fidelity control holds here, too.
        number: E ≥ 1, items put before each.
        longest: most events of a source.
        device: where to compute; default where the sources are.
        progress: called with (sources done, all that are short), by one thread at a time.

    Returns:
        The verified ones, as rollouts numbered m, the next after `generate`'s: E written items, then all of
        the source. `checks` has one entry: how many were judged, and how many held.
    """
    started, home = time.perf_counter(), sources.events.values.device
    where = torch.device(device) if device is not None else home
    data, among = sources.to(where), config.fidelity()
    parts = list(_of_one_length(data, longest, number))
    total = sum(map(len, parts))
    networks = isinstance(writer, SequenceModel) and isinstance(judge, SequenceModel)
    with undivided() if networks else nullcontext(1) as given:
        threads = given if where.type == "cpu" else 1
        write, check = (scorer_for(model, threads=threads, device=where) for model in (writer, judge))
        one_at_a_time, waiting = Lock(), [len(rows) for rows in parts]

        def of(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            written = _written(write, data.events, rows, number)
            rank = _rank(check, written, data.events.values[data.events.offsets[rows]], among)
            with one_at_a_time:
                waiting.remove(len(rows))
                if progress is not None:
                    progress(total - sum(waiting), total)
            return rows, written, rank

        found = side_by_side(of, parts, threads)
    nothing = torch.empty(0, dtype=torch.int64, device=where)
    found.append((nothing, nothing.view(0, number), nothing))
    rows, written, rank = (torch.cat(column).to(home) for column in zip(*found, strict=True))
    held = torch.ones_like(rows, dtype=torch.bool) if among is None else among.holds(rank)
    kept = held.nonzero().squeeze(1)[rows[held].argsort()]
    made = sources.select(rows[kept]), rows[kept], written[kept], rank[kept]
    return _record(*made, config, len(held), time.perf_counter() - started)


def admitted_earlier_items(
    writer: Recommender,
    judge: Recommender,
    data: Sequences,
    config: Config,
    *,
    round_index: int,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Rollouts, Admission, dict[str, Any]]:
    """`earlier_items` as the settings say, without sequences that `data` has already.

    Acquisition rules choose among the rollouts of a source; of these sequences it has one.

    Returns:
        What was verified, what of it is admitted, and the counts `histories`, `verified` and `admitted` with
        `seconds`.
    """
    rules, how = config.recursion, config.generation
    made = earlier_items(
        writer,
        judge,
        data,
        how,
        number=rules.earlier_items,
        longest=rules.earlier_longest,
        device=device,
        progress=progress,
    )
    rule = RetainAll(how.min_length, config.acquisition.scope)
    admission = rule.admit(made, data, seed=config.seed, round_index=round_index)
    (histories, verified), *_ = made.checks
    counts = {"histories": histories, "verified": verified, "admitted": len(admission.rows)}
    return made, admission, {**counts, "seconds": made.seconds}


def _of_one_length(data: Sequences, longest: int, number: int) -> Iterator[Tensor]:
    """Rows of observed sequences that are short, and leave enough items to put before them, by length."""
    lengths = data.events.lengths
    for length in range(1, min(longest, data.num_items - number) + 1):
        short = (lengths == length) & (data.round_index == OBSERVED)
        yield from (rows for rows in short.nonzero().squeeze(1).split(_ROWS) if len(rows))


def _written(scorer: PrefixScorer, events: Ragged, rows: Tensor, number: int) -> Tensor:
    """The items before each source, the oldest first; int64 (P, E)."""
    of_rows = events.select(rows).reversed()
    prefixes_PL, past = of_rows.values.view(len(rows), -1), None
    everyone = torch.arange(len(rows), device=rows.device)
    for _ in range(number):
        answers = scorer.ask(prefixes_PL, None, prefixes_PL.shape[1] + 1, past)
        unseen_PK = ~seen(prefixes_PL, answers.items)
        best_P1 = answers.items.gather(1, unseen_PK.to(torch.uint8).argmax(1, keepdim=True))
        prefixes_PL = torch.cat([prefixes_PL, best_P1], 1)
        past = None if answers.memory is None else Past(answers.memory, everyone)
    return prefixes_PL[:, -number:].flip(1)


def _rank(scorer: PrefixScorer, written_PE: Tensor, item_P: Tensor, among: RankFidelity | None) -> Tensor:
    """The rank of each item behind those put before it, as fidelity control counts; 0 without; int64 (P,)."""
    if among is None:
        return torch.zeros_like(item_P)
    everyone = torch.arange(len(item_P), device=item_P.device)
    sought = Sought(everyone, Ragged.from_lengths(item_P, torch.ones_like(item_P)))
    best = min(among.max_rank + written_PE.shape[1], scorer.num_items)
    items_PK = scorer.ask(written_PE, None, best, None, sought).items
    there_PK = items_PK == item_P[:, None]
    place = torch.where(there_PK.any(1), there_PK.to(torch.uint8).argmax(1), items_PK.shape[1])
    return among.best_rank(place, seen(written_PE, items_PK))


def _record(
    source: Sequences,
    rows: Tensor,
    written_RE: Tensor,
    rank: Tensor,
    config: GenerationConfig,
    judged: int,
    seconds: float,
) -> Rollouts:
    """Written items and then the source, as rollouts."""
    number = written_RE.shape[1]
    lengths = source.events.lengths + number
    values = torch.empty(int(lengths.sum()), dtype=torch.int64, device=rows.device)
    events = Ragged.from_lengths(values, lengths)
    own = events.position >= number
    values[~own], values[own] = written_RE.flatten(), source.events.values
    along = torch.zeros_like(values)
    along[events.offsets[:-1] + number] = rank
    return Rollouts(
        events=events,
        num_items=source.num_items,
        source=rows,
        rollout=torch.full_like(rows, config.num_rollouts),
        user=source.user,
        stop_reason=torch.full_like(rows, StopReason.EXHAUSTED, dtype=torch.uint8),
        rank=along,
        own=own,
        min_length=config.min_length,
        checks=((judged, len(rows)),),
        distinct_prefixes=judged,
        seconds=seconds,
    )
