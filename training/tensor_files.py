"""Safetensors files with JSON metadata and a checksum over both, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from runtime.errors import ToolkitError, one_line
from runtime.files import written_aside

CHECKSUM = "checksum"


class TensorFileError(ToolkitError):
    """A file of tensors is damaged, or can't be made."""


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON-ready metadata, making the folder if need be. TensorFileError where there is too much."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    try:
        content = save(tensors, texts | {CHECKSUM: checksum(tensors, texts)})
    except SafetensorError as error:
        raise TensorFileError(f"{path} can't be written: {one_line(error)}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        aside.write_bytes(_in_order(content))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata. Raises TensorFileError where the file is damaged in any byte."""
    try:
        with safe_open(path, framework="pt") as file:
            texts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        fits = texts.pop(CHECKSUM, None) == checksum(tensors, texts)
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise TensorFileError(f"{path} is damaged: {one_line(error)}") from error
    if not fits:
        raise TensorFileError(f"{path} is damaged: its checksum does not fit its content")
    metadata = {key: json.loads(text) for key, text in texts.items()}
    return tensors, metadata


def checksum(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    """The SHA-256 of names, types, shapes and bytes of tensors, and of metadata, in order of names."""
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata, which `save` has in any order, in that of names: equal files are equal."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]
