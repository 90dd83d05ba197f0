"""A network that looks at later events takes part too, trained on the last place of each prefix."""

import pytest
import torch
from torch import Tensor, nn

from rsir.data.sequences import Sequences
from rsir.errors import ConfigError
from rsir.models.base import SequenceModel
from rsir.ragged import Ragged
from rsir.train import TrainingConfig, fit

V = 6


class Neighbours(SequenceModel):
    """State = last item's vector and the mean of the whole row: later events show in earlier states."""

    causal = False

    def __init__(self) -> None:
        super().__init__()
        self.num_items, self.max_length = V, 5
        self.item, self.out = nn.Embedding(V, 8), nn.Embedding(V, 8)

    def encode(self, histories: Ragged) -> Tensor:
        x = self.item(histories.values)
        total = x.new_zeros(len(histories), x.shape[1]).index_add(0, histories.row, x)
        return x + (total / histories.lengths[:, None])[histories.row]

    def item_vectors(self) -> Tensor:
        return self.out.weight


def rows() -> Sequences:
    return Sequences.observed(Ragged.from_lists([[(i + k) % V for k in range(4)] for i in range(V)] * 5), V)


def learn(targets: str) -> Neighbours:
    torch.manual_seed(0)
    model = Neighbours()
    training = TrainingConfig(
        targets=targets, batch_size=32, learning_rate=0.05, warmup=0, max_periods=2, min_period=40
    )
    fit(model, rows(), training, lambda _: {"ndcg@10": 0.0}, seed=0, budget=80)
    return model


def test_it_does_see_later_events() -> None:
    model = Neighbours()
    short, long = (model.encode(Ragged.from_lists([row]))[0] for row in ([1, 2], [1, 2, 3]))
    assert not torch.allclose(short, long)


def test_every_place_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Neighbours sees later events.*training\.targets=last"):
        learn("every")


def test_the_last_place_of_each_prefix_is_learnt() -> None:
    model = learn("last")
    best = model.score(Ragged.from_lists([[(i - 1) % V, i] for i in range(V)])).argmax(1)
    assert best.tolist() == [(i + 1) % V for i in range(V)]
