"""What happens before the first sample: all workers start, and tell what their user should know."""

from __future__ import annotations

import logging
from typing import Any

from test_execute import Heard
from toy import ToySampler

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.runs.execute import execute


class LoudToy(ToySampler):
    """Has something to say when it is built in a worker."""

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> ToySampler:
        """Build, and log at two levels."""
        logging.getLogger("voxmint.toy").warning("building for\nthe first time")
        logging.getLogger("voxmint.toy").info("nothing that matters")
        return super().from_spec(spec)


def test_warnings_of_a_starting_worker_reach_the_user(tmp_path):
    """What the library logs as a warning in a worker becomes a note of the run; one from each worker."""
    heard = Heard()
    assert execute(LoudToy(seconds=0.2), Hdf5Format(), tmp_path, workers=2, progress=heard).made == 12
    assert heard.notes == 2 * ["building for\nthe first time"]
