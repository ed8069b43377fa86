"""Every flag of the published scripts, and every setting of the generator of instances, reaches its call."""

from __future__ import annotations

import re
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from recorder import Flat, Recorder

DROPIN = Path(__file__).resolve().parent.parent / "dropin"
STEPS = DROPIN / "synthetic_data_generation"
INSTANCES = DROPIN / "depthwise_segmentation"
CALLS = {
    "step0_preprocess_totalsegmentator.py": [
        f"voxmint.make:{name}" for name in ("merge_tree", "prepare_templates", "delete_merged_parts")
    ],
    "step1_generate_labels.py": ["voxmint:make_ensembles"],
    "step2_generate_views.py": ["voxmint:make_views"],
    "step3_generate_h5_w_segs.py": ["voxmint:pack_pairs", "voxmint.runs.progress:EverySamples"],
}
PLACES: dict[str, list[str]] = {
    "totalsegmentator_path": ["merge_tree.tree", "prepare_templates.tree", "prepare_templates.out"],
    "max_workers": ["merge_tree.workers", "prepare_templates.workers", "make_ensembles.workers", "make_views.workers"],
    "delete_sources": ["delete_merged_parts.tree", "delete_merged_parts.merged.merged"],
    "skip_unusable": ["prepare_templates.skip_unusable"],
    "n_ensembles": ["make_ensembles.count"],
    "min_templates": ["make_ensembles.recipe.min_templates"],
    "max_templates": ["make_ensembles.recipe.max_templates"],
    "side_length": ["make_ensembles.recipe.side"],
    "templatedir": ["make_ensembles.templates"],
    "savedir": ["make_ensembles.out", "make_views.out"],
    "seed": ["make_ensembles.seed", "make_views.seed"],
    "start_idx": ["make_views.start"],
    "end_idx": ["make_views.stop"],
    "ensembledir": ["make_views.ensembles"],
    "view1_dir": ["pack_pairs.views"],
    "view2_dir": ["pack_pairs.views"],
    "seg_dir": ["pack_pairs.ensembles"],
    "out_dir": ["pack_pairs.out"],
    "val_count": ["pack_pairs.val_count"],
    "print_every": ["EverySamples.every"],
    "total": ["make_ensembles.add"],
}
"""Where the value of a flag arrives, in any of the scripts; whatever differs from it is in `AS_PART`."""
AS_PART = {
    ("totalsegmentator_path", "prepare_templates.out"): "other/voxmint_bank",
    ("delete_sources", "delete_merged_parts.tree"): "Totalsegmentator_dataset",
    ("delete_sources", "delete_merged_parts.merged.merged"): ["a part"],
    ("total", "make_ensembles.add"): False,
    ("view1_dir", "pack_pairs.views"): ["other", "synthesized_views/view2"],
    ("view2_dir", "pack_pairs.views"): ["synthesized_views/view1", "other"],
}
DRAWS_NOTHING = [("step3_generate_h5_w_segs.py", "seed")]
"""A flag that all four scripts have, so that one line of a shell script may give it to each."""


@pytest.fixture(autouse=True)
def handlers():
    """Scripts that run here as the main program change what signals do, and this process goes on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def defaults(script: str) -> dict[str, Any]:
    return vars(runpy.run_path(str(STEPS / script))["parser"].parse_args([]))


def calls_of(script: str, patch: pytest.MonkeyPatch, *flags: str) -> Flat:
    """Return what a script calls with some flags."""
    with patch.context() as patched:
        recorder = Recorder(patched, *CALLS[script])
        patched.setattr(sys, "argv", [script, *flags])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(STEPS / script), run_name="__main__")
        assert end.value.code == 0
    return recorder.given


FLAGS = [(script, flag) for script in CALLS for flag in defaults(script)]


@pytest.mark.parametrize(("script", "flag"), FLAGS)
def test_a_flag_of_a_step_reaches_its_call(script, flag, monkeypatch) -> None:
    """Another value than the default changes the places of the flag to that, and nothing else."""
    default = defaults(script)[flag]
    value: Any = "other" if isinstance(default, str) else not default if default is False else (default or 2) + 5
    before = calls_of(script, monkeypatch)
    after = calls_of(script, monkeypatch, f"--{flag}", *([] if value is True else [str(value)]))
    places = [] if (script, flag) in DRAWS_NOTHING else [place for place in PLACES[flag] if place in after]
    assert {place: after[place] for place in places} == {place: AS_PART.get((flag, place), value) for place in places}
    assert {place for place in after if after[place] != before.get(place)} == set(places)
    assert bool(places) != ((script, flag) in DRAWS_NOTHING)


def test_sources_are_deleted_last(monkeypatch) -> None:
    """What was merged goes after the bank was made, in the tree that was given."""
    script = "step0_preprocess_totalsegmentator.py"
    given = calls_of(script, monkeypatch, "--delete_sources", "--totalsegmentator_path", "other")
    order = list(dict.fromkeys(place.partition(".")[0] for place in given))
    assert order == ["merge_tree", "prepare_templates", "delete_merged_parts"]
    assert given["delete_merged_parts.tree"] == given["merge_tree.tree"] == "other"


SETTINGS: dict[str, tuple[str, Flat]] = {
    "NUMBER_OF_INSTANCES": ("31", {"prepare_instances.sampling.count": 31}),
    "SCENARIOS": ("4", {"prepare_instances.recipe.scenarios": 4}),
    "SOURCE_URL": ("gs://other/source", {"prepare_instances.inputs.source": "gs://other/source"}),
    "TARGET_URL": ("gs://other/target", {"prepare_instances.inputs.target": "gs://other/target"}),
    "SECRETS": ("s.json", {"prepare_instances.inputs.secrets": "s.json", "make_instances.secrets": "s.json"}),
    "TABLE": ("other.csv", {"prepare_instances.inputs.table": "other.csv"}),
    "TABLE_PRESET": ("cave", {"prepare_instances.inputs.columns.preset": "cave"}),
    "TABLE_VOXEL_SIZE_NM": ("4,5,6", {"prepare_instances.inputs.columns.voxel_size_nm": [4, 5, 6]}),
    "CROP_VX": ("32,33,34", {"prepare_instances.recipe.crop_vx": [32, 33, 34]}),
    "ARRAY_AXES": ("zyx", {"make_instances.array_axes": "zyx"}),
    "SOURCE_SPARSE": ("yes", {"prepare_instances.recipe.source_sparse": True}),
    "TARGET_SPARSE": ("True", {"prepare_instances.recipe.target_sparse": True}),
    "SEED": ("6", {"prepare_instances.seed": 6}),
    "WORKERS": ("3", {"make_instances.workers": 3}),
    "LOCAL_RUN": ("no", {"make_instances.out": "gs://my-bucket/synapse_data",
                         "shared_chunks.out": "gs://my-bucket/synapse_data"}),
    "LOCAL_DIRECTORY": ("here", {"make_instances.out": "here", "shared_chunks.out": "here"}),
    "BUCKET": ("gs://other/place", {"make_instances.out": "gs://other/place", "shared_chunks.out": "gs://other/place"}),
}  # fmt: skip
"""Another value of each setting, and where it arrives."""


def settings() -> dict[str, str]:
    """Return the configuration block's names and values."""
    text = (INSTANCES / "main_data_generator_gcp.py").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Z][A-Z_]+) = (.+?)(?:  #.*)?$", text, re.MULTILINE))


def calls_with(patch: pytest.MonkeyPatch, *, edit: bool = False, **values: str) -> Flat:
    """Return what the generator calls with settings in its environment, or written into its block."""
    for name in settings():
        patch.delenv(name, raising=False)
    script = "main_data_generator_gcp.py"
    with patch.context() as patched:
        names = ("prepare_instances", "make_instances", "shared_chunks")
        recorder = Recorder(patched, *(f"voxmint.make.instances:{name}" for name in names))
        patched.syspath_prepend(INSTANCES)
        if edit:
            namespace = runpy.run_path(str(INSTANCES / script))
            namespace["main"].__globals__.update(values)
            namespace["main"]()
        else:
            for name, value in values.items():
                patched.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                runpy.run_path(str(INSTANCES / script), run_name="__main__")
            assert end.value.code == 0
    return recorder.given


@pytest.mark.parametrize("edit", [True, False], ids=["edited", "environment"])
@pytest.mark.parametrize("name", settings())
def test_a_setting_of_the_generator_reaches_its_call(name, edit, monkeypatch) -> None:
    """In the block or in the environment, a setting changes its places to its value, and nothing else."""
    local = {"LOCAL_RUN": "no"} if name == "BUCKET" else {}
    value, places = SETTINGS[name]
    before = calls_with(monkeypatch, edit=edit, **local)
    after = calls_with(monkeypatch, edit=edit, **{name: value}, **local)
    assert {place: after[place] for place in places} == places
    assert {place for place in before | after if before.get(place) != after.get(place)} == places.keys()
    assert after["prepare_instances.inputs.shared"] == "shared"


@pytest.mark.parametrize(
    ("value", "local"), [("True", True), ("1", True), ("yes", True), ("false", False), ("0", False)]
)
def test_local_run_is_read_as_people_write_it(value, local, monkeypatch) -> None:
    """Yes and no have several spellings."""
    assert (calls_with(monkeypatch, LOCAL_RUN=value)["make_instances.out"] == "synapse_data") == local


def test_without_settings_the_published_values_hold(monkeypatch) -> None:
    """200 instances of H01 in crops of 128 x 128 x 16, seed 0, one worker a core, in a folder."""
    given = calls_with(monkeypatch)
    assert {name.partition(".")[2]: given[name] for name in given if name.rpartition(".")[2] in
            ("crop_vx", "count", "seed", "workers", "out", "source", "target", "secrets", "scenarios")} == {
        "inputs.source": "gs://h01-release/data/20210601/4nm_raw",
        "inputs.target": "gs://h01-release/data/20210729/c3/synapses/whole_ei_onlyvol",
        "inputs.secrets": None, "recipe.crop_vx": [128, 128, 16], "recipe.scenarios": 1, "sampling.count": 200,
        "seed": 0, "out": "synapse_data", "workers": None, "secrets": None,
    }  # fmt: skip
