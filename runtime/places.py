"""Where bundles lie: in folders of their own or packed, shipped beside this package or anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import BundleError
from .manifests import MANIFEST

SUFFIX = ".tar.xz"  # of packed bundles
SHIPPED = Path(__file__).resolve().parent.parent / "models_onnx"


def is_packed(path: Path | str) -> bool:
    """Whether a path is, by its ending, that of a packed bundle."""
    return str(path).lower().endswith(SUFFIX)


def shipped() -> list[str]:
    """The names of the bundles beside this package."""
    return names_within(SHIPPED)


def names_within(root: Path) -> list[str]:
    """The names of the bundles that lie in a folder."""
    packed = {path.name.removesuffix(SUFFIX) for path in root.glob(f"*{SUFFIX}") if path.is_file()}
    names = packed | {path.parent.name for path in root.glob(f"*/{MANIFEST}")}
    return sorted(name for name in names if not name.startswith("."))  # as those are that are still being written


def is_bare_name(name: str | Path) -> bool:
    """Whether this may be a bundle's name, rather than a path."""
    return os.path.basename(name) == str(name) and str(name) not in ("", ".", "..")  # noqa: PTH119 - keeps a last "/"


def within(root: Path, name: str | Path) -> Path | None:
    """Where the bundle of this name lies in a folder, in one of its own or packed; None where there is none."""
    folder, file = root / name, root / f"{name}{SUFFIX}"
    if os.path.isfile(folder / MANIFEST):  # noqa: PTH113 - takes names too long for a file
        return folder
    return file if os.path.isfile(file) else None  # noqa: PTH113


def as_text(path: Path) -> str:
    """A path as a text that `locate` does not take for a shipped name: "./MNIST" of Path("MNIST")."""
    return f"./{path}" if is_bare_name(path) and within(SHIPPED, path) else str(path)


def locate(name: str | Path) -> Path:
    """Where a bundle lies: a shipped one by its name, any by the path of its folder or of the file it is packed in.

    A text is a name where nothing in it says that it is a path: not "./MNIST", nor "MNIST/". A Path may be either, and
    is a path where something lies there. Raises BundleError, which lists the shipped ones.
    """
    if is_packed(name) and os.path.isfile(name):  # noqa: PTH113
        return Path(name)
    by_name, by_path = within(SHIPPED, name) if is_bare_name(name) else None, within(Path(), name)
    found = by_path or by_name if isinstance(name, Path) else by_name or by_path
    if found is None:
        raise BundleError(
            f"no bundle {str(name)!r}: neither shipped ({', '.join(shipped()) or 'none'}), nor a folder with a "
            f"{MANIFEST}, nor a {SUFFIX} of one that can be read"
        )
    return found
