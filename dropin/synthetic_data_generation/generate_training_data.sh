#!/usr/bin/env bash
# Download the templates, then make the published data set with default settings. Stops at the first error; give the same
# command again to go on from there.
#
#   generate_training_data.sh [NUMBER_OF_ENSEMBLES [NUMBER_FOR_VALIDATION]]
#
# PYTHON names the interpreter that has voxmint.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
ensembles=${1:-120000}
validation=${2:-100}

if [ ! -d Totalsegmentator_dataset ]; then
    "$python" -m voxmint templates download v1 --out . || {
        status=$?
        echo "without the templates: step1_generate_labels.py --templatedir procedural, then step2 and step3 as here" >&2
        exit $status
    }
    mv totalsegmentator_v1/Totalsegmentator_dataset Totalsegmentator_dataset
fi
"$python" "$here/step0_preprocess_totalsegmentator.py"
"$python" "$here/step1_generate_labels.py" --total --n_ensembles "$ensembles"
"$python" "$here/step2_generate_views.py" --end_idx "$ensembles"
"$python" "$here/step3_generate_h5_w_segs.py" --val_count "$validation"
