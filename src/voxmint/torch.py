"""Data sets for training with PyTorch: instances and pairs, from any output of a run or made on the fly.

Both data sets are safe with any number of ``DataLoader`` workers, forked or spawned: files, stores and layers are
opened by the process that reads them, never handed over. What is drawn for an item depends on (seed, epoch, index)
alone, not on workers or order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.stored import StoredDataset
from voxmint.errors import InputError, MissingExtraError, RecipeError, RejectedSample
from voxmint.generators import open_remote, remote
from voxmint.randomness import Stream
from voxmint.sample import JSON, Failed, Rejected, Sampler

try:
    import torch
    from torch.utils.data import Dataset
except ImportError as error:
    raise MissingExtraError.for_package("torch", "torch") from error

Arrays = dict[str, NDArray[Any]]
Source = str | Path | Sampler
Size = tuple[int, int, int]


class _Samples:
    """Samples by index, out of a finished data set or a sampler; opened anew in every process."""

    def __init__(self, source: Source) -> None:
        self._sampler: Sampler | None = source if isinstance(source, Sampler) else None
        self._dataset = None if isinstance(source, Sampler) else StoredDataset(source)
        if self._dataset is not None:
            self._dataset.require_finished()
        self._described: JSON | None = None
        self._process = os.getpid()

    @property
    def indices(self) -> Sequence[int] | NDArray[np.int64]:
        """Indices of all samples."""
        return range(len(self._opened())) if self._dataset is None else self._dataset.records.indices

    def __getitem__(self, index: int) -> Arrays:
        if self._dataset is not None:
            return self._dataset.arrays(index)
        return dict(self._opened()[index].arrays)

    def __getstate__(self) -> JSON:
        """Return what another process needs: of a sampler its description, since layers cannot be handed over."""
        state = dict(self.__dict__)
        if self._sampler is not None:
            state |= {"_described": remote(self._sampler), "_sampler": None}
        if self._dataset is not None:
            state["_dataset"] = None
            state["_described"] = {"place": self._dataset.place.address}
        return state

    def __setstate__(self, state: JSON) -> None:
        self.__dict__.update(state)
        if self._described is not None and "place" in self._described:
            self._dataset = StoredDataset(self._described["place"])

    def _opened(self) -> Sampler:
        if self._sampler is None:
            assert self._described is not None, "a sampler, or what describes one"
            self._sampler, self._process = open_remote(self._described), os.getpid()
        elif self._process != os.getpid():
            _refuse_tensorstore(self._sampler)
            self._sampler, self._process = open_remote(remote(self._sampler)), os.getpid()
        return self._sampler


def _refuse_tensorstore(sampler: Sampler) -> None:
    """Raise before TensorStore ends the process: it allows no use after a fork."""
    if any(type(value).__module__.endswith(".readers.tensorstore") for value in vars(sampler).values()):
        raise InputError("layers read by TensorStore cannot be used in a forked worker",
                         expected="DataLoader(..., multiprocessing_context='spawn')",
                         remedy="spawn the workers, or write the data set first and train from it")  # fmt: skip


class _SampleDataset(Dataset[tuple[torch.Tensor, ...]]):
    """What both data sets share."""

    arrays: tuple[str, ...]

    def __init__(self, source: Source, indices: Sequence[int] | None) -> None:
        self._samples = _Samples(source)
        known = self._samples.indices
        self.indices = known if indices is None else [int(index) for index in indices]
        unknown = [] if indices is None else np.setdiff1d(self.indices, known)[:8].tolist()
        if unknown or not len(self.indices):
            raise InputError("no such samples" if unknown else "no samples", where=str(source), got=unknown or None,
                             expected=f"indices out of {len(known):,} samples")  # fmt: skip

    def __len__(self) -> int:
        return len(self.indices)

    def _read(self, position: int) -> tuple[int, Arrays]:
        """Return the index and the arrays of the sample at a position."""
        index = int(self.indices[position])
        arrays = self._samples[index]
        missing = [name for name in self.arrays if name not in arrays]
        if missing:
            raise InputError(f"samples of another kind, without {', '.join(missing)}", where=f"sample {index}",
                             expected=", ".join(self.arrays), got=", ".join(sorted(arrays)))  # fmt: skip
        return index, arrays


class InstanceDataset(_SampleDataset):
    """Input and target of a network that completes an instance from a few outlined slices.

    Item ``n`` is ``(input, target)``: input float32 (2, Z, Y, X), the image over 255 and the binary seed; target
    float32 (1, Z, Y, X), binary.

    Parameters
    ----------
    source : str, Path or Sampler
        The folder or URL of a finished data set in any format, or a sampler, which makes each sample when asked. A row
        that a sampler rejects raises `RejectedSample`, since a data set that shrinks by itself goes unnoticed: pass
        ``indices=usable_indices(sampler)[0]`` to leave these out. Stored data sets hold no rejected rows.
    size : three int, optional
        Size (Z, Y, X) of the items, such as (16, 256, 256): images are resized linearly, masks by nearest neighbour.
        A mask that would vanish so is shrunk by its maximum instead, together with the other one.
    augment : bool
        Flip along each axis with probability 1/2, and where Y equals X turn by a multiple of 90 degrees in the plane of
        y and x; input and target alike.
    seed : int
        Of the augmentation. With the epoch (see `set_epoch`) and the sample's index it decides what is drawn.
    indices : sequence of int, optional
        Which samples, for example those of one split; all by default.

    Raises
    ------
    InputError
        There is no finished data set, or its samples are no instances.
    """

    arrays = ("source", "seed", "target")

    def __init__(
        self,
        source: Source,
        *,
        size: Size | None = None,
        augment: bool = False,
        seed: int = 0,
        indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__(source, indices)
        if size is not None and (len(size) != 3 or min(size) < 1):
            raise RecipeError("impossible size", where="size", expected="three numbers (Z, Y, X) above 0", got=size)
        self.size, self.augment, self.seed = size, augment, int(seed)
        # shared memory: workers that live through many epochs see the number change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations from now on; call it before each epoch's loop. Persistent workers hear it too."""
        self._epoch.fill_(int(epoch))

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        index, arrays = self._read(position)
        image = torch.from_numpy(arrays["source"].astype(np.float32) / np.float32(255))
        masks = torch.from_numpy(np.stack([arrays["seed"] != 0, arrays["target"] != 0]).astype(np.float32))
        if self.size is not None and self.size != tuple(image.shape):
            image, masks = resize_image(image, self.size), resize_masks(masks, self.size)
        volumes = torch.cat([image[None], masks])
        if self.augment:
            volumes = turn(volumes, Stream(self.seed, "augment", int(self._epoch), index))
        return volumes[:2].contiguous(), volumes[2:].contiguous()


class PairDataset(_SampleDataset):
    """Two views of one label ensemble, for contrastive pretraining.

    Item ``n`` is ``(view1, view2, seg)``: both views float32 (1, I, J, K) over 255, the labels int64 (1, I, J, K).

    Parameters
    ----------
    source : str, Path or Sampler
        The folder or URL of a finished data set in any format, or a sampler, which makes each pair when asked.
    indices : sequence of int, optional
        Which pairs; all by default.

    Raises
    ------
    InputError
        There is no finished data set, or its samples are no pairs.
    """

    arrays = ("img", "seg")

    def __init__(self, source: Source, *, indices: Sequence[int] | None = None) -> None:
        super().__init__(source, indices)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        _, arrays = self._read(position)
        views = torch.from_numpy(arrays["img"].astype(np.float32) / np.float32(255))
        labels = torch.from_numpy(arrays["seg"].astype(np.int64))
        return views[:1], views[1:2], labels[None]


def usable_indices(sampler: Sampler) -> tuple[list[int], list[RejectedSample]]:
    """Make all samples of a sampler once, and return which are not rejected, and the rejections with their reasons.

    Raises
    ------
    Exception
        Whatever made a sample fail that was not rejected.
    """
    good, rejected = [], []
    for outcome in sampler.stream(range(len(sampler))):
        if isinstance(outcome, Failed):
            raise outcome.cause
        if isinstance(outcome, Rejected):
            rejected.append(outcome.error())
        else:
            good.append(outcome.index)
    return sorted(good), sorted(rejected, key=lambda one: one.index)


def resize_image(image: torch.Tensor, size: Size) -> torch.Tensor:
    """Return an image (Z, Y, X) at another size, linear between voxel centres."""
    resized = torch.nn.functional.interpolate(image[None, None], size=size, mode="trilinear", align_corners=False)
    return resized[0, 0]


def resize_masks(masks: torch.Tensor, size: Size) -> torch.Tensor:
    """Return binary masks (n, Z, Y, X) at another size.

    Each voxel takes the nearest value, between voxel centres as `resize_image` does. That may miss a single slice, so
    if any mask would vanish all are shrunk by their maximum.
    """
    resized = torch.nn.functional.interpolate(masks[None], size=size, mode="nearest-exact")[0]
    if bool((masks.flatten(1).any(dim=1) & ~resized.flatten(1).any(dim=1)).any()):
        smaller = [min(a, b) for a, b in zip(masks.shape[1:], size, strict=True)]
        pooled = torch.nn.functional.adaptive_max_pool3d(masks, smaller)
        resized = torch.nn.functional.interpolate(pooled[None], size=size, mode="nearest-exact")[0]
    return resized


def turn(volumes: torch.Tensor, stream: Stream) -> torch.Tensor:
    """Flip and turn volumes (n, Z, Y, X) alike, as drawn from ``stream``."""
    axes = [axis for axis in (1, 2, 3) if stream.chance(0.5)]
    quarters = stream.integer(0, 4)
    if volumes.shape[2] != volumes.shape[3]:
        quarters = 0  # flips along both axes are the half turn
    return torch.rot90(torch.flip(volumes, axes), quarters, (2, 3))
