"""A user's own script, written against the published module in the order of its main script."""

import sys

import data_generator
from data_generator import (
    cloudvolume_metadata,
    connect_to_cloudvolumes,
    download_subvolumes,
    generate_training_data,
    select_random_instances,
)

if __name__ == "__main__":
    layers, local_dir = sys.argv[1:]
    data_generator.LOCAL_EXECUTION = True
    coordinate_order = ["x", "y", "z"]
    instance_keys, materialization = select_random_instances(12, f"{layers}/materialization.csv")
    assert instance_keys == list(range(12)) == list(materialization)
    names = {"index", "x", "y", "z"} | {f"{side}_pt_{axis}" for side in ("pre", "post") for axis in "xyz"}
    assert all(set(materialization[key]) == names for key in instance_keys)
    source_cv, target_cv = connect_to_cloudvolumes(
        source_url=f"file://{layers}/source",
        target_url=f"file://{layers}/target",
        bucket_secret_json_path="~/.cloudvolume/secrets",
    )
    assert target_cv.info["scales"][0]["size"] == [128, 128, 32]
    volume_dimensions, scaled_dimensions, scale = cloudvolume_metadata(
        source_cv,
        target_cv,
        coordinate_order,
        coord_resolution_source=["8", "8", "30"],
        coord_resolution_target=["16", "16", "30"],
    )
    print(volume_dimensions, scaled_dimensions, scale)
    download_subvolumes(
        instance_keys,
        source_cv,
        target_cv,
        local_dir,
        materialization,
        coordinate_order,
        {"crop_size_x": 18, "crop_size_y": 16, "crop_size_z": 9},
        volume_dimensions,
        scale,
    )
    generate_training_data(instance_keys, materialization, local_dir, coordinate_order)
    made = materialization[5]["index"]
    for name in ("source/source", "gt/target", "target/augmented_target"):
        data_generator.visualize_data(f"{local_dir}/{name}_{made}.npy")
