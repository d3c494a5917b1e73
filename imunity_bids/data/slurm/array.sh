#!/bin/bash
# One task per line of {{ folder }}/participants.txt, written by imunity-slurm.
#SBATCH --job-name=imunity
#SBATCH --array=1-{{ labels | length }}{{ "%" ~ max_jobs if max_jobs else "" }}
#SBATCH --cpus-per-task={{ cpus }}
#SBATCH --mem={{ mem_gb }}G
#SBATCH --time={{ time }}
#SBATCH --output=logs/%A_%a.log
{% for line in sbatch %}
#SBATCH {{ line }}
{% endfor %}
set -eu
label=$(sed -n "${SLURM_ARRAY_TASK_ID}p" {{ quoted_folder }}/participants.txt)
scratch=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/imunity.XXXXXX") # fast, local to the node, gone afterwards
trap 'rm -rf "$scratch"' EXIT
echo "sub-$label on $(hostname), job ${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
{{ run("--bind \"$scratch\"") }} {{ dataset }} participant \
    --work-dir "$scratch" --nprocs {{ cpus }} --mem-gb {{ mem_gb }} {{ options }} --participant-label "$label"
