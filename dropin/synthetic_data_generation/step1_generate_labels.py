"""Generate 3D label ensembles from TotalSegmentator templates."""

import argparse
import sys

from voxmint.cli.signals import stoppable
from voxmint.cli.told import told

parser = argparse.ArgumentParser(description="Generate 3D label ensembles")
parser.add_argument("--n_ensembles", type=int, default=120000, help="Number of 3D label ensemble volumes to generate")
parser.add_argument(
    "--min_templates", type=int, default=20, help="Minimum number of shapes to include in each ensemble"
)
parser.add_argument(
    "--max_templates", type=int, default=40, help="Maximum number of shapes to include in each ensemble (exclusive)"
)
parser.add_argument("--side_length", type=int, default=128, help="Side length of the generated volumes")
parser.add_argument(
    "--templatedir",
    default="./Totalsegmentator_dataset/",
    help="Path to unzipped and preprocessed TotalSegmentator data",
)
parser.add_argument("--savedir", default="./label_ensembles/", help="Directory to save the generated label ensembles")
parser.add_argument(
    "--max_workers",
    type=int,
    default=None,
    help="Maximum number of workers for parallel processing (default: None, corresponding to all cores)",
)
parser.add_argument("--seed", type=int, default=0, help="Seed of the data set")
parser.add_argument(
    "--total",
    action="store_true",
    help="Take n_ensembles as the number that there shall be in savedir (default: as many more; an interrupted run is "
    "gone on with)",
)


def main(args: argparse.Namespace) -> None:
    from voxmint import EnsembleRecipe, make_ensembles
    from voxmint.runs.progress import make_progress

    recipe = EnsembleRecipe(side=args.side_length, min_templates=args.min_templates, max_templates=args.max_templates)
    result = make_ensembles(
        recipe,
        args.savedir,
        args.n_ensembles,
        templates=args.templatedir,
        seed=args.seed,
        workers=args.max_workers,
        progress=make_progress(),
        add=not args.total,
    )
    print(result.plan)


if __name__ == "__main__":
    stoppable()
    arguments = parser.parse_args()
    sys.exit(told(lambda: main(arguments)))
