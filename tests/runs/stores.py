"""The formats that tests of runs go through."""

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.nifti import NiftiFormat

FORMATS = {"hdf5": Hdf5Format(val_count=3), "nifti": NiftiFormat()}
