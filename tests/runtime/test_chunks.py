import os
import threading

import numpy as np
import pytest

from runtime.chunks import CHUNK, WORTHWHILE, in_chunks


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [0, 1, WORTHWHILE, 2 * WORTHWHILE, 64, CHUNK, CHUNK + 1, 1000])
def test_every_row_comes_once_and_in_order_in_pieces_of_bounded_size(rows, threads):
    pieces = in_chunks(lambda each: np.arange(rows)[each], rows, threads)
    assert np.concatenate([np.empty(0), *pieces]).tolist() == list(range(rows))
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    assert len(pieces) < 2 or min(map(len, pieces)) >= WORTHWHILE


def test_pieces_are_worked_on_side_by_side():
    meeting = threading.Barrier(2, timeout=10)
    assert in_chunks(lambda _: meeting.wait() >= 0, 2 * WORTHWHILE, 2) == [True, True]


def test_few_rows_stay_on_the_callers_thread():
    assert in_chunks(lambda _: threading.get_ident(), WORTHWHILE, 4) == [threading.get_ident()]


def test_what_goes_wrong_in_a_thread_is_raised():
    def fail(rows):
        if rows.start:
            raise ValueError("no such rows")

    with pytest.raises(ValueError, match="no such rows"):
        in_chunks(fail, 64, 2)


def test_after_an_error_no_more_is_begun():
    begun, error = [], threading.Event()

    def work(rows):
        if rows.start == 0:
            raise ValueError("the first rows")
        error.wait(1)
        begun.append(rows.start)

    with pytest.raises(ValueError, match="the first rows"):
        in_chunks(work, 20 * CHUNK, 2)
    error.set()
    in_chunks(lambda _: None, 2 * WORTHWHILE, 2)  # after all that the worker had to do
    assert len(begun) <= 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own():
    def first(rows):
        return rows.start

    in_chunks(first, 64, 2)
    child = os.fork()
    if child == 0:
        os._exit(0 if in_chunks(first, 64, 2) == [0, 32] else 1)
    assert os.waitpid(child, 0)[1] == 0
