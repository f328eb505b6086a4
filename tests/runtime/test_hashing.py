import hashlib
import sys
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import hashing


@pytest.mark.parametrize("algorithms", [hashlib, hashing._algorithms])
@given(content=st.binary(max_size=1000))
def test_is_sha256_with_openssl_and_without(algorithms, content):
    with patch.dict(sys.modules, {"hashlib": algorithms}):
        found = hashing.sha256(content)
    assert found == hashlib.sha256(content).hexdigest()


def test_a_python_without_algorithms_of_its_own_takes_those_of_hashlib(monkeypatch):
    for name in ("_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, name, None)
    assert hashing._first_there() is hashlib
