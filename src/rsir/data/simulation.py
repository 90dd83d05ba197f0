"""What a simulated world is made of, and which worlds are possible."""

from __future__ import annotations

from pydantic import Field, model_validator

from rsir.settings import Settings


class SimulationConfig(Settings):
    """The simulated world. The defaults give some 16,000 events: sparse, and quick to learn from."""

    num_users: int = Field(2000, ge=1, description="users")
    num_items: int = Field(1000, ge=2, description="items of the catalogue")
    mean_events: float = Field(8.0, ge=1, description="mean events a user (before the cap of max_events)")
    min_events: int = Field(5, ge=1, description="fewest events of a user")
    max_events: int = Field(50, ge=1, description="most events of a user")
    num_topics: int = Field(20, ge=1, description="topics; each item belongs to one")
    topics_per_user: int = Field(3, ge=1, description="topics a user likes")
    popularity_skew: float = Field(0.6, ge=0, le=2, description="exponent of Zipf's law of item popularity")
    session_length: float = Field(4.0, ge=1, description="mean events of a session, which keeps one topic")
    follow_share: float = Field(0.7, ge=0, le=1, description="chance in a session to follow the last item")
    num_successors: int = Field(4, ge=1, description="items that may follow an item, each half as likely")
    drift: float = Field(0.5, ge=0, le=1, description="how far tastes move from first to last event")
    noise_share: float = Field(0.05, ge=0, lt=1, description="chance of an event that is a random item")
    repeats: bool = Field(False, description="whether a user may take an item twice")

    @model_validator(mode="after")
    def _possible(self) -> SimulationConfig:
        smallest = self.num_items // self.num_topics
        if not self.min_events <= self.mean_events <= self.max_events:
            raise ValueError(
                f"mean_events is {self.mean_events}; it must lie between min_events and max_events"
            )
        if self.topics_per_user > self.num_topics:
            raise ValueError(f"topics_per_user is {self.topics_per_user}; there are {self.num_topics} topics")
        if smallest <= self.num_successors:
            raise ValueError(
                f"num_items / num_topics is {smallest}; a topic needs more items than num_successors"
                f" ({self.num_successors}): lower num_topics"
            )
        if not self.repeats and smallest * self.topics_per_user < 2 * self.max_events:
            raise ValueError(
                f"a user's topics hold {smallest * self.topics_per_user} items; without repeats they must"
                f" hold at least 2 * max_events = {2 * self.max_events}: lower max_events or num_topics"
            )
        return self
