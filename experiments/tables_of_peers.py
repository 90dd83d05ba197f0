"""Tables of peers.py, whose default is that of `rsir run`: docs/what-pays.md, README.md."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from figures import METRICS, gained, interval, rows_of, short, standing, table

DEFAULT = (("default", "observed"),)
"""The plans of peers.py that are the default recipe and its control."""
OWN = (("own-gru4rec", "observed"), ("hstu-cold", "observed-cold"))
"""Plans in which three bases of a backbone write for successors of the same, and their controls."""


ORDER = ("sasrec", "gru4rec", "hstu", "bsarec")
"""How backbones follow each other in tables of what pays."""


PLANS = {
    "default": "the default: warm, dropout .3, three bases write",
    "own-writes": "its own base alone writes (base 0)",
    "own-writes-1": "its own base alone writes (base 1)",
    "other-writes": "one other base writes (1 for 0)",
    "other-writes-1": "one other base writes (2 for 1)",
    "two-others": "two other bases write (1 and 2 for 0)",
    "two-others-1": "two other bases write (0 and 2 for 1)",
    "two-others-2": "two other bases write (0 and 1 for 2)",
    "five": "five bases write",
    "newcomers": "a base more writes in each round, the newest data alone",
    "pairs": "itself, then two bases more write in each round, the newest data alone",
    "bases-write": "the default; then the bases write anew, the newest data alone",
    "bases-write-add": "the default; then the bases write anew, data adds up",
    "chain": "cold, one base; then its successors of all rounds write, the newest data alone",
    "chain-dropout.5": "cold, one base; then its successors write, dropout .5",
    "weight.5": "the default with λ .5",
    "way: random half": "the default, a random half of the rollouts",
    "way: half unknown": "the half that the writers know best beside the base itself",
    "way: half hard": "the half that the writers find least likely",
    "way: half real": "the half that a discriminator takes for real",
    "way: refused": "the default, and a preference for own items over refused ones",
    "way: observed last": "the default, the last third of updates on observed data at 3e-4",
    "way: threshold by user": "the default, τ in proportion to how the user's own next items rank",
    "way: confident": "the default, rollouts weighted by the writers' confidence",
    "way: half short": "the half whose sources are the shortest",
    "way: completed": "the default's rollouts and short histories that go on by three items",
    "way: taught": "the default, nine tenths of each target the writers' distribution, dropout .2",
    "random-starts": "the default, rollouts from random starts",
    "way: inserted": "no rollouts; observed sequences with items between",
    "way: rollouts and inserted": "the default's rollouts and sequences with items between",
    "way: earlier": "no rollouts; short histories with three earlier items",
    "way: rollouts and earlier": "the default's rollouts and three earlier items; then a base more writes",
    "way: rollouts and one earlier": "the default's rollouts and one earlier item",
    "way: rollouts and six earlier": "the default's rollouts and six earlier items",
    "way: rollouts and earlier for all": "the default's rollouts and three earlier items, long histories too",
    "gru-writes": "a GRU4Rec writes",
    "hstu-writes": "an HSTU writes",
    "narrow-writes": "a base of width 16 writes",
    "two-mixed": "its own base and a GRU4Rec write",
    "mixed": "two bases and a GRU4Rec write",
    "warm-dropout.2": "dropout .2",
    "dropout-share-0.8": "dropout .4",
    "dropout-share-1.0": "dropout .5",
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


AFTER = {
    "warm-all": "observed-warm",
    "warm-dropout.3": "observed-warm",
    "slow": "observed-slow",
    "bases-write": "observed-warm",
    "bases-write-add": "observed-warm",
}
"""Plans whose first round is another's, and the controls of their second."""


def confirmed(arms: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """What was read last on test of plans against their controls, one backbone after another."""
    rows = [row for row in rows_of("peers_test.jsonl") if (row["plan"], row["against"]) in arms]
    found = {(row["backbone"], row["data"]): row for row in rows}
    return sorted(found.values(), key=lambda row: (ORDER.index(row["backbone"]), row["data"]))


def backbones_table(arms: Iterable[tuple[str, str]]) -> str:
    """Test figures of plans beside their controls, by backbone and data."""
    made = list[list[str]]()
    for row in confirmed(arms):
        cells = [row["backbone"], row["data"].replace("_", " "), str(len(row["seeds"]))]
        made.append(cells + gained(row))
    return table("backbone | data | seeds | NDCG@10 | over its control | Recall@10 | over its control", made)


def backbones_holm_line(arms: Iterable[tuple[str, str]]) -> str:
    """How many of these gains stand after Holm over all of them, and their means by backbone."""
    gains = [
        (row["backbone"], metric, row[metric.lower()])
        for row in confirmed(arms)
        for metric in ("NDCG@10", "Recall@10")
    ]
    return standing(gains)


def growth_table(plan: str) -> str:
    """Whether a plan's second round gains more than its first, on test; the mean over data sets below.

    Its interval takes those of the data sets, which share no user, for independent and normal.
    """
    rows = [row for row in rows_of("peers_test.jsonl") if row["plan"] == plan and row["round"] == 2]
    newest = {row["data"]: row for row in rows if "growth ndcg@10" in row}
    made = list[list[str]]()
    for data, row in sorted(newest.items()):
        cells = [data.replace("_", " "), str(len(row["seeds"]))]
        for metric in METRICS:
            found = row[f"growth {metric}"]
            cells.append(f"{100 * found['before']:+.1f} → {100 * found['after']:+.1f} %")
            cells.append(growth_of(*(found[key] for key in ("difference", "low", "high"))))
        made.append(cells)
    last = ["mean", ""]
    for metric in METRICS:
        found = [row[f"growth {metric}"] for row in newest.values()]
        mean = statistics.fmean(one["difference"] for one in found)
        half = sum(((one["high"] - one["low"]) / 2) ** 2 for one in found) ** 0.5 / len(found)
        last += ["", growth_of(mean, mean - half, mean + half)]
    return table("data | seeds | gain, NDCG@10 | growth | gain, Recall@10 | growth", [*made, last])


def growth_of(mean: float, low: float, high: float) -> str:
    """A growth in percent of controls with its interval."""
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def peers_table() -> str:
    """Validation by plan and round: the mean of the peers, their control's, and all peers as one."""
    made = list[list[str]]()
    rows = {(r["data"], r["plan"], r["round"], r["peer"]): r for r in rows_of("peers.jsonl")}
    shown = {key[:3] for key in rows if key[1] in PLANS}
    for data, plan, k in sorted(shown, key=lambda key: (key[0], list(PLANS).index(key[1]), key[2])):
        peers = [peer for *key, peer in rows if key == [data, plan, k] and peer.startswith("sasrec.")]
        if not peers or (k == 0 and plan != "default") or (k == 1 and plan in AFTER):
            continue
        cells = [data.replace("_", " "), PLANS[plan] if k else "bases", str(k), str(len(peers))]
        for metric in METRICS:
            cells.append(short(statistics.fmean(rows[data, plan, k, p]["valid"][metric] for p in peers)))
            rivals = [rows.get((data, control_of(plan), k, peer)) for peer in peers]
            known = k and all(rivals)
            cells.append(short(statistics.fmean(r["valid"][metric] for r in rivals)) if known else "–")
        whole = rows.get((data, plan, k, "all"))
        cells.append(short(whole["valid"]["ndcg@10"]) if whole else "–")
        made.append(cells)
    return table(
        "data | successors | round | peers | NDCG@10 | control | Recall@10 | control | all as one",
        made,
    )


def control_of(plan: str) -> str:
    """The plan that is a plan's control: as many updates on observed data alone, at its own best dropout."""
    return AFTER.get(plan, "observed-warm" if plan == "warm" else "observed")


def rounds_table(plan: str) -> str:
    """Test figures of a plan's rounds, each beside the control's same round."""
    rows = [row for row in rows_of("peers_test.jsonl") if row["plan"] == plan]
    made = list[list[str]]()
    newest = {(row["data"], row["round"]): row for row in rows}
    for _, row in sorted(newest.items()):
        cells = [row["data"].replace("_", " "), str(row["round"]), str(len(row["seeds"]))]
        made.append(cells + gained(row))
    return table("data | round | seeds | NDCG@10 | over its control | Recall@10 | over its control", made)


WIDTHS = {"width 16 writes": "16", "width 64 writes": "64", "width 128 writes": "128, its own base"}
"""Plans in which a SASRec writes for one of width 128."""


def widths_table() -> str:
    """Test figures of a wide successor by the width of who writes for it, beside its control."""
    rows = {row["plan"]: row for row in rows_of("peers_test.jsonl") if row["plan"] in WIDTHS}
    made = [[WIDTHS[plan], *gained(rows[plan])] for plan in WIDTHS if plan in rows]
    return table("width of the writer | NDCG@10 | over its control | Recall@10 | over its control", made)


WIDE = (
    ("Toys_and_Games", "sasrec.0", "three SASRec", "default", "way: taught", "way: taught wide"),
    ("Beauty", "sasrec.0", "three SASRec", "default", None, "way: taught wide"),
    ("Beauty", "bsarec.0", "three SASRec, three BSARec", "as-one-six", "way: taught", "way: taught wide"),
    ("Beauty", "bsarec.0", "these and three HSTU", "as-one-nine", None, "way: taught wide, nine"),
)
"""Log, base, who writes and teaches, the plan in which these speak as one, those of successors they teach."""


def wide_table() -> str:
    """Validation figures of wide, taught successors beside controls, their writers as one and the default."""
    rows = {(r["data"], r["plan"], r["round"], r["peer"]): r["valid"] for r in rows_of("peers.jsonl")}
    made = list[list[str]]()
    for data, peer, who, one, taught, wide in WIDE:
        asked = [
            (data, "observed", 0, peer),
            (data, one, 0, "all"),
            (data, "default", 1, peer),
            (data, taught, 1, peer),
            (data, f"{wide} alone", 1, peer),
            (data, wide, 1, peer),
        ]
        found = [rows.get(key) for key in asked]
        figures = [" / ".join(short(f[m]) for m in METRICS) if f else "–" for f in found]
        made.append([data.replace("_", " "), peer.partition(".")[0], who, *figures])
    return table(
        "data | backbone | who writes and teaches | base | writers as one | the default | taught | "
        "taught and wide, no rollouts | taught and wide",
        made,
    )


def wide_test_table() -> str:
    """Test figures of the same, against their base and against the control without rollouts."""
    rows = rows_of("peers_test.jsonl")
    made = list[list[str]]()
    for data, peer, who, _, _, wide in WIDE:
        keys = {"data": data, "plan": wide, "backbone": peer.partition(".")[0]}
        found = {row["against"]: row for row in rows if keys.items() <= row.items()}
        for against, row in found.items():
            rival = "its base" if against is None else "taught and wide, no rollouts"
            made.append([data.replace("_", " "), keys["backbone"], who, rival, *gained(row)])
    return table(
        "data | backbone | who writes and teaches | against | NDCG@10 | gain | Recall@10 | gain", made
    )


def buckets_table() -> str:
    """Where the default's gains of SASRec in NDCG@10 fall, by history length and popularity of the target."""
    (plan, against), rows = DEFAULT[0], rows_of("peers_test.jsonl")
    keys = {"plan": plan, "against": against, "backbone": "sasrec"}
    rows = [row for row in rows if keys.items() <= row.items() and "buckets" in row]
    newest, cells = {row["data"]: row for row in rows}, dict[tuple[str, str], dict[str, str]]()
    names = {"history_length": "events in the history", "target_count": "training events of the target"}
    for data, row in newest.items():
        for by, name in names.items():
            for one in row["buckets"][by]:
                span = f"{one['from']}+" if one["to"] is None else f"{one['from']} to {one['to']}"
                if one["mean_a"]:
                    cells.setdefault((name, span), {})[data] = interval(one)
    made = [[name, span, *(found.get(data, "–") for data in newest)] for (name, span), found in cells.items()]
    return table("by | bucket | " + " | ".join(data.replace("_", " ") for data in newest), made)
