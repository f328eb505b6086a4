"""``pack``: a bundle in one file."""

from __future__ import annotations

from pathlib import Path

from commands.models import bundle_called
from runtime import bundle as bundles
from runtime.places import SUFFIX


def pack(name: str, output: Path | None) -> str:
    """Write the bundle called `name`, or at that path, as one file; returns a line."""
    bundle = bundle_called(name)
    path = output or Path(f"{bundle.name}{SUFFIX}")
    bundles.pack(bundle, path)
    return f"{path}: {bundle.name} in {path.stat().st_size:,} bytes"
