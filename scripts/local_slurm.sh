#!/usr/bin/env bash
# A real SLURM on this machine, to try batch scripts at a desk: one controller and two node daemons, node0 and node1.
#
#     scripts/local_slurm.sh start [DIRECTORY]     what runs already is left alone, what does not is started
#     eval "$(scripts/local_slurm.sh start)"       the same, and this shell's sbatch, squeue, srun ask this SLURM
#     scripts/local_slurm.sh status [DIRECTORY]
#     scripts/local_slurm.sh stop [DIRECTORY]      cancels the jobs, ends all daemons
#
# Everything lies in DIRECTORY (default ~/.cache/hpcsurrogate/slurm): configuration, key, sockets, logs. No root is
# needed once the packages are there, no systemd, no control groups. Both nodes are this machine: each offers all of its
# cores, nothing keeps their jobs apart, and times measured here say nothing.
set -euo pipefail

usage="usage: scripts/local_slurm.sh start|stop|status [DIRECTORY]"
packages=(slurm-wlm munge libpmix-dev)  # libpmix-dev: SLURM's PMIx plugin asks for the library by the name that this one gives it
nodes=(node0 node1)
PATH=$PATH:/usr/sbin:/sbin

fail() {
    printf 'local_slurm: error: %s\n' "$1" >&2
    exit 1
}

say() {
    printf 'local_slurm: %s\n' "$1" >&2
}

missing_programs() {
    local program
    for program in slurmctld slurmd munged srun; do
        command -v "$program" >/dev/null || echo "$program"
    done
    python3 -c 'import ctypes; ctypes.CDLL("libpmix.so")' 2>/dev/null || echo libpmix.so
}

install_packages() {
    local missing
    missing=$(missing_programs | paste -sd, -)
    [ -z "$missing" ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "apt-get install ${packages[*]}"
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}"; } >&2 || true
        missing=$(missing_programs | paste -sd, -)
        [ -z "$missing" ] && return
    fi
    fail "missing: $missing; ask an administrator for: apt-get install ${packages[*]}"
}

# pid NAME: the number of a daemon of this DIRECTORY, nothing if it does not run. A number may have gone to another
# process since, so its environment must say whose it is.
pid() {
    local number
    number=$(cat "$directory/$1.pid" 2>/dev/null) || return 0
    grep -qszxF "LOCAL_SLURM=$directory" "/proc/$number/environ" && echo "$number" || true
}

free_ports() {
    python3 -c '
import socket
sockets = [socket.socket() for _ in range(3)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*(each.getsockname()[1] for each in sockets))'
}

# The settings that differ from a site's make waiting short: a requeued job starts again after cred_expire, a daemon that
# does not answer is given up after SlurmdTimeout, a job that is told to end has KillWait (all in seconds).
write_configuration() {
    local ports user cores
    read -r -a ports < <(free_ports)
    user=$(id -un)
    cores=$(nproc)
    cat >"$directory/slurm.conf" <<CONFIGURATION
ClusterName=desk
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$directory/munge.socket,cred_expire=5
StateSaveLocation=$directory/state
SlurmctldPidFile=$directory/slurmctld.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdPidFile=$directory/slurmd-%n.pid
SlurmdLogFile=$directory/slurmd-%n.log
SlurmdSpoolDir=$directory/spool-%n
TmpFS=$directory/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
ReturnToService=2
JobRequeue=1
KillWait=5
SlurmdTimeout=8
SlurmctldTimeout=8
CompleteWait=0
MinJobAge=600
MpiDefault=none
NodeName=${nodes[0]} NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=$cores State=UNKNOWN
NodeName=${nodes[1]} NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=$cores State=UNKNOWN
PartitionName=desk Nodes=${nodes[0]},${nodes[1]} Default=YES MaxTime=INFINITE State=UP
CONFIGURATION
}

make_directory() {
    mkdir -p "$directory"/{state,spool-node0,spool-node1,tmp-node0,tmp-node1}
    chmod 700 "$directory"
    if [ ! -f "$directory/munge.key" ]; then
        (umask 077 && head -c 1024 /dev/urandom >"$directory/munge.key")
    fi
    [ -f "$directory/slurm.conf" ] || write_configuration
}

start_munged() {
    [ -n "$(pid munged)" ] && return
    rm -f "$directory"/munge.socket*
    # --force: the folder may lie where others have no way in, which munged takes for a mistake.
    munged --force --key-file="$directory/munge.key" --socket="$directory/munge.socket" \
        --pid-file="$directory/munged.pid" --log-file="$directory/munged.log" --seed-file="$directory/munged.seed" \
        2>>"$directory/munged.log" || fail "munged does not start: $(tail -n 1 "$directory/munged.log")"
}

# start_daemon NAME COMMAND...
start_daemon() {
    local name=$1
    shift
    [ -n "$(pid "$name")" ] && return
    # Descriptors of whoever called this, such as a pipe that waits for its end, are nothing to a daemon.
    "$@" </dev/null >>"$directory/$name.log" 2>&1 || fail "$name does not start: $(tail -n 1 "$directory/$name.log")"
}

states() {
    sinfo --noheader --Node --format="%N %t" 2>/dev/null | tr '\n' ' '
}

start() {
    install_packages
    make_directory
    # What all daemons inherit, and by which `pid` and `processes` know them.
    export LOCAL_SLURM=$directory
    start_munged
    start_daemon slurmctld slurmctld
    local node deadline=$((SECONDS + 60))
    for node in "${nodes[@]}"; do
        start_daemon "slurmd-$node" slurmd -N "$node"
    done
    until [ "$(sinfo --noheader --Node --states=idle,alloc,mix --responding --format=%N 2>/dev/null | wc -l)" = ${#nodes[@]} ]; do
        [ $SECONDS -lt $deadline ] || fail "the nodes are not ready after 60 s ($(states)); see $directory/*.log"
        sleep 0.2
    done
    [[ "$(srun --mpi=list 2>&1)" == *pmix* ]] || fail "this SLURM has no PMIx plugin; install the one that has"
    say "ready in $directory ($(states)); stop it with: scripts/local_slurm.sh stop $directory"
    printf 'export SLURM_CONF=%q\n' "$directory/slurm.conf"
}

# Every process of this SLURM: its daemons, and of jobs that did not end, their slurmstepd and all that these started.
processes() {
    local file
    for file in $(grep -lszxF -e "LOCAL_SLURM=$directory" -e "SLURM_CONF=$directory/slurm.conf" /proc/[0-9]*/environ); do
        if grep -qsz -e ^LOCAL_SLURM= -e ^SLURM_JOB_ID= "$file" || grep -qs ^slurmstepd "${file%environ}cmdline"; then
            cut -d / -f 3 <<<"$file"
        fi
    done
}

stop() {
    [ -f "$directory/slurm.conf" ] || fail "$directory: no SLURM was started there"
    local deadline=$((SECONDS + 15)) number
    if [ -n "$(pid slurmctld)" ]; then
        while [ $SECONDS -lt $deadline ] && [ -n "$(squeue --noheader 2>/dev/null)" ]; do
            scancel --quiet --user="$(id -un)" 2>/dev/null || true  # again: a job may queue itself anew while it ends
            sleep 0.2
        done
    fi
    for number in $(pid slurmd-node0) $(pid slurmd-node1) $(pid slurmctld) $(pid munged); do
        kill "$number" 2>/dev/null || true
    done
    deadline=$((SECONDS + 10))
    while [ -n "$(processes)" ] && [ $SECONDS -lt $deadline ]; do
        sleep 0.1
    done
    for number in $(processes); do
        kill -KILL "$number" 2>/dev/null || true
    done
    say "stopped"
}

status() {
    local name
    for name in munged slurmctld slurmd-node0 slurmd-node1; do
        printf '%-13s %s\n' "$name" "$(number=$(pid "$name"); echo "${number:+process $number}" | grep . || echo "does not run")"
    done
    [ -z "$(pid slurmctld)" ] || { sinfo; squeue; }
}

[ $# -ge 1 ] && [ $# -le 2 ] || fail "$usage"
directory=$(realpath -m "${2:-${XDG_CACHE_HOME:-$HOME/.cache}/hpcsurrogate/slurm}")
export SLURM_CONF=$directory/slurm.conf
case $1 in
    start | stop | status) "$1" ;;
    *) fail "$usage" ;;
esac
