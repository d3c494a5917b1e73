#!/usr/bin/env bash
# A real SLURM of one node: an array over four participants, one of them truncated; the check; resubmission of only what
# is missing; and Nipype's own SLURM plugin. As root on Debian 12, with the app in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
work=$(mktemp -d /var/tmp/imunity-slurm.XXXXXX)
chmod 755 "$work"
export BASE=$work/slurm SLURM_CONF=$work/slurm/slurm.conf LOGNAME=${LOGNAME:-root} OMP_NUM_THREADS=1
cleanup() {
    .ci/slurm-up.sh down || true
    rm -rf "$work"
}
trap cleanup EXIT
say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*"; cat "$work"/scripts/logs/*.log; exit 1; }

say "slurm"
apt-get update -qq
apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
.ci/slurm-up.sh
sinfo

say "four participants, one of them truncated"
data=$(realpath -m "${IMUNITY_TEST_DATA:-../shared/data}")/ds000011
dataset=$work/data
if [ -d "$data" ]; then
    mkdir "$dataset"
    cp -R "$data"/{dataset_description.json,participants.tsv,sub-01,sub-02,sub-03,sub-04} "$dataset/"
else
    echo "SKIP: no real scans in $data; the demo's heads instead"
    "$bin/imunity-demo" "$work/demo" --only-data
    mv "$work/demo/bids" "$dataset"
    cp -R "$dataset/sub-03" "$dataset/sub-04"
    find "$dataset/sub-04" -name '*sub-03*' | while read -r file; do mv "$file" "${file/sub-03_/sub-04_}"; done
fi
chmod -R u+w "$dataset"
whole=$(find "$dataset/sub-02" -name '*.nii.gz' | sort | head -1)
cp "$whole" "$work/whole.nii.gz"
head -c 100000 "$work/whole.nii.gz" >"$whole"
call=("$dataset" "$work/out" --script-dir "$work/scripts" --cpus 1 --task-mem-gb 4 --max-jobs 2 --submit
    --template MNI152NLin2009aSym)
finished() { # wait until the queue is empty
    for _ in $(seq 600); do
        [ -n "$(squeue -h)" ] || return 0
        sleep 2
    done
    fail "the queue did not empty"
}
state() { scontrol show job "$1" | tr ' ' '\n' | grep -E '^(ArrayTaskId|JobState|ExitCode)=' | paste -sd' '; }

"$bin/imunity-slurm" "${call[@]}"
finished
array=$(basename "$(ls "$work"/scripts/logs/*_1.log)" _1.log)
state "$array" || true
cat "$work"/scripts/logs/check_*.log
for label in 01 03 04; do
    [ -n "$(find "$work/out/sub-$label" -name '*desc-harmonized_T1w.json')" ] || fail "sub-$label is missing"
done
grep -q "code 65" "$work/scripts/logs/${array}_2.log" || fail "the truncated scan's task did not say why"
scontrol show job "${array}_2" | grep -q "ExitCode=65:0\|ExitCode=1:0" || fail "the task of the truncated scan did not fail"
grep -q "NOT harmonized" "$work"/scripts/logs/check_*.log || fail "the check did not notice"
grep -q "$(basename "$whole")" "$work"/scripts/logs/check_*.log || fail "the check did not name the scan"

say "mended and submitted again: only that one"
cp "$work/whole.nii.gz" "$whole"
rm "$work"/scripts/logs/*
"$bin/imunity-slurm" "${call[@]}"
[ "$(cat "$work/scripts/participants.txt")" = 02 ] || fail "not only participant 02 was submitted"
finished
grep -q "All images are harmonized" "$work"/scripts/logs/check_*.log || fail "the check is not content"
"$bin/imunity-slurm" "${call[@]}" | tee "$work/again"
grep -q "nothing to do" "$work/again" || fail "something was submitted a third time"

for plugin in SLURM SLURMGraph; do
    say "Nipype's plugin $plugin"
    printf 'plugin: %s\nplugin_args: {sbatch_args: "--cpus-per-task=1 --mem=4G"}\n' $plugin >"$work/$plugin.yml"
    "$bin/imunity" "$dataset" "$work/out-$plugin" participant --participant-label 01 --use-plugin "$work/$plugin.yml" \
        --template MNI152NLin2009aSym --work-dir "$work/work-$plugin" --omp-nthreads 1
    [ -n "$(find "$work/out-$plugin" -name '*desc-harmonized_T1w.json')" ] || fail "$plugin made no image"
done
say "cluster: all as it should be"
