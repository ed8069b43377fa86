"""Merge ribs and vertebrae of every TotalSegmentator subject, and make a template bank beside the subjects."""

import argparse
import sys
from pathlib import Path

from voxmint.cli.signals import stoppable
from voxmint.cli.told import told

parser = argparse.ArgumentParser()
parser.add_argument(
    "--totalsegmentator_path",
    default="./Totalsegmentator_dataset/",
    help="Path to unzipped TotalSegmentator v1 dataset",
)
parser.add_argument(
    "--max_workers",
    type=int,
    default=None,
    help="Maximum number of worker processes to use (default: None, corresponding to all cores)",
)
parser.add_argument(
    "--delete_sources",
    action="store_true",
    help="Delete the single rib and vertebra files after merged files and bank were verified (default: keep all)",
)
parser.add_argument(
    "--skip_unusable",
    "--skip-unusable",
    action="store_true",
    help="Leave files out that cannot be used; the bank's records list them (default: an error that lists them)",
)


def main(args: argparse.Namespace) -> None:
    from voxmint.make import BANK_IN_TREE, delete_merged_parts, merge_tree, prepare_templates
    from voxmint.runs.progress import make_progress

    tree = Path(args.totalsegmentator_path)
    merged = merge_tree(tree, workers=args.max_workers, skip_unusable=True)  # the bank tells of all that cannot be used
    print(f"{len(merged)} merged files")
    result = prepare_templates(
        tree,
        tree / BANK_IN_TREE,
        workers=args.max_workers,
        skip_unusable=args.skip_unusable,
        progress=make_progress(),
    )
    print(result.plan)
    if args.delete_sources:  # last: by then all that is deleted has proven to be kept
        delete_merged_parts(tree, merged)
    else:
        print(
            "the single rib and vertebra files are kept: step1 here leaves them out, the published one would draw them;"
        )
        print("--delete_sources removes them once merged files and bank have proven to hold them")


if __name__ == "__main__":
    stoppable()
    arguments = parser.parse_args()
    sys.exit(told(lambda: main(arguments)))
