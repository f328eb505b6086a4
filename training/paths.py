"""Where checkpoints lie: ``checkpoints/MODEL/VERSION/NAME.safetensors`` of the current directory. Needs no torch.

MODEL is a Dataset.model_name, such as MNIST-nano; VERSION "dev", the scratch checkpoint of the last training, or
"main"; NAME "autoencoder", "vae", or "autoencoder-flow", "vae-flow" for the flow on that one's latents,
"autoencoder-generator", "vae-generator" for what is distilled from both, or "classifier". A decoder is in its
autoencoder's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from runtime import hashing

Version = Literal["dev", "main"]
VERSIONS: tuple[Version, ...] = get_args(Version)
Bits = Literal["int8", "int5", "int4"]  # of weights, see training.engine.rounding
KINDS = ("autoencoder", "vae")  # of autoencoders
FOLDER = Path("checkpoints")
CLASSIFIER, DECODER = "classifier", "decoder"


def checkpoint_path(model: str, version: Version, name: str) -> Path:
    """Where the checkpoint `name` of a model lies."""
    return FOLDER / model / version / f"{name}.safetensors"


def flow_name(autoencoder: str) -> str:
    """The name of the flow on the latents of "autoencoder" or "vae"."""
    return f"{autoencoder}-flow"


def generator_name(autoencoder: str) -> str:
    """The name of the generator distilled from the flow on the latents of "autoencoder" or "vae"."""
    return f"{autoencoder}-generator"


def log_path(checkpoint: Path) -> Path:
    """The training log beside a checkpoint."""
    return checkpoint.with_suffix(".jsonl")


def snapshot_path(checkpoint: Path) -> Path:
    """The state of an unfinished training beside its checkpoint."""
    return checkpoint.with_suffix(".snapshot")


def interrupted(model: str) -> list[Path]:
    """The states of a model's unfinished trainings."""
    return sorted((FOLDER / model / "dev").glob("[!.]*.snapshot"))


def sha256(path: Path) -> str:
    """The hash by which bundles name the checkpoints they came from."""
    return hashing.sha256(path.read_bytes())
