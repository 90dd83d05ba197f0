import pytest
import torch

from rsir.errors import ConfigError
from rsir.models.ensemble import Ensemble
from rsir.models.sasrec import SASRec, SASRecConfig
from rsir.ragged import Ragged


def member(seed: int, num_items: int = 30, **shape: object) -> SASRec:
    torch.manual_seed(seed)
    return SASRec(num_items, SASRecConfig(dim=8, init_std=0.3, **shape)).double().eval()


def test_its_scores_are_the_mean_of_its_members_scores() -> None:
    members = [member(0), member(1, dropout=0.1), member(2, num_blocks=1)]
    histories = Ragged.from_lists([[1, 2, 3], [4]])
    expected = torch.stack([one.score(histories) for one in members]).mean(0)
    torch.testing.assert_close(Ensemble(members).score(histories), expected)


def test_it_goes_on_by_one_item_as_its_members_do() -> None:
    both = Ensemble([member(0), member(1, num_blocks=1)])
    prefixes, memory = torch.tensor([[1, 2, 3], [4, 5, 6]]), None
    for place in range(3):
        states, memory = both.advance(prefixes[:, place], memory)
    torch.testing.assert_close(states, both.encode_last(Ragged.from_lists(prefixes.tolist())))
    assert not Ensemble([member(0), member(1, positions="from_end")]).incremental


def test_members_must_share_a_catalogue() -> None:
    with pytest.raises(ConfigError, match=r"30, 31"):
        Ensemble([member(0), member(1, num_items=31)])
