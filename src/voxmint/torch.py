"""Data sets for training with PyTorch: instances and pairs, from any output of a run or made on the fly.

Both data sets are safe with any number of ``DataLoader`` workers, forked or spawned: files, stores and layers are
opened by the process that reads them, never handed over. What is drawn for an item depends on (seed, epoch, index)
alone, not on workers or order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.format import Format, Target, format_from_spec
from voxmint.datasets.manifest import MANIFEST, RECIPE, RECORDS
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import FailedSample, InputError, MissingExtraError, RecipeError, RejectedSample
from voxmint.randomness import Stream
from voxmint.runs.local.worker import sampler_from_spec
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Store

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
        self._opened: tuple[int, Sampler] | None = None
        if isinstance(source, Sampler):
            self.spec: JSON | None = None
            self.indices = list(range(len(source)))
            self._opened = (os.getpid(), source)
            return
        place = Store(source)
        if not place.exists(MANIFEST):
            raise InputError("no finished data set here", where=place.url, expected=MANIFEST,
                             remedy="finish its run by giving the same command again")  # fmt: skip
        records = [json.loads(line) for line in place.read(RECORDS).splitlines()]
        self.keys = {record["index"]: record["key"] for record in records if record.get("digest")}
        self.indices = sorted(self.keys)
        self.format, self.target = _stored_format(place, source, next(iter(self.keys.values()), ""))

    def __getitem__(self, index: int) -> Arrays:
        if hasattr(self, "keys"):
            arrays = self.format.read(self.target, index, self.keys[index])
            if arrays is None:
                raise InputError("this data set keeps no single samples", where=self.target.directory)
            return arrays
        return dict(self._sampler()[index].arrays)

    def __getstate__(self) -> JSON:
        """Return what another process needs: of a sampler its description, since layers cannot be handed over."""
        state = dict(self.__dict__)
        if self._opened is not None:
            state |= {"spec": self._opened[1].spec(), "_opened": None}
        return state

    def _sampler(self) -> Sampler:
        if self._opened is None:
            assert self.spec is not None, "a sampler, or what describes one"
            self._opened = (os.getpid(), sampler_from_spec(self.spec))
        elif self._opened[0] != os.getpid():
            _refuse_tensorstore(self._opened[1])
            self._opened = (os.getpid(), sampler_from_spec(self._opened[1].spec()))
        return self._opened[1]


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
        known = set(self._samples.indices)
        self.indices = self._samples.indices if indices is None else [int(index) for index in indices]
        unknown = [index for index in self.indices if index not in known]
        if unknown or not self.indices:
            raise InputError("no such samples" if unknown else "no samples", where=str(source), got=unknown[:8] or None,
                             expected=f"indices out of {len(known):,} samples")  # fmt: skip

    def __len__(self) -> int:
        return len(self.indices)

    def _read(self, position: int) -> tuple[int, Arrays]:
        """Return the index and the arrays of the sample at a position."""
        index = self.indices[position]
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
    for outcome in cast(Any, sampler.stream(range(len(sampler)))):  # a stream may yield errors in place of samples
        if isinstance(outcome, FailedSample):
            raise outcome.cause
        if isinstance(outcome, RejectedSample):
            rejected.append(outcome)
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


def _stored_format(place: Store, source: str | Path, key: str) -> tuple[Format, Target]:
    """Return format and target of a finished data set; ``key`` is that of any of its samples."""
    import yaml

    about = yaml.safe_load(place.read(RECIPE))
    layout = {name: (tuple(array["shape"]), array["dtype"]) for name, array in about["arrays"].items()}
    store = format_from_spec(about["format"])
    target = Target(Path(place.url) if place.is_local else Path(), int(about["count"]), layout)
    if isinstance(store, NpyFormat) and store.root is not None:
        # The place that was given counts, so that a data set may be copied from bucket to bucket or folder. Only a
        # run's own folder, whose arrays went to a bucket, holds none.
        name = next(iter(store.files(target, 0, key).values()))[0].relative_to(target.directory).as_posix()
        store = replace(store, root=str(source)) if place.exists(name) else store
    elif not place.is_local:
        raise InputError("only the npy format is read from a bucket", where=place.url, got=store.name,
                         remedy="copy the data set to a folder first")  # fmt: skip
    return store, target
