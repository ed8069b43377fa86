"""Who reads a layer: TensorStore, CloudVolume, plain files."""
