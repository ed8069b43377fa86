"""The verbs: whole jobs put together from samplers, formats and runs, for the command line and the drop-in scripts."""

from voxmint.make.merging import delete_merged_parts, merge_tree
from voxmint.make.pairs import make_ensembles, make_pairs, make_views, pack_pairs
from voxmint.make.procedural import procedural_templates
from voxmint.make.stored import montage, stored_samples
from voxmint.make.templates import BANK_IN_TREE, prepare_templates

__all__ = [
    "BANK_IN_TREE",
    "delete_merged_parts",
    "make_ensembles",
    "make_pairs",
    "make_views",
    "merge_tree",
    "montage",
    "pack_pairs",
    "prepare_templates",
    "procedural_templates",
    "stored_samples",
]
