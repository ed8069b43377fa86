"""Train a small 3D U-Net to complete an instance from one to three outlined slices, in a few minutes on one CPU core.

First make samples, with splits that share no voxel, from two layers and a materialization table::

    voxmint instances make --source LAYER --target LAYER --table TABLE --table-voxel-size X,Y,Z \
        --crop 32,32,16 --scenarios 4 --split train=0.8,validation=0.2 --out samples

then train on one split and judge on the other::

    python examples/train_unet.py --data samples --minutes 4

The network is held against the plainest completion there is: on every slice, the nearest seed slice copied. Both are
given the seed slices as they are, and judged by the Dice coefficient of each held-out sample, over the slices that are
no seeds and over the whole instance. With ``--steps`` in place of ``--minutes`` a run can be repeated exactly.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from voxmint.torch import InstanceDataset

POOLS = ((1, 2, 2), (1, 2, 2), (2, 2, 2))
"""Shrinking (z, y, x) from level to level. Crops are wide and shallow, so z is halved last."""
WIDTHS = (8, 16, 32, 48)
"""Channels of each level: few where there are many voxels."""


class Block(nn.Sequential):
    """Two convolutions, each normalized in groups of channels, which suits small batches.

    Parameters
    ----------
    channels, width : int
        Channels in and out.
    depth : int
        Extent of the kernels along z.
    """

    def __init__(self, channels: int, width: int, depth: int = 3) -> None:
        layers: list[nn.Module] = []
        for before in (channels, width):
            layers += [nn.Conv3d(before, width, (depth, 3, 3), padding=(depth // 2, 1, 1), bias=False)]
            layers += [nn.GroupNorm(width // 8, width), nn.LeakyReLU(0.1, inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """Logits (n, 1, Z, Y, X) of the instance, from its image and seed (n, 2, Z, Y, X); Z >= 2, Y and X >= 8.

    The finest level, where most time would go, looks along single slices; the others in 3D. About 280,000 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.first = Block(2, WIDTHS[0], depth=1)
        self.down = nn.ModuleList(Block(fine, coarse) for fine, coarse in pairs)
        self.up = nn.ModuleList(
            Block(fine + coarse, fine, depth=3 if n else 1) for n, (fine, coarse) in enumerate(pairs)
        )
        self.last = nn.Conv3d(WIDTHS[0], 1, 1)
        nn.init.constant_(self.last.bias, -4.0)  # most voxels are background: start by saying so
        self.to(memory_format=torch.channels_last_3d)  # a third faster on the CPU

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the logits."""
        levels = [self.first(volumes.contiguous(memory_format=torch.channels_last_3d))]
        for pool, block in zip(POOLS, self.down, strict=True):
            levels.append(block(nn.functional.max_pool3d(levels[-1], pool)))
        features = levels.pop()
        for block in reversed(self.up):
            fine = levels.pop()
            features = nn.functional.interpolate(features, size=fine.shape[2:], mode="nearest")
            features = block(torch.cat([fine, features], dim=1))
        return self.last(features)


def seed_slices(seed: Tensor) -> Tensor:
    """Return where slices hold any of the seed, bool (n, Z), of seeds (n, Z, Y, X)."""
    return seed.flatten(2).any(dim=2)


def nearest_seed_slice(seed: Tensor) -> Tensor:
    """Return each slice of a seed (n, Z, Y, X) replaced by the nearest one that is outlined; of two, the lower."""
    position = torch.arange(seed.shape[1])
    distance = (position[:, None] - position[None, :]).abs().float()
    distance = distance[None].masked_fill(~seed_slices(seed)[:, None, :], float("inf"))
    nearest = distance.argmin(dim=2)
    return torch.stack([one[order] for one, order in zip(seed, nearest, strict=True)])


def dice(one: Tensor, other: Tensor) -> Tensor:
    """Return the Dice coefficient (n,) of volumes (n, ...) with values 0 to 1; not a number where both are empty."""
    one, other = one.flatten(1).float(), other.flatten(1).float()
    return 2 * (one * other).sum(dim=1) / (one.sum(dim=1) + other.sum(dim=1))


def loss_of(logits: Tensor, inputs: Tensor, target: Tensor) -> Tensor:
    """Return binary cross-entropy plus soft Dice loss, over the slices that are not given as seeds."""
    unseen = (~seed_slices(inputs[:, 1] > 0)).float()[:, None, :, None, None]
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * unseen).sum() / (unseen.sum() * target.shape[3] * target.shape[4]).clamp(min=1)
    chance, truth = (logits.sigmoid() * unseen).flatten(1), (target * unseen).flatten(1)
    overlap = (2 * (chance * truth).sum(dim=1) + 1) / (chance.sum(dim=1) + truth.sum(dim=1) + 1)
    return entropy + 1 - overlap.mean()


def batches(dataset: InstanceDataset, size: int, workers: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches without end; each round draws flips and turns anew."""
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(
        dataset, batch_size=size, shuffle=True, generator=order, num_workers=workers, persistent_workers=workers > 0
    )
    epoch = 0
    while True:
        dataset.set_epoch(epoch)
        yield from loader
        epoch += 1


def train(network: UNet, data: Iterator[tuple[Tensor, Tensor]], options: argparse.Namespace) -> tuple[int, float]:
    """Train for so many minutes or steps, and return the number of steps and the recent mean of the loss."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-2)
    started, step, reported, recent = time.monotonic(), 0, 0.0, 1.0
    network.train()
    while True:
        seconds = time.monotonic() - started
        done = step / options.steps if options.steps else seconds / (60 * options.minutes)
        if done >= 1:
            return step, recent
        if seconds >= reported:
            print(f"{seconds:4.0f} s, step {step:5,}, loss {recent:.3f}", flush=True)
            reported += 20
        for group in optimizer.param_groups:  # up within the first tenth, then down to nothing
            group["lr"] = options.rate * min((done + 0.001) / 0.1, (1 - done) / 0.9)
        inputs, target = next(data)
        loss = loss_of(network(inputs), inputs, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step, recent = step + 1, 0.95 * recent + 0.05 * loss.item()


@torch.no_grad()
def judge(network: UNet, dataset: InstanceDataset, workers: int) -> dict[str, Tensor]:
    """Return the Dice coefficients (samples,) of each completion, by name, in the order of the data set.

    Over the unseen slices it is not a number where the instance is on seed slices alone: nothing is to be completed.
    """
    network.eval()
    found: dict[str, list[Tensor]] = {}
    for inputs, target in DataLoader(dataset, batch_size=8, num_workers=workers):
        seed, truth = inputs[:, 1] > 0, target[:, 0] > 0
        given = seed_slices(seed)[:, :, None, None]
        copied, extent = nearest_seed_slice(seed), seed_slices(truth)[:, :, None, None]
        nothing = ~(truth & ~given).flatten(1).any(dim=1)
        completions = {
            "network": torch.where(given, seed, network(inputs)[:, 0] > 0),
            "nearest seed slice": copied,
            # what copying could reach if it were told on which slices the instance is
            "nearest seed slice, true extent": copied & extent,
        }
        for name, mask in completions.items():
            unseen = dice(mask & ~given, truth & ~given).masked_fill(nothing, torch.nan)
            found.setdefault(f"{name}: unseen", []).append(unseen)
            found.setdefault(f"{name}: whole", []).append(dice(mask, truth))
    return {name: torch.cat(parts) for name, parts in found.items()}


def report(found: dict[str, Tensor]) -> None:
    """Print the mean Dice coefficients over the samples with something left to complete."""
    left = ~found["network: unseen"].isnan()
    print(f"\nDice, mean of {int(left.sum()):,} held-out samples   slices that are no seeds   whole instance")
    for name in ("network", "nearest seed slice", "nearest seed slice, true extent"):
        unseen, whole = (found[f"{name}: {part}"][left].mean().item() for part in ("unseen", "whole"))
        print(f"{name:<36} {unseen:>27.3f} {whole:>16.3f}")
    better = found["network: unseen"][left] > found["nearest seed slice: unseen"][left]
    print(f"the network is better than the nearest seed slice on {int(better.sum()):,} of {len(better):,}")


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets train and validation")
    parser.add_argument("--minutes", type=float, default=4.0, help="time to train")
    parser.add_argument("--steps", type=int, help="steps to train instead, so that a run can be repeated exactly")
    parser.add_argument("--batch", type=int, default=2, help="samples a step")
    parser.add_argument("--rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--workers", type=int, default=1, help="processes that read samples")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    return parser.parse_args()


def main() -> None:
    """Train on one split and judge on the other."""
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    learnt = InstanceDataset(options.data / "train", augment=True, seed=options.seed)
    held_out = InstanceDataset(options.data / "validation")
    network = UNet()
    print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters, seed {options.seed}")
    print(f"{len(learnt):,} samples to learn from, {len(held_out):,} held out, {tuple(learnt[0][0].shape)} each")
    steps, loss = train(network, batches(learnt, options.batch, options.workers, options.seed), options)
    print(f"{steps:,} steps of {options.batch} samples, loss {loss:.4f}")
    report(judge(network, held_out, options.workers))


if __name__ == "__main__":
    main()
