"""Every option of the example that trains a network reaches what it is for."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import voxmint.torch

TRAIN_UNET = Path(__file__).parents[1] / "examples" / "train_unet.py"


class Sets:
    """Stands in for the data sets, notes what each was opened with, and holds nothing but a shape."""

    def __init__(self, calls: dict[str, Any], directory: Path, **more: Any) -> None:
        self.directory = directory
        calls[f"set {directory.name}"] = {"directory": str(directory), **more}

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(2, 4, 8, 8),)


def calls_of(patch: pytest.MonkeyPatch, *flags: str) -> dict[str, Any]:
    """Return what the example does with some options: each part by name, with what it is given."""
    calls: dict[str, Any] = {}
    with patch.context() as patched:
        patched.setattr(voxmint.torch, "InstanceDataset", lambda directory, **more: Sets(calls, directory, **more))
        patched.setattr(torch, "set_num_threads", lambda number: calls.update(threads=number))
        patched.setattr(torch, "manual_seed", lambda number: calls.update(weights=number))
        patched.setattr(sys, "argv", [str(TRAIN_UNET), "--data", "samples", *flags])
        names = runpy.run_path(str(TRAIN_UNET))

        def train(_network: object, data: object, options: Any) -> tuple[int, float]:
            calls["train"] = {"data": data, "steps": options.steps, "minutes": options.minutes, "rate": options.rate}
            return 1, 0.0

        parts = {
            "train": train,
            "batches": lambda dataset, *more: (dataset.directory.name, *more),
            "judge": lambda _, dataset, workers: calls.update(judge=(dataset.directory.name, workers)),
            "report": lambda _: None,
        }
        names["main"].__globals__.update(parts)
        names["main"]()
    return calls


def test_without_options_the_documented_ones_hold(monkeypatch) -> None:
    """Learn from train, augmented, and judge on validation as it is; four minutes, one thread, seed 0."""
    assert calls_of(monkeypatch) == {
        "threads": 1,
        "weights": 0,
        "set train": {"directory": "samples/train", "augment": True, "seed": 0},
        "set validation": {"directory": "samples/validation"},
        "train": {"data": ("train", 2, 1, 0), "steps": None, "minutes": 4.0, "rate": 4e-3},
        "judge": ("validation", 1),
    }


@pytest.mark.parametrize(
    ("flag", "value", "changed"),
    [
        ("--data", "other", {"set train", "set validation"}),
        ("--minutes", 7.0, {"train"}),
        ("--steps", 7, {"train"}),
        ("--rate", 7.0, {"train"}),
        ("--batch", 7, {"train"}),
        ("--workers", 7, {"train", "judge"}),
        ("--threads", 7, {"threads"}),
        ("--seed", 7, {"train", "weights", "set train"}),
    ],
)
def test_an_option_reaches_what_it_is_for(monkeypatch, flag, value, changed) -> None:
    """Another value is found in each of its places, and nowhere else."""
    before, after = calls_of(monkeypatch), calls_of(monkeypatch, flag, str(value))
    assert {name for name in after if after[name] != before[name]} == changed
    assert all(str(value) in str(after[name]) for name in changed)


def test_the_learning_rate_that_is_given_is_the_highest(monkeypatch) -> None:
    """The optimizer rises to --rate within the first tenth of the steps and falls to next to nothing."""
    names, rates = runpy.run_path(str(TRAIN_UNET)), []
    network = names["UNet"]()
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1]
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other on so few voxels
    seed = torch.zeros(1, 2, 4, 8, 8)
    seed[:, 1, 1] = 1
    batch = (seed, seed[:, 1:].clone())
    options = type("Options", (), {"rate": 0.01, "steps": 10, "minutes": 0.0})
    try:
        assert names["train"](network, iter(lambda: batch, None), options)[0] == 10
    finally:
        torch.set_num_threads(threads)
    assert len(rates) == 10
    assert max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates.index(max(rates)) <= 2
    assert rates[-1] < 0.2 * max(rates)
