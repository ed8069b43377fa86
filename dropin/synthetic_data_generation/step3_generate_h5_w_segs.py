"""Generate HDF5 files with segmentations from synthesized NIfTI views."""

import argparse
import sys

from voxmint.cli.signals import stoppable
from voxmint.cli.told import told

parser = argparse.ArgumentParser(description="Generate HDF5 files with segmentations from synthesized NIfTI views.")
parser.add_argument(
    "--view1_dir", default="synthesized_views/view1", help="Path to directory containing view1 NIfTI files"
)
parser.add_argument(
    "--view2_dir", default="synthesized_views/view2", help="Path to directory containing view2 NIfTI files"
)
parser.add_argument(
    "--seg_dir", default="label_ensembles", help="Path to directory containing segmentation NIfTI files"
)
parser.add_argument("--out_dir", default="./h5_w_segs/", help="Output directory for HDF5 files")
parser.add_argument("--val_count", type=int, default=100, help="Number of validation samples (from the end)")
parser.add_argument("--print_every", type=int, default=10, help="Print progress every print_every samples")
parser.add_argument("--seed", type=int, default=0, help="Seed of the data set; packing draws nothing")


def main(args: argparse.Namespace) -> None:
    from voxmint import pack_pairs
    from voxmint.runs.progress import EverySamples

    result = pack_pairs(
        args.seg_dir,
        [args.view1_dir, args.view2_dir],
        args.out_dir,
        order="name",
        repack=True,
        val_count=args.val_count,
        progress=EverySamples(args.print_every),
    )
    print(result.plan)


if __name__ == "__main__":
    stoppable()
    arguments = parser.parse_args()
    sys.exit(told(lambda: main(arguments)))
