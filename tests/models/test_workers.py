import threading

import pytest
import torch

from rsir.models.workers import side_by_side, undivided


@pytest.fixture(autouse=True)
def _threads_as_before() -> None:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_parts_are_done_in_order_by_threads_with_one_thread_each() -> None:
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)

    def act(part: int) -> tuple[int, int]:
        both.wait()  # only passed if two are at work together
        return part, torch.get_num_threads()

    assert side_by_side(act, [5, 7, 9, 11], threads=2) == [(5, 1), (7, 1), (9, 1), (11, 1)]
    assert torch.get_num_threads() == 2


def test_new_threads_begin_with_the_number_from_before() -> None:
    torch.set_num_threads(2)
    side_by_side(lambda part: part, [1, 2, 3], threads=2)
    seen: list[int] = []
    late = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert seen == [2]


def test_undivided_keeps_threads_for_parts() -> None:
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)
    with undivided() as threads:
        assert (threads, torch.get_num_threads()) == (2, 1)
        side_by_side(lambda part: both.wait(), [0, 1], threads)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_an_error_comes_out_the_others_are_told_and_the_threads_are_restored() -> None:
    torch.set_num_threads(2)
    told = threading.Event()

    def act(part: int) -> float:
        return 1 // part if part == 0 else told.wait(20)  # ends only when it is told

    with pytest.raises(ZeroDivisionError):
        side_by_side(act, [0, 1], 2, told.set)
    assert told.is_set()
    assert torch.get_num_threads() == 2
