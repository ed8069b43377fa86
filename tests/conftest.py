"""Settings for all tests: hypothesis tries the same examples unless its seed is printed; workers begin warm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from warm import Warm, namespace

settings.register_profile("fixed", derandomize=True)
# chosen by `make stress`, together with a seed; examples of earlier runs must not join in
settings.register_profile("seeded", derandomize=False, database=None, print_blob=True)
settings.load_profile("fixed")


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again after a fraction of the usual pause."""
    monkeypatch.setattr("voxmint.retry._FIRST_WAIT_S", 0.02)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """The process that workers are forked from."""
    warm = Warm()
    yield warm
    warm.end()


@pytest.fixture(scope="session", autouse=True)
def _workers_begin_warm(warm: Warm) -> Iterator[None]:
    """Spare the workers of runs in this process the first second of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voxmint.runs.local.pool.subprocess", namespace(warm))


@pytest.fixture(autouse=True, scope="session")
def _cache_of_banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep grown banks in a folder of the tests; what they start as processes finds it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXMINT_CACHE", str(tmp_path_factory.getbasetemp().parent / "banks"))
        yield
