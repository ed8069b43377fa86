"""What a template bank holds, in a few lines of text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from voxmint.templates.bank import TemplateBank

_MOST = 12


def describe_bank(bank: TemplateBank) -> str:
    """Return number, sizes, commonest structures, licences and fingerprint of a bank's templates."""
    provenance = [bank.provenance(i) for i in range(len(bank))]
    sides = np.array([bank.shape(i) for i in range(len(bank))])
    voxels = np.array([bank.voxel_count(i) for i in range(len(bank))])
    structures = Counter(entry["structure"] for entry in provenance)
    licences = Counter(entry["licence"] for entry in provenance)
    commonest = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in structures.most_common(_MOST))
    more = f", and {len(structures) - _MOST} more" if len(structures) > _MOST else ""
    return "\n".join(
        [
            f"bank         {bank.path}",
            f"templates    {len(bank):,}",
            f"structures   {commonest}{more}",
            f"sides        {sides.min()} to {sides.max()} voxels, median {int(np.median(sides))}",
            f"voxels       {voxels.min():,} to {voxels.max():,} a template, median {int(np.median(voxels)):,}",
            f"licence      {'; '.join(licences)}",
            f"fingerprint  {bank.fingerprint}",
        ]
    )
