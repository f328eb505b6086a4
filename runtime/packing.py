"""Bundles in one file: the files of the folder in a tar archive, compressed by xz, which `tar -xf` unpacks."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path

from .errors import BundleError
from .files import written_aside

SUFFIX = ".tar.xz"
_MAX_BYTES = 1 << 28  # of all files together
# A dictionary as large as needed, and contexts that suit weights better than text.
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 23, "lc": 4, "pb": 0}]


def is_packed(path: Path | str) -> bool:
    """Whether a path is, by its ending, that of a packed bundle."""
    return str(path).lower().endswith(SUFFIX)


def write(files: Mapping[str, bytes], path: Path) -> None:
    """Write files, contents by name, as one; the same files give the same bytes.

    The smallest come first: xz learns from them what small files are like, and then what weights are.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items(), key=lambda file: len(file[1])):
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    with written_aside(path) as aside:
        aside.write_bytes(lzma.compress(archive.getvalue(), filters=_FILTERS))


def read(path: Path) -> dict[str, bytes]:
    """Contents by name; BundleError, naming the file, where it is damaged or holds anything but files."""
    try:
        with path.open("rb") as file:
            compressed = file.read(_MAX_BYTES)
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_BYTES)
        content = decompressor.decompress(compressed, _MAX_BYTES)
        if not decompressor.eof:
            raise BundleError(f"{path} is damaged: it is cut off, or unpacks to more than {_MAX_BYTES >> 20} MB")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            parts = {member.name: tar.extractfile(member) for member in tar}
            return {name: part.read() for name, part in parts.items() if part is not None}
    except (lzma.LZMAError, tarfile.TarError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error.strerror}") from error
