"""Settings for all tests: hypothesis tries the same examples every time, and others only where its seed is printed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
# chosen by `make stress`, together with a seed; examples of earlier runs must not join in
settings.register_profile("seeded", derandomize=False, database=None, print_blob=True)
settings.load_profile("fixed")


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again after a fraction of the usual pause."""
    monkeypatch.setattr("voxmint.retry._FIRST_WAIT_S", 0.02)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep grown banks in a folder of the tests; what they start as processes finds it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXMINT_CACHE", str(tmp_path_factory.getbasetemp().parent / "banks"))
        yield
