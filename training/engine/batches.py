"""Training data in memory and the order in which each epoch reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from runtime import datasets
from runtime.errors import ToolkitError
from training import parallel, tensor_files
from training.options import Options


class TensorRows(Dataset[tuple[Tensor, ...]]):
    """Tensors of equal length in memory, read many rows at a time."""

    def __init__(self, *tensors: Tensor) -> None:
        """ValueError where they are not of equal length."""
        if len({len(tensor) for tensor in tensors}) > 1:
            raise ValueError(f"rows of tensors of {', '.join(str(len(tensor)) for tensor in tensors)}")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[torch.as_tensor(rows)] for tensor in self.tensors)

    def sha256(self) -> str:
        """The hash of all rows, as tensor_files has it."""
        return tensor_files.checksum({str(place): tensor for place, tensor in enumerate(self.tensors)}, {})


def check_batch_size(examples: int, size: int) -> None:
    """ToolkitError where so many examples do not fill a joined batch, or the processes can't share it evenly."""
    if examples < size:
        raise ToolkitError(f"{examples} training examples do not fill one batch of {size}")
    if size % parallel.count():
        raise ToolkitError(f"a batch of {size} can't be divided evenly among {parallel.count()} processes")


def image_parts(dataset: datasets.Dataset, root: Path, batch_size: int) -> tuple[TensorRows, dict[str, TensorRows]]:
    """Rows of images as image_rows gives them: those to train on, and by name those to measure on.

    ToolkitError where the first do not fill a batch, as check_batch_size says.
    """
    name, *others = datasets.PARTS
    train = image_rows(dataset, root, name)
    check_batch_size(len(train), batch_size)
    return train, {part: image_rows(dataset, root, part) for part in others}


def image_rows(dataset: datasets.Dataset, root: Path, part: datasets.Part) -> TensorRows:
    """Images uint8 (N, 1, 28, 28) and labels (N,) of a part."""
    data = datasets.load(dataset, root, part)
    return TensorRows(torch.from_numpy(data.images)[:, None], torch.from_numpy(data.labels))


class EpochBatches:
    """Joined batches in the random order of each epoch, of which this process reads its share."""

    def __init__(self, data: TensorRows, options: Options) -> None:
        check_batch_size(len(data), options.batch_size)
        self._generator, self._seed = torch.Generator(), options.seed
        self._rows = BatchSampler(RandomSampler(data, generator=self._generator), options.batch_size, drop_last=True)
        self._loader = DataLoader(
            data,
            sampler=_Shares(self._rows),
            batch_size=None,
            num_workers=options.num_workers,
            persistent_workers=options.num_workers > 0,
            generator=torch.Generator(),  # so that it takes nothing from the networks' random numbers
        )

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, epoch: int) -> Iterable[tuple[Tensor, ...]]:
        self._generator.manual_seed(epoch_seed(self._seed, epoch))
        return self._loader


class _Shares(Sampler[list[int]]):
    """The rows of each batch that are this process's."""

    def __init__(self, batches: BatchSampler) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return map(parallel.share, self._batches)


def epoch_seed(seed: int, epoch: int) -> int:
    """Distinct for every epoch of a run, and unlike those of the next seed."""
    return (seed * 1_000_003 + epoch + 1) % 2**63
