"""What generation made: acceptance, stop reasons, leakage of simulated users, examples."""

from __future__ import annotations

from itertools import accumulate

import polars as pl
import torch
from torch import Tensor

from rsir.data.truth import Truth
from rsir.report.blocks import (
    BarPanel,
    Colour,
    Example,
    Examples,
    Figure,
    LinePanel,
    Section,
    Series,
    Step,
    Table,
    Text,
)
from rsir.report.numbers import count, plain, share
from rsir.report.view import View

STOPS: dict[str, tuple[str, Colour]] = {
    "exhausted": ("exhausted: all own items used", "sky"),
    "low_fidelity": ("low fidelity: a check failed", "amber"),
    "max_length": ("maximal length", "purple"),
}
OUTCOMES: dict[str, tuple[str, Colour]] = {
    "admitted": ("admitted", "synthetic"),
    "too_short": ("too short", "pale"),
    "known": ("already in the data", "sky"),
    "duplicate": ("duplicate", "purple"),
}
SHOWN_EXAMPLES, SHOWN_ITEMS, FEWEST_CHECKS = 6, 16, 100


def acceptance_section(view: View) -> Section | None:
    """What became of the rollouts of each round, and how many steps held."""
    if not view.generations:
        return None
    generations = view.generations
    stops = {k: facts["stop_reasons"] for k, facts in generations.items()}
    outcomes = {k: facts["admission"] for k, facts in generations.items()}
    other: dict[str, tuple[str, Colour]] = {
        name: (name.replace("_", " "), "amber") for counts in outcomes.values() for name in counts
    }
    named = {**other, **OUTCOMES}
    blocks = (
        Figure(
            (_bars("What became of the rollouts", outcomes, named),),
            _count_table(outcomes, named, "rollouts"),
            legend=_legend(outcomes, named),
        ),
        Figure(
            (_bars("Why rollouts ended", stops, STOPS),),
            _count_table(stops, STOPS, "rollouts"),
            legend=_legend(stops, STOPS),
        ),
        _pass_rates(view),
    )
    return Section("Acceptance and stop reasons", blocks)


def _bars(title: str, counts: dict[int, dict[str, int]], named: dict[str, tuple[str, Colour]]) -> BarPanel:
    """Shares of rollouts by outcome, a bar a round."""
    totals = {k: max(1, sum(row.values())) for k, row in counts.items()}
    parts = tuple(
        (colour, tuple(row.get(name, 0) / totals[k] for k, row in counts.items()))
        for name, (_, colour) in named.items()
    )
    return BarPanel(title, "share of rollouts", tuple(f"round {k}" for k in counts), parts)


def _legend(
    counts: dict[int, dict[str, int]], named: dict[str, tuple[str, Colour]]
) -> tuple[tuple[str, Colour, float], ...]:
    used = {name for row in counts.values() for name in row}
    return tuple((text, colour, 1.0) for name, (text, colour) in named.items() if name in used)


def _count_table(
    counts: dict[int, dict[str, int]], named: dict[str, tuple[str, Colour]], total: str
) -> Table:
    """Counts with their shares."""
    used = [name for name in named if any(name in row for row in counts.values())]
    columns = ("round", total, *(named[name][0].partition(":")[0] for name in used))
    rows = tuple(
        (f"round {k}", count(all_of), *(_part(row.get(name, 0), all_of) for name in used))
        for k, row in counts.items()
        for all_of in (sum(row.values()),)
    )
    return Table(columns, rows)


def _part(number: int, total: int) -> str:
    return f"{count(number)} ({share(number / max(1, total))})"


def _pass_rates(view: View) -> Figure:
    """Share of checks that held, by step."""
    kept = {k: _well_counted(facts) for k, facts in view.generations.items()}
    fade = {k: 0.45 + 0.55 * place / max(1, len(kept) - 1) for place, k in enumerate(kept)}
    fade = fade if len(kept) > 1 else dict.fromkeys(kept, 1.0)
    series = tuple(
        Series("rounds", tuple(float(t) for t in range(1, len(rates) + 1)), tuple(rates), opacity=fade[k])
        for k, rates in kept.items()
    )
    panel = LinePanel("Pass rate by step", "step", series, whole_x=True, percent=True)
    columns = (
        "round",
        "steps",
        "distinct prefixes",
        "from own items",
        "mean length",
        *(f"step {t}" for t in range(1, 7)),
    )
    rows = tuple(
        (
            f"round {k}",
            count(facts["steps"]),
            count(facts["distinct_prefixes"]),
            share(facts["own_share"]),
            plain(facts["mean_length"]),
            *(share(rate) for rate in [*facts["pass_rate_by_step"][:6], *[None] * 6][:6]),
        )
        for k, facts in view.generations.items()
    )
    legend = tuple((f"round {k}", "rounds", fade[k]) for k in kept)
    note = f"Steps that fewer than about {FEWEST_CHECKS} rollouts reached are not drawn."
    return Figure((panel,), Table(columns, rows), legend=legend, note=note)  # type: ignore[arg-type]


def _well_counted(facts: dict[str, list[float]]) -> list[float]:
    """Pass rates of the steps that enough rollouts reached."""
    rates = facts["pass_rate_by_step"]
    reached = accumulate(rates, lambda alive, rate: alive * rate, initial=float(facts["rollouts"]))  # type: ignore[arg-type]
    return [rate for rate, alive in zip(rates, reached, strict=False) if alive >= FEWEST_CHECKS]


def leakage_section(view: View) -> Section | None:
    """On simulated users: how much of what was generated is off the true preferences."""
    known = {k: facts["leakage"] for k, facts in view.generations.items() if "leakage" in facts}
    if not known:
        return None
    rounds = tuple(float(k) for k in known)
    lines: tuple[tuple[str, Colour, str], ...] = (
        ("synthetic", "synthetic", "generated items"),
        ("observed", "base", "observed events"),
        ("uniform", "pale", "items drawn uniformly"),
    )
    series = tuple(
        Series(colour, rounds, tuple(row[key] for row in known.values())) for key, colour, _ in lines
    )
    panel = LinePanel("Leakage by round", "round", series, whole_x=True, percent=True, from_zero=True)
    rows = tuple((f"round {k}", *(share(row[key]) for key, _, _ in lines)) for k, row in known.items())
    table = Table(("round", *(text for *_, text in lines)), rows)
    intro = (
        "The users are simulated, so their true preferences are known. Leakage is the share of items outside "
        "the smallest set that holds 95 % of the user's true preference; observed events leak by noise and "
        "drift."
    )
    legend = tuple((text, colour, 1.0) for _, colour, text in lines)
    return Section("Leakage off the true preferences", (Text(intro), Figure((panel,), table, legend)))


def examples_section(view: View) -> Section | None:
    """Some rollouts beside their source, chosen to differ: the same ones every time."""
    last = view.shown or max(view.generations, default=0)
    if last not in view.synthetic or not len(view.synthetic[last]):
        return None
    rows = _varied(view.synthetic[last]).to_dicts()
    examples = Examples(tuple(_example(view, row) for row in rows))
    text = (
        f"Admitted rollouts of round {last}, picked to differ in stop reason and exploration. The number "
        "beside an item is the best rank of a remaining own item at the check that let it in."
    )
    return Section("Rollouts beside their source", (Text(text), examples))


def _varied(frame: pl.DataFrame) -> pl.DataFrame:
    """A few rows, one a user, spread over stop reasons and shares of explored items."""
    explored = frame["own"].list.eval(~pl.element()).list.sum()
    one_each = frame.with_columns(explored=explored, length=frame["items"].list.len()).unique(
        "user", keep="first", maintain_order=True
    )
    groups = one_each.sort("stop_reason", "explored", "length", maintain_order=True).partition_by(
        "stop_reason", maintain_order=True
    )
    picked, left = [], SHOWN_EXAMPLES
    for place, group in enumerate(sorted(groups, key=len)):
        wanted = min(len(group), -(-left // (len(groups) - place)))
        spots = torch.linspace(0, len(group) - 1, wanted).round().long()
        picked.append(group[spots.tolist()])
        left -= wanted
    return pl.concat(picked)


def _example(view: View, row: dict[str, list[str]]) -> Example:
    source = _source_items(view, int(row["round"]), int(row["source"]))  # type: ignore[call-overload]
    leaked = _leaked(view.truth, row) if view.truth is not None else [False] * len(row["items"])
    along = zip(row["items"], row["rank"], leaked, strict=True)
    steps = [Step(str(item), int(rank), str(item) in source, leak) for item, rank, leak in along]
    return Example(
        user=str(row["user"]),
        round_index=int(row["round"]),  # type: ignore[call-overload]
        stop_reason=str(row["stop_reason"]).replace("_", " "),
        source=tuple(source[:SHOWN_ITEMS]),
        source_cut=max(0, len(source) - SHOWN_ITEMS),
        steps=tuple(steps[:SHOWN_ITEMS]),
        steps_cut=max(0, len(steps) - SHOWN_ITEMS),
    )


def _source_items(view: View, round_index: int, source: int) -> list[str]:
    """The sequence a rollout was generated from: observed rows first, then the rounds before."""
    train = view.split.train
    if source < len(train):
        low, high = train.events.offsets[source : source + 2].tolist()
        return [str(item) for item in view.interactions.items.ids_of(train.events.values[low:high]).to_list()]
    earlier = pl.concat([view.synthetic[k] for k in range(1, round_index)])
    return [str(item) for item in earlier["items"][source - len(train)].to_list()]


def _leaked(truth: Truth, row: dict[str, list[str]]) -> list[bool]:
    user: Tensor = truth.user_indices([str(row["user"])] * len(row["items"]))
    return [bool(x) for x in truth.leakage(user, truth.item_indices(row["items"])).tolist()]
