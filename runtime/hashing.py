"""SHA-256 without OpenSSL, which hashlib loads: that takes 5 MB, and as long as hashing a bundle does without it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

_MODULES = ("_sha2", "_sha256", "hashlib")  # which have it: in Python from 3.12 on, before, and in any


def sha256(content: bytes) -> str:
    """The hash of some bytes in hexadecimal digits."""
    algorithms = sys.modules.get("hashlib", _algorithms)  # OpenSSL's is several times as fast once it is loaded
    return str(algorithms.sha256(content).hexdigest())


def _first_there() -> Any:
    for name in _MODULES[:-1]:
        try:
            return import_module(name)
        except ImportError:  # a Python of another version, or without algorithms of its own
            continue
    return import_module(_MODULES[-1])


_algorithms = _first_there()
