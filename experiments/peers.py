"""Rounds in which several backbones write together and each gets a successor that learns from all.

    python experiments/trained.py LOG --models sasrec gru4rec bsarec hstu --seeds 0
    python experiments/peers.py LOG --plan four --peers sasrec.0 gru4rec.0 bsarec.0 hstu.0 --rounds 2

The bases are the runs of trained.py, a peer is BACKBONE.SEED. In each round the peers of the round before
generate and judge as one (the mean of their scores); each successor is trained as `rsir run` would do it, by
the settings of `--set`. A plan with `--observed` is the control: the same start and updates on observed data
alone. Validation is read; `--test --against CONTROL` reads the test split with what is kept, at the end.
Resumable: synthetic data and weights are kept under --runs, results are JSON lines.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from figures import interval
from safetensors.torch import load_file, save_file
from torch import Tensor

from rsir.acquire import acquisition_rule
from rsir.bench.clock import commit
from rsir.config import load_config
from rsir.data.sequences import Sequences
from rsir.data.splits import Split
from rsir.evaluate import BUCKETS, Evaluation, evaluate
from rsir.evidence.significance import growth, hierarchical_bootstrap
from rsir.generate import generate
from rsir.models import ModelConfig, build_model
from rsir.models.base import SequenceModel
from rsir.models.ensemble import Ensemble
from rsir.ragged import Ragged
from rsir.rng import generator_seed
from rsir.run import Run
from rsir.train import Look, Teacher, TrainingConfig, fit, period_of
from rsir.weights import load_weights, save_weights

RESULTS = Path(__file__).parent / "results"
SHOWN = ("ndcg@10", "recall@10")


class Peers:
    """One plan on one log: who writes, how, and what each round made.

    Args:
        given: the arguments of the command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.log, self.names, self.trained = given.log, given.peers, given.trained
        self.settings, self.writers, self.alone = tuple(given.set), given.writers, given.alone
        self.replace, self.plan, self.observed = given.replace, given.plan, given.observed
        self.first: int | None = given.first
        self.more: int = given.more
        self.folder = given.runs / self.log.stem / self.plan
        self.split: Split = self.run_of(self.names[0]).split()
        self.counts = self.split.train.item_counts()
        self.config = load_config(overrides=self.settings)
        self.anew = {key: json.loads(value) for key, _, value in (one.partition("=") for one in given.shape)}

    def run_of(self, peer: str) -> Run:
        """The run of trained.py whose base this is."""
        backbone, _, seed = peer.partition(".")
        return Run.open(self.trained / f"{self.log.stem}-{backbone}-{seed}")

    def weights(self, peer: str, k: int) -> Path:
        """Where a successor is kept."""
        return self.folder / f"{k}" / f"{peer}.safetensors"

    def model(self, peer: str, k: int) -> SequenceModel:
        """A peer after round k; its base for 0."""
        if k == 0:
            return self.run_of(peer).model(0)
        model = build_model(self.shape(peer), self.split.train.num_items).eval()
        load_weights(self.weights(peer, k), model)
        return model

    def writer(self, k: int, peers: list[str]) -> SequenceModel:
        """The given peers as one: as they were after the round before, after all before, or their bases."""
        rounds = {"last": (k - 1,), "all": range(k)}.get(self.writers, (0,))
        writers = [self.model(peer, j) for j in rounds for peer in peers]
        return Ensemble(writers).eval() if len(writers) > 1 else writers[0]

    def writers_for(self, peer: str, k: int) -> list[str]:
        """Who writes for a peer in round k: itself, itself and some more for each round before, or all.

        Or the first few peers, and one more in each further round.
        """
        if self.alone:
            return [peer]
        if self.first is not None:
            return self.names[: self.first + k - 1]
        mine = self.names.index(peer) if self.writers == "newcomers" else 0
        in_turn = self.names[mine:] + self.names[:mine]
        return in_turn[: 1 + self.more * (k - 1)] if self.writers == "newcomers" else in_turn

    def synthetic(self, k: int, peer: str) -> Sequences:
        """What round k adds for a peer, made once; the same for all unless each writes alone."""
        own = self.alone or self.writers == "newcomers"
        name = f"{peer}.synthetic.safetensors" if own else "synthetic.safetensors"
        path = self.folder / f"{k}" / name
        if not path.exists():
            made = self.write(k, peer)
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = {"values": made.events.values, "offsets": made.events.offsets, "user": made.user}
            save_file({**kept, "round_index": made.round_index, "source": made.source}, path)
        kept = load_file(path)
        events = Ragged(kept["values"], kept["offsets"])
        return Sequences(
            events, self.split.train.num_items, kept["user"], kept["round_index"], kept["source"]
        )

    def write(self, k: int, peer: str) -> Sequences:
        """The admitted rollouts of round k."""
        peers = self.writers_for(peer, k)
        keys = {"seed": int(peers[0].partition(".")[2]), "round_index": k}
        writer, train = self.writer(k, peers), self.split.train
        rollouts = generate(writer, train, self.config.generation, **keys)
        rule = acquisition_rule(self.config.acquisition, self.config.generation.min_length, writer)
        return rule.admit(rollouts, train, **keys).sequences(rollouts, k)

    def data(self, k: int, peer: str) -> Sequences:
        """What a peer's round k is trained on: D_k, or observed data and the newest round alone."""
        rounds = () if self.observed else (k,) if self.replace else range(1, k + 1)
        return Sequences.concat([self.split.train, *(self.synthetic(j, peer) for j in rounds)])

    def validate(self, model: SequenceModel) -> dict[str, float]:
        """Metrics on all validation cases."""
        return evaluate(model, self.split.valid, self.counts, with_lists=False).metrics

    def shape(self, peer: str) -> ModelConfig:
        """A successor's network: its base's, with less dropout where there is more to learn from."""
        config: ModelConfig = self.run_of(peer).config.model
        share = 1.0 if self.observed else self.config.successor_dropout_share
        config = config.model_copy(update={"dropout": share * config.dropout, **self.anew})
        return config

    def successor(self, peer: str, k: int) -> dict[str, Any]:
        """Train a peer's successor of round k, keep it, and say what came of it."""
        run, rules = self.run_of(peer), self.config.recursion
        training, data, started = run.config.training, self.data(k, peer), time.process_time()
        updates = run.store.arm("rounds", 0).record()["updates"]
        torch.manual_seed(generator_seed(run.config.seed, "initial", k))
        model = build_model(self.shape(peer), self.split.train.num_items)
        if rules.start != "cold":  # where a plan says nothing, warm and .6 of the dropout for all backbones
            model.load_state_dict(self.model(peer, k - 1).state_dict())
            training = training.model_copy(update={"learning_rate": rules.warm_learning_rate})
            updates = round((rules.warm_share or 1.0) * updates)
        looks = self.learn(
            model, data, training, generator_seed(run.config.seed, "successor", k) % 2**31, updates
        )
        self.weights(peer, k).parent.mkdir(parents=True, exist_ok=True)
        save_weights(self.weights(peer, k), model)
        made = data.round_index > 0
        return {
            "valid": self.validate(model),
            "curve": [round(look.value, 5) for look in looks],
            "updates": updates,
            "synthetic": int(made.sum()),
            "synthetic_events": int(data.events.lengths[made].sum()),
            "cpu_seconds": round(time.process_time() - started),
        }

    def learn(
        self, model: SequenceModel, data: Sequences, training: TrainingConfig, seed: int, updates: int
    ) -> list[Look]:
        """Train a network with the weights of its start on D_k."""
        period = 2 * period_of(self.split.train, training, model.max_length)
        how = {
            "weight": self.weight(data),
            "teacher": self.teacher(data),
            "period": period,
            "budget": updates,
        }
        return fit(model, data, training, self.validate, seed=seed, **how).looks  # type: ignore[arg-type]

    def teacher(self, data: Sequences) -> Teacher | None:
        """Who gives soft targets."""
        return None

    def weight(self, data: Sequences) -> Tensor:
        """λ for synthetic sequences, 1 for observed ones."""
        share = self.config.recursion.synthetic_weight
        return torch.where(data.round_index > 0, share, 1.0)


def told(values: dict[str, float]) -> str:
    return " ".join(f"{name} {values[name]:.5f}" for name in SHOWN)


def there(name: str, key: dict[str, Any]) -> bool:
    """Whether a row with these values was made before."""
    path = RESULTS / name
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return any(key.items() <= json.loads(line).items() for line in lines)


def append(name: str, row: dict[str, Any]) -> None:
    with open(RESULTS / name, "a", encoding="utf-8") as results:
        results.write(json.dumps(row) + "\n")


def search(given: argparse.Namespace, plan: Peers) -> None:
    """Make what is missing of all rounds of a plan."""
    for k in range(given.rounds + 1):
        all_go_on = given.writers in ("last", "all") and k < given.rounds
        successors = given.peers if all_go_on else given.successors or given.peers
        for peer in [*successors, "all"]:
            key = {"data": given.log.stem, "plan": given.plan, "round": k, "peer": peer}
            if there("peers.jsonl", key):
                continue
            if peer == "all":
                if given.alone or successors != given.peers:
                    continue
                facts = {"valid": plan.validate(Ensemble([plan.model(p, k) for p in given.peers]).eval())}
            elif k == 0:
                facts = {"valid": plan.validate(plan.model(peer, 0))}
            else:
                facts = plan.successor(peer, k)
            how = {
                "peers": given.peers,
                "set": given.set,
                "shape": given.shape,
                "writers": given.writers,
                "alone": given.alone,
                "first": given.first,
            }
            how |= {"more": given.more, "replace": given.replace, "observed": given.observed}
            append("peers.jsonl", {**key, **facts, **how, "commit": commit() or ""})
            print(given.log.stem, given.plan, k, peer, told(facts["valid"]), flush=True)


def final(given: argparse.Namespace) -> None:
    """Test figures of the successors of each round against their controls, over seeds and users."""
    plan, by_backbone = Peers(given), dict[str, list[str]]()
    control = Peers(argparse.Namespace(**{**vars(given), "plan": given.against or given.plan}))
    for peer in given.successors or given.peers:
        by_backbone.setdefault(peer.partition(".")[0], []).append(peer)
    look = partial(evaluate, cases=plan.split.test, train_counts=plan.counts, with_lists=False)
    for backbone, peers in by_backbone.items():
        gains = dict[str, tuple[torch.Tensor, torch.Tensor]]()
        for k in range(1, given.rounds + 1):
            rivals = [look(control.model(peer, k if given.against else 0)) for peer in peers]
            found = [look(plan.model(peer, k)) for peer in peers]
            row: dict[str, Any] = {"data": given.log.stem, "plan": given.plan, "against": given.against}
            row |= {"round": k, "backbone": backbone, "seeds": [peer.partition(".")[2] for peer in peers]}
            for metric in SHOWN:
                before, after = (torch.stack([e.values(metric) for e in side]) for side in (rivals, found))
                row[metric] = asdict(hierarchical_bootstrap(before, after, seed=0))
                if metric in gains:
                    row[f"growth {metric}"] = asdict(growth(gains[metric], (before, after), seed=0))
                gains[metric] = before, after
            if given.buckets:
                row["buckets"] = {by: where(rivals, found, by) for by in BUCKETS}
            append("peers_test.jsonl", {**row, "commit": commit() or ""})
            for metric in SHOWN:
                print(backbone, k, metric, f"{row[metric]['mean_b']:.4f}", interval(row[metric]), flush=True)


def where(rivals: list[Evaluation], found: list[Evaluation], by: str) -> list[dict[str, Any]]:
    """Where a gain falls: NDCG@10 in each bucket of a column that has cases."""
    column, edges = getattr(found[0], by), (*BUCKETS[by], None)
    rows = []
    for low, high in pairwise(edges):
        among = (column >= low) & (column < (high or torch.inf))
        if among.any():
            sides = (torch.stack([e.values("ndcg@10")[among] for e in side]) for side in (rivals, found))
            rows.append(
                {"from": low, "to": high and high - 1, **asdict(hierarchical_bootstrap(*sides, seed=0))}
            )
    return rows


def arguments(about: str | None) -> argparse.ArgumentParser:
    """The options of a plan."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--peers", nargs="+", required=True, metavar="BACKBONE.SEED")
    parser.add_argument(
        "--successors",
        nargs="+",
        metavar="BACKBONE.SEED",
        help="of the last round, of all rounds where bases write",
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plan", required=True, help="a name for peers and settings together")
    parser.add_argument("--set", nargs="*", default=[], help="settings of `rsir run`")
    parser.add_argument("--shape", nargs="*", default=[], metavar="KEY=VALUE", help="of successors' networks")
    parser.add_argument(
        "--writers",
        choices=("last", "all", "bases", "newcomers"),
        default="last",
        help="peers of which rounds write; newcomers: itself, and bases more in each",
    )
    parser.add_argument("--more", type=int, default=1, metavar="N", help="newcomers of each further round")
    parser.add_argument(
        "--first", type=int, metavar="N", help="peers that write in round 1, one more in each further round"
    )
    parser.add_argument("--alone", action="store_true", help="each peer writes for itself")
    parser.add_argument(
        "--replace", action="store_true", help="of synthetic data, learn from the newest round's alone"
    )
    parser.add_argument("--observed", action="store_true", help="a control: no synthetic data at all")
    parser.add_argument(
        "--against", help="with --test: the plan whose rounds are the controls; default the bases"
    )
    parser.add_argument("--trained", type=Path, default=Path("runs/trained"))
    parser.add_argument("--runs", type=Path, default=Path("runs/peers"))
    return parser


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--buckets", action="store_true", help="with --test: where gains fall, too")
    given = parser.parse_args()
    if given.test:
        final(given)
    else:
        search(given, Peers(given))


if __name__ == "__main__":
    main()
