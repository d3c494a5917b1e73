#!/bin/bash
# Is everything there? Run after the array, whatever became of it:  sbatch check.sh ARRAY_JOB_ID, here
#SBATCH --job-name=imunity-check
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --output=logs/check_%j.log
{% for line in sbatch if "gpu" not in line %}
#SBATCH {{ line }}
{% endfor %}
set -eu
listing=$({{ run("") }} {{ dataset }} participant --dry-run {{ options }})
missing=$(sed -n 's/^run *//p' <<<"$listing")
if [ -n "$missing" ]; then
    echo "NOT harmonized:"
    echo "$missing"
    echo "What the tasks said:"
    grep -hE " ERROR |^imunity: |CANCELLED|oom" {{ quoted_folder }}/logs/"$1"_*.log || echo "nothing; killed by the cluster?"
    echo "To submit only these again, run imunity-slurm again with the same options."
    exit 1
fi
{{ run("") }} {{ dataset }} group
echo "All images are harmonized."
