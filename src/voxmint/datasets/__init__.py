"""What a training job opens: HDF5 files, trees of NIfTI files, template banks."""
