"""Procedural shapes: varied, whole, and the same bits every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from scipy.ndimage import label

from voxmint.errors import RecipeError
from voxmint.generators import open_sampler, remote
from voxmint.randomness import Stream
from voxmint.templates.packing import Template, unpack
from voxmint.templates.procedural import source as procedural
from voxmint.templates.procedural.anatomy import KINDS
from voxmint.templates.procedural.bodies import IDENTITY, Body
from voxmint.templates.procedural.source import ProceduralSource, make_mask
from voxmint.templates.source import templates_of

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
slow_without_jit = pytest.mark.skipif(not COMPILED, reason="true sizes take minutes without compiled kernels")

GOLDEN = {
    "blob": "aa4f9c0b19b76122",
    "organ": "91a77f73f8a38a75",
    "tube": "a0d3f26452cff968",
    "bowel": "38a7542e8f3f3b38",
    "tree": "f1b6a887b869d9ef",
    "shell": "8c5b3b671a860529",
    "plate": "00b31681db7f502c",
    "bone": "83fd6ffd364746ba",
    "muscle": "d0dd3ce091a48be9",
    "vertebrae": "67efc99b12325a39",
    "ribs": "80576f791162a687",
    "cluster": "ab40b4d5df3542de",
}
GOLDEN_BODIES = {
    "blob": "8cf677ed1349108f",
    "organ": "ef17fe16f9cfede6",
    "tube": "9d22a800f34cebda",
    "bowel": "ab9b5e4e56f6e2f0",
    "tree": "4aa5ff2e08b4bec8",
    "shell": "7b68c8f8b5e8cac0",
    "plate": "1eb641ae58f27544",
    "bone": "dfb5be3553796353",
    "muscle": "7c9cd2116aed5e2b",
    "vertebrae": "2000ac7bb1f291b3",
    "ribs": "c714f405cfee6ca5",
    "cluster": "b725b487227cc5f3",
}
GOLDEN_BALLS = ["805320d47336ae99", "5d7c688192b54b86"]


@pytest.fixture(scope="module")
def shapes() -> list[tuple[str, Template, np.ndarray]]:
    source = ProceduralSource(36)
    templates = [templates_of(source[index])[0] for index in range(len(source))]
    return [(source.kind(n), t, unpack(t.words, t.shape)) for n, t in enumerate(templates)]


@slow_without_jit
def test_every_kind_is_there_in_organ_sizes(shapes: list[tuple[str, Template, np.ndarray]]) -> None:
    """Each kind occurs; boxes are 16 to 256 voxels long and volumes spread over two orders of magnitude."""
    assert {kind for kind, _, _ in shapes} == set(KINDS)
    longest = np.array([max(t.shape) for _, t, _ in shapes])
    assert longest.min() >= 16
    assert longest.max() <= 256
    assert longest.max() > 3 * longest.min()
    volumes = [t.voxel_count for _, t, _ in shapes]
    assert max(volumes) > 100 * min(volumes)
    assert all(t.voxel_count == mask.sum() for _, t, mask in shapes)


@slow_without_jit
def test_single_bodies_are_in_one_piece_and_solid_ones_have_no_holes(
    shapes: list[tuple[str, Template, np.ndarray]],
) -> None:
    """Only rows and clusters come in parts; blobs and organs enclose nothing, shells are hollow."""
    for kind, _, mask in shapes:
        parts = label(mask)[1]
        assert parts > 1 if kind in ("cluster", "ribs") else parts == 1 or kind == "vertebrae"
        if kind in ("blob", "organ", "muscle"):
            assert label(np.pad(~mask, 1, constant_values=True))[1] == 1
        if kind in ("shell", "plate", "tree", "ribs"):
            assert mask.mean() < 0.5


@slow_without_jit
def test_no_two_shapes_are_alike(shapes: list[tuple[str, Template, np.ndarray]]) -> None:
    """Every index, and every seed, gives another shape."""
    words = {t.words.tobytes() for _, t, _ in shapes}
    assert len(words) == len(shapes)
    assert ProceduralSource(1, seed=1)[0].digest() != ProceduralSource(1, seed=0)[0].digest()
    assert ProceduralSource(99)[5].digest() == ProceduralSource(7)[5].digest()


@slow_without_jit
def test_the_same_bits_for_another_processor() -> None:
    """Kernels compiled for a generic processor, in a fresh process, give equal digests."""
    code = """if True:
        import json, sys
        from voxmint.generators import open_remote
        source = open_remote(json.loads(sys.argv[1]))
        print(*(source[n].digest() for n in (0, 4, 6)))
    """
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic"}
    source = ProceduralSource(12, 3)
    command = [sys.executable, "-c", code, json.dumps(remote(source))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert type(open_sampler(source.definition(), {})) is ProceduralSource
    assert done.stdout.split() == [source[n].digest() for n in (0, 4, 6)]


@slow_without_jit
def test_shapes_are_those_they_have_always_been(shapes: list[tuple[str, Template, np.ndarray]]) -> None:
    """Digests of one shape of each kind: a change here changes data sets, and takes another version of the shapes."""
    first = {kind: t for kind, t, _ in reversed(shapes)}
    assert {kind: digest_of(unpack(t.words, t.shape)) for kind, t in first.items()} == GOLDEN


def test_bodies_are_those_they_have_always_been() -> None:
    """Digests of what is drawn, often enough to meet each way that a kind can turn out."""
    for kind, draw in KINDS.items():
        bodies = [asdict(draw(Stream(5, number, kind))) for number in range(8)]
        assert hashlib.sha256(json.dumps(bodies).encode()).hexdigest()[:16] == GOLDEN_BODIES[kind], kind


def test_noise_on_a_surface_is_what_it_has_always_been() -> None:
    """Digests of a small ball with both noises and of one with bumps alone, also without compiled kernels."""
    digests = []
    for warp in (1.0, 0.0):
        body = Body(warp=warp, warp_spacing=5.0, bump=1.0, bump_spacing=3.0, blend=0.0)
        body.ellipsoid((0.0, 0.0, 0.0), (5.0, 6.0, 7.0), IDENTITY)
        digests.append(digest_of(make_mask(body, 2**63 + 5)))
    assert digests == GOLDEN_BALLS


def digest_of(mask: np.ndarray) -> str:
    text = f"{mask.shape}".encode() + np.ascontiguousarray(mask, np.uint8).tobytes()
    return hashlib.sha256(text).hexdigest()[:16]


def plain(**parts: object) -> Body:
    return Body(warp=0.0, warp_spacing=5.0, bump=0.0, bump_spacing=5.0, blend=0.0, **parts)


def test_a_ball_has_the_volume_of_a_ball() -> None:
    """Without noise, an ellipsoid and a capsule have their analytic volumes, and a shell the difference of two."""
    ball, rod, shell = plain(), plain(), plain(wall=2.0)
    for body in (ball, shell):
        body.ellipsoid((0.3, 0.2, 0.1), (12.0, 12.0, 12.0), IDENTITY)
    rod.tube([(0.0, 0.0, 0.0), (20.0, 0.0, 0.0)], [5.3, 5.3])
    assert make_mask(ball, 0).sum() == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.05)
    assert make_mask(shell, 0).sum() == pytest.approx(4 / 3 * np.pi * (12**3 - 10**3), rel=0.05)
    assert make_mask(rod, 0).sum() == pytest.approx(np.pi * (5.3**2 * 20 + 4 / 3 * 5.3**3), rel=0.08)


def test_cuts_and_noise_take_effect() -> None:
    """A cut ellipsoid is smaller, a plane halves a ball, noise changes the surface with its key."""
    ball, half, bitten, rough = plain(), plain(plane=(1.0, 0.0, 0.0, 0.0)), plain(), plain()
    for body in (ball, half, bitten, rough):
        body.ellipsoid((0.0, 0.0, 0.0), (5.0, 5.0, 5.0), IDENTITY)
    bitten.ellipsoid((5.0, 0.0, 0.0), (4.0, 4.0, 4.0), IDENTITY, -1.0)
    rough.warp = rough.bump = 1.0
    whole = make_mask(ball, 0).sum()
    assert make_mask(half, 0).sum() == pytest.approx(whole / 2, rel=0.15)
    assert 0.5 * whole < make_mask(bitten, 0).sum() < 0.9 * whole
    first, second = make_mask(rough, 1), make_mask(rough, 2)
    assert first.shape != second.shape or (first != second).any()


@pytest.mark.parametrize("length", [0.0, 290.0])
def test_a_body_too_small_or_too_long_is_drawn_again(monkeypatch: pytest.MonkeyPatch, length: float) -> None:
    """A crumb of some voxels, and a rod longer than any organ: the next draw is taken, with another stream."""
    words = []

    def draw(stream: Stream) -> Body:
        words.append(stream.word())
        body = plain()
        radius = 4.0 if len(words) == 3 else 2.0
        body.tube([(0.0, 0.0, 0.0), (5.0 if len(words) == 3 else length, 0.0, 0.0)], [radius, radius])
        return body

    monkeypatch.setattr(procedural, "KINDS", {"blob": draw})
    drawn = templates_of(ProceduralSource(1)[0])[0]
    assert len(set(words)) == 3
    assert drawn.voxel_count > 64
    assert max(drawn.shape) < 20


def test_impossible_counts_are_refused() -> None:
    """No shapes and negative seeds are errors that name the argument."""
    for arguments, name in (({"count": 0}, "count"), ({"seed": -1}, "seed")):
        with pytest.raises(RecipeError, match=name):
            ProceduralSource(**arguments)
