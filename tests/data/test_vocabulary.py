import polars as pl
import pytest
import torch

from rsir.data.vocabulary import Vocabulary, text_to_integers
from rsir.errors import DataError, UnknownIdError


def test_ids_are_numbered_by_first_appearance():
    vocabulary, index = Vocabulary.encode(pl.Series(["b", "a", "b", "c"]))
    assert vocabulary.ids.to_list() == ["b", "a", "c"]
    assert index.to_list() == [0, 1, 0, 2]


def test_ids_come_back_unchanged():
    given = pl.Series([5, -3, 2**62])
    vocabulary, _ = Vocabulary.encode(given)
    assert vocabulary.ids_of(vocabulary.index_of(given)).to_list() == given.to_list()


def test_ids_match_by_their_text():
    integers, texts = Vocabulary(pl.Series([7, 5])), Vocabulary(pl.Series(["5", "05"]))
    assert integers.index_of(["5", "7"]).tolist() == [1, 0]
    assert texts.index_of([5]).tolist() == [0]
    with pytest.raises(UnknownIdError):
        integers.index_of(["05"])


def test_no_ids_have_no_indices():
    assert Vocabulary(pl.Series(["a"])).index_of([]).dtype == torch.int64


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["laamp"], "'laamp' never occurred in the data; the nearest known id is 'lamp'"),
        (["zzz"], "'zzz' never occurred in the data; check the ids"),
        (["p", "lamp", "q", "r", "s"], "'p', 'q', 'r' and 1 more never occurred"),
        ([1.5], "1.5 never occurred"),
        ([None], "None never occurred"),
    ],
)
def test_unknown_ids_are_named(wanted, message):
    with pytest.raises(UnknownIdError, match=message):
        Vocabulary(pl.Series(["book", "lamp"])).index_of(wanted)


@pytest.mark.parametrize("ids", [pl.Series(["a", "a"]), pl.Series(["a", None]), pl.Series([1.0, 2.0])])
def test_a_vocabulary_refuses_what_is_no_id(ids):
    with pytest.raises(DataError):
        Vocabulary(ids)


def test_only_canonical_integers_become_integers():
    texts = ["0", "-1", "-0", "+1", "01", " 1", "1.0", "9223372036854775807", "9223372036854775808"]
    assert text_to_integers(pl.Series(texts)).to_list() == [
        0,
        -1,
        None,
        None,
        None,
        None,
        None,
        2**63 - 1,
        None,
    ]
