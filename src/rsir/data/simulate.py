"""Simulated users whose preferences are known, so that leakage and the best score can be measured.

A user likes a few topics, drifts among them, acts in sessions that keep to one topic, and in a
session mostly takes an item that follows the last one; now and then an event is noise. The
law is a closed form (`truth.py`), and every draw is keyed by user, step and attempt: more
users or another chunk size change no one's history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
import torch
from torch import Tensor

from rsir.data.simulation import SimulationConfig
from rsir.data.topics import TopicRings
from rsir.data.truth import Truth, drifted
from rsir.ragged import Ragged
from rsir.rng import hash_scalar, uniform

__all__ = ["Simulation", "SimulationConfig", "Truth", "simulate"]

_START = 1_356_998_400
"""2013-01-01 in seconds: where the log begins."""
_JOIN, _BETWEEN, _WITHIN = 180 * 86_400, 7 * 86_400, 300
"""Mean seconds until a user's first event, until a new session, and until the next event of a session."""


@dataclass(frozen=True)
class Simulation:
    """A simulated log and the truth behind it.

    Attributes:
        frame: columns `user_id` ("u0017"), `item_id` ("i042"), `timestamp` (seconds, int64), by
            user, oldest event first; a user's timestamps are all different.
        truth: what the users truly like, and the law of their next item.
    """

    frame: pl.DataFrame
    truth: Truth


class _Users(NamedTuple):
    """A chunk of B users; `number` is the user index, tastes as in `Truth`."""

    number: Tensor
    length: Tensor
    topics: Tensor
    first_tastes: Tensor
    last_tastes: Tensor


class _Events(NamedTuple):
    """The events of a chunk, flat, and the topic and time of each."""

    items: Tensor
    topics: Tensor
    seconds: Tensor


def simulate(config: SimulationConfig, seed: int, chunk: int = 65_536) -> Simulation:
    """Draw a world and the log of its users.

    Args:
        config: what the world is like.
        seed: fixes everything; the same seed gives the same log.
        chunk: users drawn at a time; bounds the memory and changes no number.

    >>> simulate(SimulationConfig(num_users=3), seed=0).frame.columns
    ['user_id', 'item_id', 'timestamp']
    """
    skew, followers = config.popularity_skew, config.num_successors
    rings = TopicRings.draw(config.num_items, config.num_topics, skew, followers, seed)
    chunks = [_draw_users(config, n, seed) for n in torch.arange(config.num_users).split(chunk)]
    drawn = [_draw_events(config, rings, users, seed) for users in chunks]
    users = _Users(*map(torch.cat, zip(*chunks, strict=True)))
    items, topics, seconds = map(torch.cat, zip(*drawn, strict=True))
    events = Ragged.from_lengths(items, users.length)
    truth = Truth(config, rings, users.topics, users.first_tastes, users.last_tastes, events, topics)
    return Simulation(_frame(truth, seconds), truth)


def _frame(truth: Truth, seconds: Tensor) -> pl.DataFrame:
    """The log in external ids."""
    user, item = truth.user_names(), truth.item_names()
    return pl.DataFrame(
        {
            "user_id": user.gather(truth.events.row.numpy()),
            "item_id": item.gather(truth.events.values.numpy()),
            "timestamp": seconds.numpy(),
        }
    )


def _draw_users(config: SimulationConfig, number: Tensor, seed: int) -> _Users:
    """Length and tastes: topics at random, Dirichlet(1) shares, a geometric number of events."""

    def draw(name: str, width: int) -> Tensor:
        return uniform(hash_scalar(seed, "simulate", name), number[:, None], torch.arange(width))

    def tastes(name: str) -> Tensor:
        weights = 1e-3 - torch.log1p(-draw(name, config.topics_per_user))
        return weights / weights.sum(1, keepdim=True)

    topics = draw("topics", config.num_topics).topk(config.topics_per_user, dim=1).indices
    extra = config.mean_events - config.min_events
    more = torch.log1p(-draw("length", 1)[:, 0]) / math.log(extra / (1 + extra)) if extra else 0 * number
    length = (config.min_events + more.floor().long()).clamp(max=config.max_events)
    return _Users(number, length, topics, tastes("first"), tastes("last"))


def _draw_events(config: SimulationConfig, rings: TopicRings, users: _Users, seed: int) -> _Events:
    """All events of a chunk, one step of all its users at a time.

    Without repeats an event whose item was seen is drawn anew, which is the law restricted to
    the unseen items.
    """
    longest = int(users.length.max())
    items_BT, topic_BT, gap_BT = torch.full((3, len(users.number), longest), -1).unbind()
    for step in range(longest):
        pending, attempt = torch.nonzero(users.length > step)[:, 0], 0
        while len(pending):
            some = _Users(*(values[pending] for values in users))
            last_item, last_topic = items_BT[pending, step - 1], topic_BT[pending, step - 1]
            item, topic, gap = _draw_step(config, rings, some, step, attempt, last_item, last_topic, seed)
            items_BT[pending, step], topic_BT[pending, step], gap_BT[pending, step] = item, topic, gap
            seen = (items_BT[pending, :step] == item[:, None]).any(1)
            pending, attempt = pending[seen & (not config.repeats)], attempt + 1
    real = torch.arange(longest) < users.length[:, None]
    return _Events(items_BT[real], topic_BT[real], (_START + gap_BT.cumsum(1))[real])


def _draw_step(
    config: SimulationConfig,
    rings: TopicRings,
    users: _Users,
    step: int,
    attempt: int,
    last_item: Tensor,
    last_topic: Tensor,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One event of each user by the law of `truth.py`: item, topic of the session, seconds since the last."""
    kind, where, which, pause = (
        uniform(hash_scalar(seed, "simulate", name), users.number, step, attempt)
        for name in ("kind", "topic", "item", "pause")
    )
    share = config.drift * step / (users.length - 1).clamp(min=1)
    tastes = drifted(users.first_tastes, users.last_tastes, share)
    liked = torch.searchsorted(tastes.cumsum(1), where[:, None], right=True)
    fresh = users.topics.gather(1, liked.clamp(max=config.topics_per_user - 1))[:, 0]

    noise = config.noise_share
    new = noise + (1 - noise) / config.session_length
    follow = new + (1 - noise) * (1 - 1 / config.session_length) * config.follow_share
    starts = (kind >= noise) & (kind < new) if step else torch.ones_like(kind, dtype=torch.bool)
    topic = torch.where(starts, fresh, last_topic)
    follows = ~starts & (kind >= noise) & (kind < follow) & (rings.topic[last_item] == topic)

    item = torch.where(follows, rings.pick_successor(last_item, which), rings.pick_popular(topic, which))
    item = torch.where(kind < noise, (which * config.num_items).long(), item)
    mean_pause = torch.where(starts, _JOIN if step == 0 else _BETWEEN, _WITHIN)
    return item, topic, 1 + (-torch.log1p(-pause) * mean_pause).long()
