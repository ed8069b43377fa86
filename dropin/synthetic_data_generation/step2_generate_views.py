"""Synthesize two contrastive views of each label ensemble."""

import argparse
import sys

from voxmint.cli.signals import stoppable
from voxmint.cli.told import told

parser = argparse.ArgumentParser()
parser.add_argument(
    "--start_idx", type=int, default=0, help="Starting index of list of label ensemble files to process"
)
parser.add_argument(
    "--end_idx", type=int, default=120000, help="Ending index of list of label ensemble files to process (exclusive)"
)
parser.add_argument(
    "--ensembledir", default="./label_ensembles/", help="Path to where the synthetic label ensembles are saved"
)
parser.add_argument("--savedir", default="./synthesized_views/", help="Path to save synthesized volumes to")
parser.add_argument("--max_workers", type=int, default=3, help="Maximum number of worker processes to use")
parser.add_argument("--seed", type=int, default=0, help="Seed of the data set")


def main(args: argparse.Namespace) -> None:
    from voxmint import ViewRecipe, make_views
    from voxmint.runs.progress import make_progress

    result = make_views(
        ViewRecipe(),
        args.ensembledir,
        args.savedir,
        start=args.start_idx,
        stop=args.end_idx,
        seed=args.seed,
        workers=args.max_workers,
        progress=make_progress(),
    )
    print(result.plan)


if __name__ == "__main__":
    stoppable()
    arguments = parser.parse_args()
    sys.exit(told(lambda: main(arguments)))
