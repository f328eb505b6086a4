import hashlib
import sys

from hypothesis import given
from hypothesis import strategies as st

from runtime import hashing


@given(st.binary(max_size=1000))
def test_is_sha256(content):
    assert hashing.sha256(content) == hashlib.sha256(content).hexdigest()


def test_a_python_without_algorithms_of_its_own_takes_those_of_hashlib(monkeypatch):
    for name in ("_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, name, None)
    assert hashing._first_there() is hashlib
