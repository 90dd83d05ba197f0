"""A run directory, opened: its models, recommendations and summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from rsir.data.sequences import Sequences
from rsir.data.splits import Split, split
from rsir.data.synthetic import enriched, from_frame
from rsir.errors import ConfigError, DataError
from rsir.lineage import Lineage, shape_of
from rsir.models import build_model
from rsir.models.base import SequenceModel
from rsir.models.ranking import top_items
from rsir.ragged import Ragged
from rsir.store import RunStore


class Run:
    """A run directory, opened.

    >>> run = Run.open("runs/quickstart")  # doctest: +SKIP
    >>> run.recommend(users=["u0017"], n=5)  # doctest: +SKIP
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.config = store.config
        self.interactions = store.interactions()

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open a run directory.

        Raises:
            StoreError: if it is none, or incomplete.
        """
        return cls(RunStore.open(folder))

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.store.folder

    def split(self) -> Split:
        """The split, cut again from the log; the same cut as when the run was made."""
        return split(self.interactions, self.config.split)

    def chosen_round(self) -> int:
        """The round that validation chose; the last finished one while the run is not."""
        result = self.store.result()
        if result is not None:
            return int(result["chosen_round"])
        finished = self.store.arms("rounds")
        if not finished:
            raise DataError(f"{self.folder} has no trained model yet: go on with rsir run --resume")
        return int(finished[-1].folder.name)

    def model(self, round_index: int | None = None, arm: str = "rounds") -> SequenceModel:
        """A trained network, in evaluation mode; default the chosen round's."""
        k = self.chosen_round() if round_index is None else round_index
        self._refuse_unfinished(arm, k)
        model = build_model(shape_of(self.config, arm, k), len(self.interactions.items))
        self.store.arm(arm, k).load_weights(model)
        return model.eval()

    def training_data(self, last: int) -> list[Sequences]:
        """D_0 … D_last: what the models of rounds 0 … last were trained on; these rounds are finished."""
        observed, keep = self.split().train, self.config.recursion.synthetic
        data = [observed]
        for k in range(1, last + 1):
            made = from_frame(self.store.arm("rounds", k).frame("synthetic"), self.interactions, data[-1])
            data.append(enriched(observed, data[-1], made, keep))
        return data

    def writer(self, round_index: int) -> SequenceModel:
        """Who generates and judges after a round: its model and the further bases, as one."""
        self._refuse_unfinished("rounds", round_index)
        lineage = Lineage(self.config, self.store, len(self.interactions.items), "cpu", None)
        return lineage.teacher("rounds", round_index + 1)

    def backward_writer(self) -> SequenceModel | None:
        """Who puts earlier items before histories: the model of reversed sequences; None if there is none."""
        return self.model(1, "reversed") if self.store.arm("reversed", 1).done else None

    def _refuse_unfinished(self, arm: str, k: int) -> None:
        if not self.store.arm(arm, k).done:
            raise DataError(f"{self.folder} has no finished round {k} of {arm}")

    def recommend(
        self,
        users: Sequence[str | int] | None = None,
        histories: Sequence[Sequence[str | int]] | None = None,
        *,
        n: int = 10,
        repeats: bool = False,
        batch_size: int = 1024,
    ) -> pl.DataFrame:
        """The n best next items for known users, or after histories given on the spot.

        Args:
            users: external ids of users in the log; their whole history counts.
            histories: external item ids, oldest first.
            n: items for each.
            repeats: also recommend items already in the history.
            batch_size: histories scored at once.

        Returns:
            Columns `user` (or `history`, its number), `rank`, `item`, `score`.

        Raises:
            UnknownIdError: for an id that never occurred.
        """
        if (users is None) == (histories is None):
            raise ConfigError("give either users or histories")
        rows, label, names = self._histories(users, histories)
        if n < 1 or n > len(self.interactions.items):
            raise ConfigError(f"n = {n} must be from 1 to the {len(self.interactions.items)} items there are")
        model, parts = self.model(), []
        with torch.inference_mode():
            for block in torch.arange(len(rows)).split(batch_size):
                part = rows.select(block)
                scores = model.score(part)
                if not repeats:
                    scores[part.row, part.values] = -torch.inf
                items = top_items(scores, n)
                parts.append((block.repeat_interleave(n), items.flatten(), scores.gather(1, items).flatten()))
        row, item, score = (torch.cat(part) for part in zip(*parts, strict=True))
        frame = pl.DataFrame(
            {
                label: names.gather(row.numpy()),
                "rank": (torch.arange(len(row)) % n + 1).numpy(),
                "item": self.interactions.items.ids_of(item),
                "score": score.numpy(),
            }
        )
        return frame.filter(pl.col("score").is_finite())

    def _histories(
        self, users: Sequence[str | int] | None, histories: Sequence[Sequence[str | int]] | None
    ) -> tuple[Ragged, str, pl.Series]:
        if users is not None:
            index = self.interactions.users.index_of(list(users))
            rows, label = self.interactions.ragged.select(index), "user"
            names = self.interactions.users.ids_of(index)
        else:
            given = [list(history) for history in histories or ()]
            if not given or not all(given):
                raise DataError("a history needs at least one item")
            lengths = torch.tensor([len(history) for history in given])
            flat = self.interactions.items.index_of([item for history in given for item in history])
            rows, label = Ragged.from_lengths(flat, lengths), "history"
            names = pl.Series(range(1, len(given) + 1), dtype=pl.Int64)
        if not len(rows):
            raise DataError("no user was given")
        return rows, label, names

    def summary(self) -> dict[str, Any]:
        """The run in one JSON object; the contract of `rsir run --json` (docs/formats.md)."""
        facts, result = self.store.data_facts, self.store.result() or {}
        state = self.store.status()
        return {
            "status": "completed" if result else state.get("status", "interrupted"),
            "run": str(self.folder),
            "data": {key: facts[key] for key in ("users", "items", "events", "fingerprint")},
            "bases": [self._round("bases", k + 1) for k in range(len(self.store.arms("bases")))],
            "reversed": [self._round("reversed", 1)] if self.store.arm("reversed", 1).done else [],
            "rounds": [self._round("rounds", k) for k in range(len(self.store.arms("rounds")))],
            "control": [self._round("control", k + 1) for k in range(len(self.store.arms("control")))],
            "controls": {
                name.removeprefix("controls/"): [
                    self._round(name, k + 1) for k in range(len(self.store.arms(name)))
                ]
                for name in self.store.control_arms()
            },
            "chosen_round": result.get("chosen_round"),
            "stop_reason": result.get("stop_reason"),
            "advice": result.get("advice"),
            "comparison": result.get("comparison", {}),
            "seconds": state.get("seconds"),
            "peak_rss_bytes": state.get("peak_rss_bytes"),
        }

    def _round(self, arm: str, k: int) -> dict[str, Any]:
        folder = self.store.arm(arm, k)
        record, test = folder.record(), folder.test()
        generation = folder.generation() or {}
        return {
            "round": record["round"],
            "origin": record["origin"],
            "sequences": record["sequences"],
            "admitted": record["admitted"],
            "updates": record["updates"],
            "seconds": round(record["seconds"]["train"] + generation.get("seconds", 0.0), 3),
            "valid": record["valid"],
            "test": test["metrics"] if test else None,
        }
