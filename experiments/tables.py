"""Write the tables of docs/ anew from experiments/results/.

    python experiments/tables.py

`results/base.jsonl` comes from base.py; `results/runs/NAME.json` is what
`rsir run NAME.txt --out … --json` printed, with the environment of the run beside it;
`results/backbones/NAME.MODEL.SEED.json` comes from trained.py;
`results/successors*.jsonl` come from successors.py, `results/peers*.jsonl` from peers.py,
`results/price.jsonl` from price.py, `results/data_only.jsonl` from data_only.py.
"""

from __future__ import annotations

import re

import tables_of_bases as bases
import tables_of_peers as peers
import tables_of_successors as successors
import tables_of_weak as weak
from figures import HERE, interval, rows_of, short, table

DOCUMENTS = tuple(
    HERE.parent / name
    for name in (
        "docs/base.md",
        "docs/models.md",
        "docs/what-pays.md",
        "docs/benchmarks.md",
        "docs/reproduction.md",
        "README.md",
    )
)


LIBRARIES = {"rectools": "RecTools", "recbole": "RecBole"}


def main() -> None:
    """Put each table between its markers."""
    tables = {"base": bases.base_table(), "screening": bases.screening_table(), "short": bases.short_table()}
    tables |= {
        "default": peers.backbones_table(peers.DEFAULT),
        "default holm": peers.backbones_holm_line(peers.DEFAULT),
        "peers": peers.peers_table(),
        "newcomers": peers.rounds_table("newcomers"),
        "growth": peers.growth_table("pairs"),
        "own": peers.backbones_table(peers.OWN),
        "wide": peers.wide_table(),
        "buckets": peers.buckets_table(),
        "wide test": peers.wide_test_table(),
        "own holm": peers.backbones_holm_line(peers.OWN),
        "earlier": peers.rounds_table("way: rollouts and earlier"),
        "widths": peers.widths_table(),
        "weak": weak.rules_table(),
        "weak sweeps": weak.sweeps_table(),
        "measures": weak.measures_table(),
        "several": successors.several_table(),
        "holm": successors.holm_line(),
        "rollouts": successors.rollouts_table(),
        "successors": successors.successors_table(),
        "taught": successors.taught_table(),
        "trained": bases.trained_table(),
        "price": price_table(),
        "data_only": data_only_table(),
    }
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name, made in tables.items():
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            text = re.sub(pattern, lambda found, made=made: found[1] + made + found[2], text, flags=re.DOTALL)
        document.write_text(text, encoding="utf-8")


def price_table() -> str:
    """What three rounds took beside their base, and validation figures of rounds and controls."""
    made = list[list[str]]()
    for row in rows_of("price.jsonl"):
        base, *rounds = row["rounds"]
        took = sum(one["seconds"] for one in rounds)
        cells = [row["data"].replace("_", " "), row["start"], f"{base['seconds']:.0f}", f"{took:.0f}"]
        cells.append(f"{took / base['seconds']:.2f}")
        for metric in ("ndcg@10", "recall@10"):
            for arm in ("rounds", "control"):
                cells.append(", ".join(short(one["valid"][metric]) for one in row[arm]) or "–")
        made.append(cells)
    return table(
        "data | start | base, s | three rounds, s | of the base's time | NDCG@10 of base and rounds | "
        "of the controls | Recall@10 of base and rounds | of the controls",
        made,
    )


def data_only_table() -> str:
    """What enriched data does for another library's SASRec: each arm, and its gain over the plain one."""
    rows = rows_of("data_only.jsonl")
    names = ("library", "updates", "seed", "arm")
    found = {tuple(row[n] for n in names): row for row in rows if row["against"] == "plain"}
    made = list[list[str]]()
    arms = sorted((row for row in rows if row["against"] is None), key=lambda row: row["updates"])
    for row in sorted(arms, key=lambda row: row["library"]):
        against = found.get(tuple(row[n] for n in names))
        cells = [f"{LIBRARIES[row['library']]} {row['version']}", row["arm"].split(",")[0]]
        cells += [f"{row['after']:,}", f"{row['synthetic']:,}" if row["synthetic"] else "–"]
        for part, metric in (("valid", "ndcg@10"), ("test", "ndcg@10"), ("test", "recall@10")):
            cells += [short(row[part][metric]), interval(against[part][metric]) if against else "–"]
        made.append(cells)
    return table(
        "library | trained on | updates | synthetic sequences | NDCG@10, validation | over plain | "
        "NDCG@10, test | over plain | Recall@10, test | over plain",
        made,
    )


if __name__ == "__main__":
    main()
