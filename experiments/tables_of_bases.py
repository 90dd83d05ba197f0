"""Tables of the base and of other backbones, trained to the end: docs/base.md, docs/models.md, README.md."""

from __future__ import annotations

import json
import statistics
from typing import Any

from figures import HERE, rows_of, short, table

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


GOALS = {
    "Beauty": (0.088, 0.050),
    "Sports_and_Outdoors": (0.054, 0.030),
    "Toys_and_Games": (0.092, 0.055),
    "Yelp": (0.0409, 0.0207),
}


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
    made = list[list[str]]()
    for name, run in runs().items():
        own, best = beside(name)
        made.append([name.replace("_", " "), f"**{figures(run)}**", own, best])
    return table(
        "data | rsir's SASRec | best published SASRec | best published eSASRec or ICLRec",
        made,
    )


def base_table() -> str:
    """Test figures of the default recipe, beside goals and published figures."""
    made = list[list[str]]()
    for name, run in runs().items():
        base, goal, (own, best) = run["rounds"][0], GOALS[name], beside(name)
        peak = run["peak_rss_bytes"] / 2**30
        made.append(
            [
                name.replace("_", " "),
                f"**{figures(run)}**",
                f"{short(goal[0])} / {short(goal[1])}",
                own,
                best,
                passes(run),
                f"{base['seconds']:,.0f}",
                f"{peak:.2f} GiB",
            ]
        )
    return table(
        "data | Recall@10 / NDCG@10 | goal | published SASRec | best published | passes | seconds | "
        "peak memory",
        made,
    )


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
    made = list[list[str]]()
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
        made.append(
            [
                data.replace("_", " "),
                model,
                f"{len(seeds)}",
                spread(seeds),
                published(data, model),
                needed,
                f"{minutes:.0f}",
                f"{seeds[0]['model']['parameters']:,}",
            ]
        )
    return table(
        "data | backbone | seeds | Recall@10 / NDCG@10 | best published | passes | minutes | parameters",
        made,
    )


def tested(seeds: list[Any], metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds of the base's test figure."""
    values = [run["rounds"][0]["test"][metric] for run in seeds]
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def spread(seeds: list[Any]) -> str:
    """Recall@10 / NDCG@10, with their standard deviation over seeds."""
    figures = [tested(seeds, metric) for metric in ("recall@10", "ndcg@10")]
    text = "**" + " / ".join(short(mean) for mean, _ in figures) + "**"
    return text + (" ± " + " / ".join(short(sd) for _, sd in figures) if len(seeds) > 1 else "")


def screening_table() -> str:
    """Validation figures by variant, best first, relative to the default."""
    made = list[list[str]]()
    rows = rows_of("base.jsonl")
    default = next(row for row in rows if row["variant"] == "default")["valid"]["ndcg@10"]
    for row in sorted(rows, key=lambda row: -row["valid"]["ndcg@10"]):
        ndcg, recall = row["valid"]["ndcg@10"], row["valid"]["recall@10"]
        made.append(
            [
                row["variant"],
                short(ndcg),
                f"{(ndcg / default - 1) * 100:+.1f} %",
                short(recall),
                f"{row['best_pass']} of {row['passes']}",
                f"{row['cpu_seconds']:.0f}",
                f"{row['parameters']:,}",
            ]
        )
    return table(
        "variant | validation NDCG@10 | against default | Recall@10 | best pass | CPU s | parameters",
        made,
    )
