"""Write the tables of docs/ anew from experiments/results/.

    python experiments/tables.py

`results/base.jsonl` comes from base.py; `results/runs/NAME.json` is what
`rsir run NAME.txt --out … --json` printed, with the environment of the run beside it;
`results/backbones/NAME.MODEL.SEED.json` comes from trained.py;
`results/successors*.jsonl` come from successors.py, `results/peers*.jsonl` from peers.py,
`results/price.jsonl` from price.py, `results/data_only.jsonl` from data_only.py.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

from rsir.evidence.significance import holm

HERE = Path(__file__).parent
DOCUMENTS = tuple(
    HERE.parent / name
    for name in ("docs/base.md", "docs/models.md", "docs/what-pays.md", "docs/benchmarks.md", "README.md")
)
PUBLISHED = {  # Recall@10, NDCG@10 on these splits, the best that is listed
    ("Beauty", "sasrec"): (0.0921, 0.0531),
    ("Beauty", "esasrec"): (0.0928, 0.0523),
    ("Beauty", "hstu"): (0.0788, 0.0439),
    ("Beauty", "cl4srec"): (0.0681, 0.0299),
    ("Beauty", "bsarec"): (0.1008, 0.0611),
    ("Sports_and_Outdoors", "sasrec"): (0.0569, 0.0314),
    ("Sports_and_Outdoors", "esasrec"): (0.0560, 0.0323),
    ("Sports_and_Outdoors", "hstu"): (0.0437, 0.0243),
    ("Sports_and_Outdoors", "cl4srec"): (0.0387, 0.0171),
    ("Toys_and_Games", "sasrec"): (0.0970, 0.0580),
    ("Toys_and_Games", "esasrec"): (0.0939, 0.0538),
    ("Toys_and_Games", "hstu"): (0.0778, 0.0450),
    ("Yelp", "sasrec"): (0.0274, 0.0136),
    ("Yelp", "iclrec"): (0.0409, 0.0207),
}
BESIDE = {  # what stands beside the base: the best published SASRec, and the best published id-only model
    "Beauty": (("SASRec", "sasrec"), ("eSASRec", "esasrec")),
    "Sports_and_Outdoors": (("SASRec", "sasrec"), ("eSASRec", "esasrec")),
    "Toys_and_Games": (("SASRec", "sasrec"), ("eSASRec", "esasrec")),
    "Yelp": (("SASRec (BCE)", "sasrec"), ("ICLRec", "iclrec")),
}
LIBRARIES = {"rectools": "RecTools", "recbole": "RecBole"}
GOALS = {
    "Beauty": (0.088, 0.050),
    "Sports_and_Outdoors": (0.054, 0.030),
    "Toys_and_Games": (0.092, 0.055),
    "Yelp": (0.0409, 0.0207),
}


def main() -> None:
    """Put each table between its markers."""
    tables = {"base": base_table(), "screening": screening_table(), "short": short_table()}
    tables |= {
        "default": default_table(),
        "default holm": default_holm_line(),
        "peers": peers_table(),
        "several": several_table(),
        "holm": holm_line(),
        "rollouts": rollouts_table(),
        "successors": successors_table(),
        "taught": taught_table(),
        "trained": trained_table(),
        "price": price_table(),
        "data_only": data_only_table(),
    }
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name, table in tables.items():
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            text = re.sub(
                pattern, lambda found, table=table: found[1] + table + found[2], text, flags=re.DOTALL
            )
        document.write_text(text, encoding="utf-8")


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of a file of results."""
    return [json.loads(line) for line in (HERE / "results" / name).read_text().splitlines()]


def runs() -> dict[str, Any]:
    """What the final runs printed, by data set."""
    paths = sorted((HERE / "results" / "runs").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def figures(run: dict[str, Any]) -> str:
    """Recall@10 / NDCG@10 of the base on test."""
    test = run["rounds"][0]["test"]
    return f"{short(test['recall@10'])} / {short(test['ndcg@10'])}"


def published(data: str, model: str) -> str:
    """Recall@10 / NDCG@10 as published; a dash where nothing is listed."""
    known = PUBLISHED.get((data, model))
    return "–" if known is None else " / ".join(map(short, known))


def beside(data: str) -> list[str]:
    """The published figures that stand beside the base."""
    return [f"{name} {published(data, model)}" for name, model in BESIDE[data]]


def short_table() -> str:
    """The base beside the published SASRec, for the README."""
    lines = [
        "| data | rsir's SASRec | best published SASRec | best published eSASRec or ICLRec |",
        "|---|---|---|---|",
    ]
    for name, run in runs().items():
        own, best = beside(name)
        lines.append(f"| {name.replace('_', ' ')} | **{figures(run)}** | {own} | {best} |")
    return "\n".join(lines) + "\n"


def base_table() -> str:
    """Test figures of the default recipe, beside goals and published figures."""
    lines = [
        "| data | Recall@10 / NDCG@10 | goal | published SASRec | best published | passes | seconds "
        "| peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs().items():
        base, goal, (own, best) = run["rounds"][0], GOALS[name], beside(name)
        peak = run["peak_rss_bytes"] / 2**30
        lines.append(
            f"| {name.replace('_', ' ')} | **{figures(run)}** | {short(goal[0])} / {short(goal[1])} "
            f"| {own} | {best} | {passes(run)} | {base['seconds']:,.0f} | {peak:.2f} GiB |"
        )
    return "\n".join(lines) + "\n"


def passes(run: dict[str, Any]) -> str:
    """Passes over the data until training stopped."""
    return f"{-(-base_updates(run) // per_pass(run))}"


def base_updates(run: dict[str, Any]) -> int:
    """Updates of the base."""
    return int(run["rounds"][0]["updates"])


def per_pass(run: dict[str, Any]) -> int:
    """Updates of one pass, for batches of 256 sequences."""
    return -(-int(run["rounds"][0]["sequences"]) // 256)


def trained_table() -> str:
    """Test figures of each backbone, trained to the end, beside the best published."""
    lines = [
        "| data | backbone | seeds | Recall@10 / NDCG@10 | best published | passes | minutes | parameters |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    found: dict[tuple[str, str], list[Any]] = {}
    for path in sorted((HERE / "results" / "backbones").glob("*.json")):
        data, model, _ = path.stem.split(".")
        found.setdefault((data, model), []).append(json.loads(path.read_text()))
    for (data, model), seeds in sorted(
        found.items(), key=lambda row: (row[0][0], -tested(row[1], "ndcg@10")[0])
    ):
        minutes = statistics.median(run["rounds"][0]["seconds"] for run in seeds) / 60
        took = sorted(int(passes(run)) for run in seeds)
        needed = "–".join(map(str, dict.fromkeys((took[0], took[-1]))))
        lines.append(
            f"| {data.replace('_', ' ')} | {model} | {len(seeds)} | {spread(seeds)} "
            f"| {published(data, model)} | {needed} | {minutes:.0f} | {seeds[0]['model']['parameters']:,} |"
        )
    return "\n".join(lines) + "\n"


def tested(seeds: list[Any], metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the base's test figure."""
    values = [run["rounds"][0]["test"][metric] for run in seeds]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def spread(seeds: list[Any]) -> str:
    """Recall@10 / NDCG@10, with their standard deviation over seeds."""
    figures = [tested(seeds, metric) for metric in ("recall@10", "ndcg@10")]
    text = "**" + " / ".join(short(mean) for mean, _ in figures) + "**"
    return text + (" ± " + " / ".join(short(sd) for _, sd in figures) if len(seeds) > 1 else "")


def price_table() -> str:
    """What three rounds took beside their base, and validation figures of rounds and controls."""
    lines = ["| data | start | base, s | three rounds, s | of the base's time | NDCG@10 of base and rounds |"]
    lines[0] += " of the controls | Recall@10 of base and rounds | of the controls |"
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in rows_of("price.jsonl"):
        base, *rounds = row["rounds"]
        took = sum(made["seconds"] for made in rounds)
        cells = [row["data"].replace("_", " "), row["start"], f"{base['seconds']:.0f}", f"{took:.0f}"]
        cells.append(f"{took / base['seconds']:.2f}")
        for metric in ("ndcg@10", "recall@10"):
            for arm in ("rounds", "control"):
                cells.append(", ".join(short(made["valid"][metric]) for made in row[arm]) or "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def data_only_table() -> str:
    """What enriched data does for another library's SASRec: each arm, and its gain over the plain one."""
    rows = rows_of("data_only.jsonl")
    names = ("library", "updates", "seed", "arm")
    found = {tuple(row[n] for n in names): row for row in rows if row["against"] == "plain"}
    lines = ["| library | trained on | updates | synthetic sequences | NDCG@10, validation | over plain |"]
    lines[0] += " NDCG@10, test | over plain | Recall@10, test | over plain |"
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    arms = sorted((row for row in rows if row["against"] is None), key=lambda row: row["updates"])
    for row in sorted(arms, key=lambda row: row["library"]):
        against = found.get(tuple(row[n] for n in names))
        cells = [f"{LIBRARIES[row['library']]} {row['version']}", row["arm"].split(",")[0]]
        cells += [f"{row['after']:,}", f"{row['synthetic']:,}" if row["synthetic"] else "–"]
        for part, metric in (("valid", "ndcg@10"), ("test", "ndcg@10"), ("test", "recall@10")):
            cells += [short(row[part][metric]), interval(against[part][metric]) if against else "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def screening_table() -> str:
    """Validation figures by variant, best first, relative to the default."""
    lines = [
        "| variant | validation NDCG@10 | against default | Recall@10 | best pass | CPU s | parameters |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    rows = rows_of("base.jsonl")
    default = next(row for row in rows if row["variant"] == "default")["valid"]["ndcg@10"]
    for row in sorted(rows, key=lambda row: -row["valid"]["ndcg@10"]):
        ndcg, recall = row["valid"]["ndcg@10"], row["valid"]["recall@10"]
        lines.append(
            f"| {row['variant']} | {short(ndcg)} | {(ndcg / default - 1) * 100:+.1f} % | {short(recall)} "
            f"| {row['best_pass']} of {row['passes']} | {row['cpu_seconds']:.0f} | {row['parameters']:,} |"
        )
    return "\n".join(lines) + "\n"


def successors_table() -> str:
    """Validation figures of successors by arm, best first."""
    rows = rows_of("successors.jsonl")
    lines = ["| successor | data | seed | validation NDCG@10 | Recall@10 | synthetic sequences | CPU s |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: (row["data"], -row["valid"]["ndcg@10"])):
        synthetic = f"{row['synthetic']:,}" if "synthetic" in row else "–"
        ndcg, recall = (short(row["valid"][metric]) for metric in ("ndcg@10", "recall@10"))
        lines.append(
            f"| {row['arm']} | {row['data'].replace('_', ' ')} | {row['seed']} | {ndcg} | {recall} "
            f"| {synthetic} | {row['cpu_seconds']:,} |"
        )
    return "\n".join(lines) + "\n"


ROLLOUTS = {
    "three bases, τ 100": "rollouts of 3, rank 100",
    "three bases, τ 10": "verified rollouts of 3",
    "three bases, to their end": "whole rollouts of 3",
    "one base, to their end": "whole rollouts",
    "one base, τ 10": "retain-all, cold",
    "one base, τ 10, m 10: all": "10 rollouts of 1, all",
    "one base, τ 10, m 10: 3 a source": "10 rollouts of 1, 3 a source",
    "one base, τ 10, m 10: DA-RSIR": "10 rollouts of 1, DA-RSIR",
    "three successors, to their end": "second generation",
    "three successors, to their end, beside round 1": "second round",
    "three successors and the bases, τ 100, beside round 1": "second round with the bases, rank 100",
    "three bases, to their end; dropout .3": "whole rollouts of 3, dropout .3",
    "three bases, to their end; d 128": "whole rollouts of 3, d 128",
    "three bases, τ 100; d 128": "rollouts of 3, rank 100, d 128",
    "three bases, to their end; p .8": "whole rollouts of 3, p .8",
    "three bases, to their end; twice the updates": "whole rollouts of 3, 44 passes",
}
"""Who writes and until when, by the arm's name: what is learnt from rollouts alone, from a cold start."""
CONTROL = "observed, cold"


def split_name(name: str) -> tuple[str, str]:
    """The backbone of an arm of successors.py, and the rest of its name."""
    backbone, _, arm = name.partition(", ")
    return (backbone, arm) if backbone in ("hstu", "gru4rec") else ("sasrec", name)


def rollouts_table() -> str:
    """Validation figures of rollouts as training data: each arm with its control, by data and backbone."""
    rows = rows_of("successors.jsonl")
    lines = [
        "| data | successor | written by | seed | NDCG@10 | control | gain | Recall@10 | control | gain |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    found = {(row["data"], *split_name(row["arm"]), row["seed"]): row["valid"] for row in rows}
    for writers, arm in ROLLOUTS.items():
        for data, backbone, given, seed in sorted(found):
            control = found.get((data, backbone, CONTROL, seed))
            if given != arm or control is None:
                continue
            cells = [data.replace("_", " "), backbone, writers, str(seed)]
            for metric in ("ndcg@10", "recall@10"):
                value, rival = found[data, backbone, given, seed][metric], control[metric]
                cells += [short(value), short(rival), f"{100 * (value / rival - 1):+.1f} %"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def gains() -> list[tuple[str, str, dict[str, Any], str]]:
    """What was read on test: backbone, arm, row, and the name of its control; one backbone after another."""
    order, found = ["sasrec", "gru4rec", "hstu"], []
    for row in rows_of("successors_test.jsonl"):
        backbone, arm = split_name(row["test"])
        control = CONTROL if backbone == "sasrec" else f"{backbone}, {CONTROL}"
        if arm in ROLLOUTS.values() and f"ndcg@10 against {control}" in row:
            found.append((backbone, arm, row, control))
    return sorted(found, key=lambda one: (order.index(one[0]), one[1], one[2]["data"]))


def several_table() -> str:
    """Test figures of successors of several bases beside their controls, for the README."""
    written = {arm: writers for writers, arm in ROLLOUTS.items()}
    lines = [
        "| backbone | data | rollouts | seeds | NDCG@10 | over its control | Recall@10 | over its control |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for backbone, arm, row, control in gains():
        rollouts = written[arm].removeprefix("three bases, ")
        cells = [backbone, row["data"].replace("_", " "), rollouts, str(row["seeds"])]
        for metric in ("ndcg@10", "recall@10"):
            cells.append(short(sum(row[metric]) / row["seeds"]))
            cells.append(interval(row[f"{metric} against {control}"]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def holm_line() -> str:
    """How many of these gains stand after Holm over all of them, and their means by backbone."""
    found = [
        (backbone, metric, row[f"{metric.lower()} against {control}"])
        for backbone, _, row, control in gains()
        for metric in ("NDCG@10", "Recall@10")
    ]
    return standing(found)


def standing(gains: list[tuple[str, str, dict[str, Any]]]) -> str:
    """How many gains, each with backbone and metric, stand after Holm over all, and means by backbone."""
    found: dict[str, dict[str, list[float]]] = {}
    for backbone, metric, one in gains:
        found.setdefault(backbone, {}).setdefault(metric, []).append(one["relative"])
    values = [one["p"] if one["relative"] > 0 else 1.0 for *_, one in gains]
    passed = sum(p < 0.05 for p in holm(values))
    means = "; ".join(
        f"{backbone} " + ", ".join(f"{100 * statistics.fmean(v):+.1f} % {metric}" for metric, v in by.items())
        for backbone, by in found.items()
    )
    return f"Of these {len(values)} gains {passed} stand at 5 % after Holm over all. Means: {means}.\n"


ORDER = ("sasrec", "gru4rec", "hstu", "bsarec")
"""How backbones follow each other in tables of what pays."""


def confirmed() -> list[dict[str, Any]]:
    """What was read on test of the default recipe against its control, one backbone after another."""
    found = [row for row in rows_of("peers_test.jsonl") if (row["plan"], row["against"]) == DEFAULT]
    return sorted(found, key=lambda row: (ORDER.index(row["backbone"]), row["data"]))


DEFAULT = ("default", "observed")
"""The plans of peers.py that are the default recipe and its control."""


def default_table() -> str:
    """Test figures of the default recipe beside its control, by backbone and data."""
    lines = ["| backbone | data | seeds | NDCG@10 | over its control | Recall@10 | over its control |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in confirmed():
        cells = [row["backbone"], row["data"].replace("_", " "), str(len(row["seeds"]))]
        for metric in ("ndcg@10", "recall@10"):
            cells += [short(row[metric]["mean_b"]), interval(row[metric])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def default_holm_line() -> str:
    """How many gains of the default recipe stand after Holm over all of them, and their means by backbone."""
    gains = [
        (row["backbone"], metric, row[metric.lower()])
        for row in confirmed()
        for metric in ("NDCG@10", "Recall@10")
    ]
    return standing(gains)


def peers_table() -> str:
    """Validation by plan and round: the mean of the peers, their control's, and all peers as one."""
    lines = ["| data | successors | round | peers | NDCG@10 | control | Recall@10 | control | all as one |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    rows = {(r["data"], r["plan"], r["round"], r["peer"]): r for r in rows_of("peers.jsonl")}
    shown = {key[:3] for key in rows if key[1] in PLANS}
    for data, plan, k in sorted(shown, key=lambda key: (key[0], list(PLANS).index(key[1]), key[2])):
        peers = [peer for *key, peer in rows if key == [data, plan, k] and peer.startswith("sasrec.")]
        if not peers or (k == 0 and plan != "default") or (k == 1 and plan in AFTER):
            continue
        cells = [data.replace("_", " "), PLANS[plan] if k else "bases", str(k), str(len(peers))]
        for metric in ("ndcg@10", "recall@10"):
            cells.append(short(statistics.fmean(rows[data, plan, k, p]["valid"][metric] for p in peers)))
            rivals = [rows.get((data, control_of(plan), k, peer)) for peer in peers]
            known = k and all(rivals)
            cells.append(short(statistics.fmean(r["valid"][metric] for r in rivals)) if known else "–")
        whole = rows.get((data, plan, k, "all"))
        cells.append(short(whole["valid"]["ndcg@10"]) if whole else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


PLANS = {
    "default": "the default: warm, dropout .3, three bases write",
    "own-writes": "its own base alone writes (base 0)",
    "own-writes-1": "its own base alone writes (base 1)",
    "other-writes": "one other base writes (1 for 0)",
    "other-writes-1": "one other base writes (2 for 1)",
    "gru-writes": "a GRU4Rec writes",
    "hstu-writes": "an HSTU writes",
    "narrow-writes": "a base of width 16 writes",
    "two-mixed": "its own base and a GRU4Rec write",
    "mixed": "two bases and a GRU4Rec write",
    "warm-dropout.2": "dropout .2",
    "warm": "dropout .5; then the newest peers write, data adds up",
    "warm-2e-3": "dropout .5, rate 2e-3",
    "warm-all": "dropout .5; then peers of all rounds write, the newest data alone",
    "warm-dropout.3": "the default; then peers of all rounds write, the newest data alone",
    "slow": "the default; then peers of all rounds write, data adds up, rate 3e-4",
    "three": "cold, dropout .5",
    "three-draw": "cold, dropout .5, drawn among the 20 best",
    "observed-warm-dropout.3": "control with dropout .3",
}
"""The plans of peers.py that are shown, and what they are."""
AFTER = {"warm-all": "observed-warm", "warm-dropout.3": "observed-warm", "slow": "observed-slow"}
"""Plans whose first round is another's, and the controls of their second."""


def control_of(plan: str) -> str:
    """The plan that is a plan's control: as many updates on observed data alone, at its own best dropout."""
    return AFTER.get(plan, "observed-warm" if plan == "warm" else "observed")


def taught_table() -> str:
    """Test figures of the arms that were confirmed, and each one's gain over its rivals."""
    rows = rows_of("successors_test.jsonl")
    rows = [row for row in rows if not any(name.endswith(CONTROL) for name in (row["test"], *row))]
    lines = ["| arm | data | seeds | NDCG@10 | Recall@10 | NDCG@10 against … | Recall@10 against … |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        means = [sum(row[m]) / row["seeds"] for m in ("ndcg@10", "recall@10")]
        gains = [
            "; ".join(gain(key.split(" against ")[1], row[key]) for key in row if f"{metric} against" in key)
            for metric in ("ndcg@10", "recall@10")
        ]
        lines.append(
            f"| {row['test']} | {row['data'].replace('_', ' ')} | {row['seeds']} | {short(means[0])} "
            f"| {short(means[1])} | {gains[0]} | {gains[1]} |"
        )
    return "\n".join(lines) + "\n"


def gain(rival: str, found: dict[str, Any]) -> str:
    """A relative gain over a rival."""
    return f"{rival}: {interval(found)}"


def interval(found: dict[str, Any]) -> str:
    """A relative gain with its interval."""
    mean, low, high = (100 * found[f"relative{end}"] for end in ("", "_low", "_high"))
    return f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]"


def short(value: float) -> str:
    """Four decimals without the leading zero."""
    return f"{value:.4f}".removeprefix("0")


if __name__ == "__main__":
    main()
