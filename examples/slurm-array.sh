#!/bin/bash
# Filter an archive with sixteen tasks, each one share of it, four at a time.
#
#   sbatch slurm-array.sh /data/archive /data/cleaned
#
# Slurm sets SLURM_ARRAY_TASK_ID and its kin, from which --shard takes the share. After a failure submit all of it again:
# finished files are kept. (One task alone, --array=7, would be an array of one, whose only share is everything.)
#SBATCH --job-name=rtdenoise
#SBATCH --array=1-16%4
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=rtdenoise-%A-%a.log
set -euo pipefail

exec rtdenoise --in "${1:?the folder to filter}" --out "${2:?the folder for the results}" \
  --jobs "${SLURM_CPUS_PER_TASK:-1}" --shard
