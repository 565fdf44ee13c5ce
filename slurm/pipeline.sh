#!/bin/bash
# All stages of one experiment in one allocation:  sbatch slurm/pipeline.sh FILE [section.key=value]...
# `hpcsurrogate run` starts the ranks itself, with srun. What is done already is not done twice, so the same command, or
# the requeued job, goes on where the last one stopped.
#
#SBATCH --job-name=hpcsurrogate
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
# Five minutes before the end: training writes a checkpoint and leaves with code 75, and the job goes back into the
# queue (SLURM lets it wait there for two minutes at least). Other stages do not catch the signal: the job fails, leaves
# nothing half-written under a final name, and when you submit it again, with more time, does that stage from its start.
#SBATCH --signal=B:USR1@300
##SBATCH --gpus-per-task=1
##SBATCH --partition=PARTITION
##SBATCH --account=ACCOUNT

# module purge
# module load gcc openmpi cuda
# source /path/to/.venv/bin/activate

set -u
if [ $# -lt 1 ]; then
    echo "usage: sbatch slurm/pipeline.sh FILE [section.key=value]..." >&2
    exit 2
fi

# `ranks` follows the allocation, whatever the file says.
hpcsurrogate run "$@" "ranks=$SLURM_NTASKS" "threads_per_rank=${SLURM_CPUS_PER_TASK:-1}" &
run=$!

# The signal goes to this script only (B:); the run hands it to its ranks.
trap 'kill -USR1 "$run"' USR1

while :; do
    wait "$run"
    code=$?
    kill -0 "$run" 2>/dev/null || break
done

if [ "$code" -eq 75 ]; then
    echo "checkpoint written; back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" -gt 128 ]; then
    echo "error: ended by signal $((code - 128)) in the stage named last; submit again to do that stage anew" >&2
fi
exit "$code"
