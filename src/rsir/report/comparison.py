"""The comparison of runs as a page: the answer first, then every figure, with the look of a run's report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rsir.errors import ConfigError
from rsir.files import write_json, write_text
from rsir.report.blocks import Answer, Code, Document, Figure, IntervalPanel, Listing, Section, Table, Text
from rsir.report.closing import SEEN
from rsir.report.html import to_html
from rsir.report.markdown import to_markdown
from rsir.report.numbers import GROWTH_COLUMNS, NONE, count, figure, gain, growth_cells, share, signed
from rsir.report.verdict import PARTS, describe_comparison, headline, label, verdict

BUCKET_TITLES = {"history_length": "By history length", "target_count": "By popularity of the target"}
FORMATS = (".html", ".md", ".json")


def check_comparison_suffix(path: Path) -> str:
    """The form a file name asks for.

    Raises:
        ConfigError: if it is none of `FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path} must end in one of {', '.join(FORMATS)}")
    return path.suffix


def write_comparison(path: Path, compared: dict[str, Any]) -> None:
    """Write a comparison (`evidence.compare.compare_runs`) as HTML, Markdown or JSON."""
    suffix = check_comparison_suffix(path)
    if suffix == ".json":
        write_json(path, compared)
    else:
        document = compose_comparison(compared)
        write_text(path, to_html(document) if suffix == ".html" else to_markdown(document))


def compose_comparison(compared: dict[str, Any]) -> Document:
    """Everything the page says."""
    protocol = compared["protocol"]
    sections = [
        _figures(compared),
        *_growth(compared),
        *_buckets(compared),
        _arms(compared),
        _protocol(compared),
        _again(compared),
    ]
    runs = sum(len(arm["runs"]) for arm in compared["arms"])
    part = PARTS[protocol["part"]]
    users = next(iter(compared["metrics"].values()))["users"]
    return Document(
        title=_title(compared),
        subtitle=f"{runs} run{'s' * (runs > 1)} · {part} · {count(users)} users · "
        f"data {protocol['fingerprint'][:12]}",
        answer=comparison_answer(compared),
        sections=tuple(sections),
    )


def _title(compared: dict[str, Any]) -> str:
    """The comparison that answers; of one arm, with its name."""
    told = " against ".join(_sides(_answering(compared)))
    return told if compared["protocol"]["how"] == "between" else f"{compared['arms'][0]['name']}: {told}"


def _answering(compared: dict[str, Any]) -> dict[str, Any]:
    """The first comparison, by round the last."""
    found: dict[str, Any] = compared["comparisons"][-1 if compared["protocol"]["how"] == "by_round" else 0]
    return found


def comparison_answer(compared: dict[str, Any]) -> Answer:
    """The comparison that answers in a sentence, by its first metric after Holm, and how gains grew."""
    first, names = _answering(compared), list(compared["metrics"])
    lead = _lead(names)
    record = first["metrics"][lead[0]]
    kind = verdict(record) if record["p_holm"] < 1 - record["level"] else "unclear"
    b, a = _sides(first)
    titles = {
        "helped": f"{b} is better than {a}.",
        "unclear": f"No clear difference between {b} and {a}.",
        "hurt": f"{b} is worse than {a}.",
    }
    part = PARTS[compared["protocol"]["part"]]
    lines = [
        describe_comparison(name, {**first["metrics"][name], "cases": first["metrics"][name]["users"]}, part)
        for name in lead
    ]
    figures = tuple(headline(name, first["metrics"][name]) for name in lead)
    return Answer(kind, titles[kind], figures, (*lines, *_growth_lines(compared, lead), *compared["notes"]))


def _growth_lines(compared: dict[str, Any], names: list[str]) -> list[str]:
    """One sentence for each round after the first."""
    told = []
    for step in compared["growth"]:
        of_metric = []
        for name in names:
            before, after, grown, interval = growth_cells(step["metrics"][name])
            of_metric.append(f"{label(name)} from {before} to {after}, {grown} ({interval})")
        told.append(f"Gain of round {step['after']} after round {step['before']}: {'; '.join(of_metric)}.")
    return told


def _lead(names: list[str]) -> list[str]:
    """NDCG and recall at 10 where they are measured, else the first two metrics."""
    return [name for name in ("ndcg@10", "recall@10") if name in names] or names[:2]


def _sides(comparison: dict[str, Any]) -> tuple[str, str]:
    return comparison["b"], comparison["a"]


def _figures(compared: dict[str, Any]) -> Section:
    """Every metric of every comparison, drawn and in full."""
    panels = tuple(
        IntervalPanel(
            f"{c['b']} against {c['a']}",
            "difference",
            tuple(map(label, c["metrics"])),
            *(
                tuple(record[key] for record in c["metrics"].values())
                for key in ("difference", "low", "high")
            ),
        )
        for c in compared["comparisons"]
    )
    columns = (
        "comparison",
        "metric",
        "reference",
        "other",
        "difference",
        "interval",
        "relative",
        "p",
        "p, Holm",
    )
    rows = tuple(
        (f"{c['b']} against {c['a']}", label(name), *comparison_cells(record))
        for c in compared["comparisons"]
        for name, record in c["metrics"].items()
    )
    record = next(iter(compared["metrics"].values()))
    note = (
        f"Paired bootstrap, seeds outside and users inside, {count(record['num_samples'])} samples, "
        f"{share(record['level'], 0)} percentile intervals; Holm over the {len(rows)} comparisons of "
        "this table. Blue or orange where an interval leaves zero."
    )
    return Section("Comparisons", (Figure(panels, Table(columns, rows, frozenset({0, 1})), note=note),))


def comparison_cells(record: dict[str, Any]) -> tuple[str, ...]:
    """Means, difference, interval, relative difference, p and p after Holm."""
    interval = NONE if record["low"] is None else f"{signed(record['low'])} to {signed(record['high'])}"
    return (
        figure(record["mean_a"]),
        figure(record["mean_b"]),
        signed(record["difference"]),
        interval,
        gain(record["relative"]),
        figure(record["p"]),
        figure(record["p_holm"]),
    )


def _growth(compared: dict[str, Any]) -> list[Section]:
    """Whether gains grow from round to round; nothing where they were not asked for or there is one round."""
    if not (steps := compared["growth"]):
        return []
    columns = ("round", *GROWTH_COLUMNS, "p", "p, Holm")
    rows = tuple(
        (
            f"{s['after']} after {s['before']}",
            label(name),
            *growth_cells(r),
            figure(r["p"]),
            figure(r["p_holm"]),
        )
        for s in steps
        for name, r in s["metrics"].items()
    )
    note = "Relative gains, each of a round over its own control; the four models are drawn together. "
    note += f"Holm over the {len(rows)} rows of this table."
    return [Section("Do gains grow?", (Table(columns, rows, wide=frozenset({0, 1})), Text(note, quiet=True)))]


def _buckets(compared: dict[str, Any]) -> list[Section]:
    """Where the differences of each comparison fall."""
    sections = []
    for c in compared["comparisons"]:
        blocks: list[Text | Figure] = []
        for by, title in BUCKET_TITLES.items():
            metric = next(iter(c[f"by_{by}"][0]["metrics"]))
            blocks.append(_bucket_figure(f"{title}, {label(metric)}", c[f"by_{by}"], metric))
        intro = (
            "Buckets of fewer than 20 users have no interval. Holm over the buckets and metrics of one cut; "
            "the buckets say where a difference falls, not whether there is one."
        )
        sections.append(
            Section(f"Where differences fall: {c['b']} against {c['a']}", (Text(intro, quiet=True), *blocks))
        )
    return sections


def _bucket_figure(title: str, buckets: list[dict[str, Any]], metric: str) -> Figure:
    drawn = [row for row in buckets if row["metrics"][metric]["low"] is not None]
    middle, low, high = (
        tuple(row["metrics"][metric][key] for row in drawn) for key in ("difference", "low", "high")
    )
    labels = tuple(f"{row['bucket']}  ({count(row['users'])})" for row in drawn)
    panel = IntervalPanel(title, f"difference of {label(metric)}", labels, middle, low, high)
    columns = (
        "bucket", "users", "metric", "reference", "other", "difference", "interval", "relative",
        "p", "p, Holm",
    )  # fmt: skip
    rows = tuple(
        (row["bucket"], count(row["users"]), label(name), *comparison_cells(record))
        for row in buckets
        for name, record in row["metrics"].items()
    )
    return Figure((panel,), Table(columns, rows, frozenset({0, 2})), folded=True)


def _arms(compared: dict[str, Any]) -> Section:
    """Each arm beside its own base and controls, and what it differs in."""
    names = list(compared["arms"][0]["figures"]["base"])
    rows = tuple(
        (arm["name"], model, ", ".join(map(str, arm["seeds"])), *(figure(values[name]) for name in names))
        for arm in compared["arms"]
        for model, values in arm["figures"].items()
    )
    table = Table(("arm", "model", "seeds", *map(label, names)), rows, wide=frozenset({0, 1, 2}))
    lines = tuple(
        f"{arm['name']}: " + ", ".join(f"{name} = {value}" for name, value in arm["settings"].items())
        for arm in compared["arms"]
        if arm["settings"]
    )
    text = "Means over seeds. What the synthetic data of an arm adds is its round against its own control."
    return Section("Arms", (table, Text(text, quiet=True), *([Listing(lines)] if lines else [])))


def _protocol(compared: dict[str, Any]) -> Section:
    p = compared["protocol"]
    rows = (
        ("data (SHA-256)", p["fingerprint"]),
        ("split", f"{p['split']}, {PARTS[p['part']]} cases"),
        ("seen items", SEEN[p["seen"]]),
        ("cutoffs", ", ".join(map(str, p["cutoffs"]))),
        ("model", f"{p['round']} round" if not p["round"].isdecimal() else f"round {p['round']}"),
    )
    return Section("Protocol", (Table(("what", "how"), rows, wide=frozenset({0, 1})),))


def _again(compared: dict[str, Any]) -> Section:
    p = compared["protocol"]
    runs = [run for arm in compared["arms"] for run in arm["runs"]]
    flags = [] if p["how"] == "between" else [f"--{p['how'].replace('_', '-')}"]
    flags += ["--round", p["round"]] if p["round"] != "chosen" else []
    usual = "valid" if p["how"] == "by_round" else "test"
    flags += ["--split", p["part"]] if p["part"] != usual else []
    return Section("How to make it again", (Code(shlex.join(["rsir", "compare", *runs, *flags])),))
