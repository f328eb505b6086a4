"""Bundles in one file: the folder in a tar archive, compressed by xz, of which `tar -xf` makes the folder again."""

from __future__ import annotations

import io
import lzma
import os
import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

from .errors import BundleError
from .files import written_aside

_MAX_BYTES = 1 << 28  # of all files together
# A dictionary as large as needed, and contexts that suit weights better than text.
_FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 23, "lc": 4, "pb": 0}
_NICE_LENGTHS = (64, 128, 273)  # of matches that xz takes without looking further: which is best depends on the files


def write(files: Mapping[str, bytes], path: Path, folder: str) -> None:
    """Write files, contents by name, as one that unpacks to a folder; the same files give the same bytes.

    The smallest come first: xz learns from them what small files are like, and then what weights are.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items(), key=lambda file: len(file[1])):
            facts = tarfile.TarInfo(f"{folder}/{name}")
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    filters = [_FILTER | {"nice_len": length} for length in _NICE_LENGTHS]
    packed = min((lzma.compress(archive.getvalue(), filters=[each]) for each in filters), key=len)
    with written_aside(path) as aside:
        aside.write_bytes(packed)


def read(path: Path) -> dict[str, bytes]:
    """Contents by name, of files in one folder or in none.

    Raises BundleError, naming the file, where it is damaged or holds anything but files and that folder.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(_MAX_BYTES)
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_BYTES)
        content = decompressor.decompress(compressed, _MAX_BYTES)
        if not decompressor.eof:
            raise BundleError(f"{path} is damaged: it is cut off, or unpacks to more than {_MAX_BYTES >> 20} MB")
        if decompressor.unused_data:
            raise BundleError(f"{path} is damaged: it has {len(decompressor.unused_data):,} bytes to spare")
        return _files(content)
    except (lzma.LZMAError, tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise BundleError(f"{path} can't be read: {error.strerror}") from error


def unpacked(files: Mapping[str, bytes], owner: object) -> Path:
    """A temporary folder with these files, contents by name, that goes when its owner does; OSError where it can't."""
    folder = Path(tempfile.mkdtemp(prefix="bundle."))
    weakref.finalize(owner, _remove, folder, os.getpid())
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _remove(folder: Path, process: int) -> None:
    """Remove a folder that a process has made; another one that was forked from it leaves it alone."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _files(content: bytes) -> dict[str, bytes]:
    """The files of a tar archive, in one folder or in none."""
    found: dict[str, bytes] = {}
    folders = set()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            if member.isdir():
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse() or name in found:
                raise ValueError(f"{member.name!r} is no plain file, or is there twice")
            if member.size > len(content):
                raise ValueError(f"{member.name!r} is cut off")
            folders.add(folder)
            part = tar.extractfile(member)
            found[name] = part.read() if part else b""
    if len(folders) > 1:
        raise ValueError("its files lie in more than one folder")
    return found
