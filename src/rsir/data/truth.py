"""What a simulated world truly is: the law of the next item, and what each user truly likes.

Law of an event of user u at step t (session topic z, previous item j, noise ε, a new session
with probability β = 1 / session_length, following with probability φ):

    p(i | u, t, z, j) = ε / V + (1 − ε) [ β Σ_c θ_u(c, t) pop(i | c)
                                        + (1 − β) ( φ succ(i | j) + (1 − φ) pop(i | z) ) ]

where pop takes the place of succ if j is not of topic z, β = 1 at the first event, and
without repeats the items already seen are struck out and the rest is normalised. θ_u(·, t) moves
in a straight line from the user's first tastes towards the last ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rsir.data.liking import Liking
from rsir.data.simulation import SimulationConfig
from rsir.data.topics import TopicRings
from rsir.errors import StoreError, UnknownIdError
from rsir.ragged import Ragged


@dataclass(frozen=True)
class Truth:
    """The latent state of a simulated world. Indices are the numbers in the ids ("u00017" is 17).

    Attributes:
        config: what the world was drawn from.
        rings: the items, their topics and popularity.
        user_topics: int64 (U, K), the topics each user likes.
        first_tastes: float64 (U, K), θ at the user's first event; rows sum to 1.
        last_tastes: float64 (U, K), where θ moves to; reached at the last event if drift is 1.
        events: `Ragged` of U rows of items, as they happened.
        session_topic: int64 (E,), the topic of the session of each event.
    """

    config: SimulationConfig
    rings: TopicRings
    user_topics: Tensor
    first_tastes: Tensor
    last_tastes: Tensor
    events: Ragged
    session_topic: Tensor

    def tastes(self, user: Tensor, step: Tensor) -> Tensor:
        """θ_u(·, t) over the user's topics at event number `step` (0 first); float64 (B, K)."""
        last = (self.events.lengths[user] - 1).clamp(min=1)
        return drifted(self.first_tastes[user], self.last_tastes[user], self.config.drift * step / last)

    def next_item_probabilities(
        self, user: Tensor, step: Tensor, topic: Tensor, previous: Tensor, seen: Ragged | None = None
    ) -> Tensor:
        """The exact law of the next event.

        Args:
            user: int64 (B,).
            step: int64 (B,), the number of the event to come, 0 first.
            topic: int64 (B,), topic of the session so far (ignored where step is 0).
            previous: int64 (B,), the item before (ignored where step is 0).
            seen: histories, struck out unless the world allows repeats.

        Returns:
            float64 (B, V); rows sum to 1.
        """
        config, rows = self.config, torch.arange(len(user))
        new = torch.where(step == 0, 1.0, 1 / config.session_length).to(torch.float64)
        follow = (1 - new) * config.follow_share * (self.rings.topic[previous] == topic)
        weight_BC = torch.zeros(len(user), config.num_topics, dtype=torch.float64)
        weight_BC.scatter_add_(1, self.user_topics[user], new[:, None] * self.tastes(user, step))
        weight_BC[rows, topic] += 1 - new - follow
        law_BV = weight_BC[:, self.rings.topic] * self.rings.popularity
        successors = self.rings.successors(previous)
        law_BV.scatter_add_(1, successors, follow[:, None] * self.rings.successor_weights)
        law_BV = config.noise_share / config.num_items + (1 - config.noise_share) * law_BV
        if seen is not None and not config.repeats:
            law_BV[seen.row, seen.values] = 0
        return law_BV / law_BV.sum(1, keepdim=True)

    def score(self, user: Tensor, histories: Ragged) -> Tensor:
        """The oracle: the true law after the first events of each user; float64 (B, V).

        `histories` must be prefixes of the users' own events and not empty: the topic of the
        session is looked up by their length.
        """
        step = histories.lengths
        topic = self.session_topic[self.events.offsets[user] + step - 1]
        previous = histories.values[histories.last]
        return self.next_item_probabilities(user, step, topic, previous, seen=histories)

    def ideal(self, cutoff: int = 10, chunk: int = 1024) -> dict[str, float]:
        """What no recommender can beat: expected leave-one-out scores of the oracle.

        The oracle knows tastes and session, which a recommender has to infer. Recall@c is the
        mean true probability of the c likeliest items, NDCG@c the same discounted by log2(rank + 1).
        """
        events = self.events
        histories = events.slice_rows(torch.zeros_like(events.lengths), events.lengths - 1)
        users = torch.nonzero(histories.lengths > 0)[:, 0]
        best = torch.zeros(cutoff, dtype=torch.float64)
        for user in users.split(chunk):
            best += self.score(user, histories.select(user)).topk(cutoff).values.sum(0)
        best /= max(len(users), 1)
        gain = torch.log2(torch.arange(2, cutoff + 2, dtype=torch.float64))
        return {f"recall@{cutoff}": float(best.sum()), f"ndcg@{cutoff}": float((best / gain).sum())}

    @cached_property
    def _liking(self) -> Liking:
        follow = (1 - 1 / self.config.session_length) * self.config.follow_share
        halfway = torch.tensor([self.config.drift / 2], dtype=torch.float64)
        tastes = drifted(self.first_tastes, self.last_tastes, halfway)
        return Liking(self.rings, self.rings.long_run(follow), self.user_topics, tastes)

    def preference(self, user: Tensor, items: Tensor) -> Tensor:
        """A user's true liking, averaged over time and free of noise; float64, sums to 1 over the items.

        `user` and `items` are broadcast together.
        """
        return self._liking.of(user, items)

    def leakage(self, user: Tensor, items: Tensor, mass: float = 0.95) -> Tensor:
        """Whether each item is off its user's true preferences; bool, `user` and `items` broadcast.

        An item leaks when it is not in the smallest set of items that holds `mass` of the
        user's `preference`. The share of leaks in generated data is the p̃ of arXiv 2602.15659.
        """
        users, place = torch.unique(user, return_inverse=True)
        return self.preference(user, items) < self._liking.threshold(users, mass)[place]

    def user_names(self) -> pl.Series:
        """The id of each user index; String (U,)."""
        return _names("u", self.config.num_users)

    def item_names(self) -> pl.Series:
        """The id of each item index; String (V,)."""
        return _names("i", self.config.num_items)

    def user_indices(self, ids: Sequence[str] | pl.Series) -> Tensor:
        """The truth's index of each user id; int64. Raises `UnknownIdError`."""
        return _indices("u", ids, self.config.num_users)

    def item_indices(self, ids: Sequence[str] | pl.Series) -> Tensor:
        """The truth's index of each item id (a vocabulary, say); int64. Raises `UnknownIdError`."""
        return _indices("i", ids, self.config.num_items)

    def save(self, folder: Path) -> None:
        """Write `truth.json` and `truth.safetensors` to the folder, which is made if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors(), folder / "truth.safetensors")
        (folder / "truth.json").write_text(json.dumps(self.config.model_dump(), indent=2) + "\n")

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "item_topic": self.rings.topic,
            "item_ring": self.rings.ring,
            "item_popularity": self.rings.popularity,
            "user_topics": self.user_topics,
            "first_tastes": self.first_tastes,
            "last_tastes": self.last_tastes,
            "events": self.events.values,
            "offsets": self.events.offsets,
            "session_topic": self.session_topic,
        }

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read what `save` wrote.

        Raises:
            StoreError: if the folder holds no truth.
        """
        if not ((folder / "truth.json").is_file() and (folder / "truth.safetensors").is_file()):
            raise StoreError(
                f"{folder} holds no truth.json and truth.safetensors; only simulated data has them"
            )
        config = SimulationConfig.model_validate_json((folder / "truth.json").read_text())
        held = load_file(folder / "truth.safetensors")
        rings = TopicRings(
            held["item_topic"], held["item_ring"], held["item_popularity"], config.num_successors
        )
        return cls(
            config=config,
            rings=rings,
            user_topics=held["user_topics"],
            first_tastes=held["first_tastes"],
            last_tastes=held["last_tastes"],
            events=Ragged(held["events"], held["offsets"]),
            session_topic=held["session_topic"],
        )


def drifted(first: Tensor, last: Tensor, share: Tensor) -> Tensor:
    """Tastes after `share` (B,) of the way from `first` to `last` (B, K)."""
    return first + share[:, None] * (last - first)


def _names(prefix: str, count: int) -> pl.Series:
    numbers = pl.int_range(count, eager=True).cast(pl.String)
    return (prefix + numbers.str.zfill(len(str(count - 1)))).alias("id")


def _indices(prefix: str, ids: Sequence[str] | pl.Series, count: int) -> Tensor:
    given = pl.Series(ids, dtype=pl.String)
    numbers = given.str.strip_prefix(prefix).cast(pl.Int64, strict=False)
    wrong = given.filter(~given.str.starts_with(prefix) | numbers.is_null() | (numbers >= count))
    if len(wrong):
        raise UnknownIdError(
            f"id {wrong[0]!r} is not of this simulation; its ids are {prefix}0 to {prefix}{count - 1},"
            " with leading zeros"
        )
    return torch.from_numpy(numbers.to_numpy().copy())
