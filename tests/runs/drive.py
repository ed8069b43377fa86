"""Runs one data set in a process of its own, so that tests can kill it: ``drive.py '{"sampler": ..., ...}'``."""

import json
import signal
import sys

from toy import ToySampler

import voxmint.runs.commit as module
from voxmint.datasets.format import format_from_spec
from voxmint.errors import VoxmintError
from voxmint.runs.execute import execute


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in the background
    job = json.loads(sys.argv[1])
    module.GROUP_SECONDS = job.get("group_seconds", 0.05)
    format = format_from_spec(job["format"])
    try:
        only = range(*job["only"]) if "only" in job else None
        execute(ToySampler(**job["sampler"]), format, job["directory"], workers=job["workers"], only=only)
    except VoxmintError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(error, file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
