#!/bin/bash
# Submit the array, and after it the check.
set -eu
cd {{ quoted_folder }}
job=$(sbatch --parsable array.sh)
check=$(sbatch --parsable --dependency=afterany:"$job" check.sh "$job")
echo "{{ labels | length }} participants as array job $job, log logs/${job}_N.log; then the check, job $check, log logs/check_$check.log"
