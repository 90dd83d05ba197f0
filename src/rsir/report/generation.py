"""What generation made: acceptance, stop reasons, leakage of simulated users."""

from __future__ import annotations

from itertools import accumulate

from rsir.report.blocks import (
    BarPanel,
    Colour,
    Figure,
    LinePanel,
    Section,
    Series,
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
FEWEST_CHECKS = 100


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
        *_earlier(view),
    )
    return Section("Acceptance and stop reasons", blocks)


def _earlier(view: View) -> tuple[Text | Table, ...]:
    """What came of earlier items before short histories."""
    made = {k: facts["earlier"] for k, facts in view.generations.items() if "earlier" in facts}
    if not made:
        return ()
    rules = view.config.recursion
    text = (
        f"Before histories of up to {rules.earlier_longest} events a model of reversed sequences put "
        f"{rules.earlier_items} earlier items; they count where the first real item ranks within τ."
    )
    rows = tuple(
        (
            f"round {k}",
            count(row["histories"]),
            _part(row["verified"], row["histories"]),
            count(row["admitted"]),
        )
        for k, row in made.items()
    )
    return Text(text), Table(("round", "short histories", "verified", "admitted"), rows)


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
