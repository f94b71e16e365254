#!/usr/bin/env bash
# A real SLURM on one machine: a controller and two nodes, each with a host name of its own. A tiny study runs over them,
# one node is killed in the middle, and the numbers are compared with those of a run without SLURM. Then one cell runs on
# both nodes at once (DDP). Needs root and Debian or Ubuntu; takes ten minutes on two idle cores. Nothing of it stays but the packages.
#   bash tests/cluster/slurm.sh [WORK_FOLDER] [kill|two]      # one of the two parts alone
# PYTHON is the interpreter with this project and its extra `cluster` (.venv/bin/python, else python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(realpath -m "${1:-$(mktemp -d)}")
parts=${2:-kill two}
python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo "$PWD/.venv/bin/python" || command -v python3)}
export OMP_NUM_THREADS=1 SLURM_CONF="$work/slurm.conf"
mkdir -p "$work"/{state,spool-n1,spool-n2,munge,log}
say() { echo "[$(date +%T)] $*"; }

if ! command -v slurmctld >/dev/null; then
    say "apt-get install slurm-wlm"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm >"$work/log/apt" 2>&1
fi

# ---- one controller, two nodes: the same network, host names of their own (a UTS namespace each)
host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=tiny
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/log/slurmctld
SlurmdLogFile=$work/log/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SlurmctldTimeout=30
SlurmdTimeout=15
KillWait=5
ReturnToService=2
MaxArraySize=1001
NodeName=n1 NodeHostname=n1 NodeAddr=127.0.0.1 Port=16818 CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname=n2 NodeAddr=127.0.0.1 Port=16819 CPUs=1 RealMemory=4000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=60 State=UP
CONF
echo "127.0.0.1 localhost n1 n2 $host" >"$work/hosts"
touch "$work/cgroup.conf"

declare -A space # node → its UTS namespace
start_node() {
    unshare --uts --mount bash -c "hostname $1 && mount --bind '$work/hosts' /etc/hosts && exec slurmd -D -f '$SLURM_CONF'" \
        >>"$work/log/slurmd-$1.out" 2>&1 &
    local process=$!
    disown
    for _ in $(seq 50); do
        space[$1]=$(readlink "/proc/$process/ns/uts" || true)
        [[ ${space[$1]} != "$(readlink /proc/self/ns/uts)" ]] && break
        sleep 0.1
    done
}
processes_of() { # everything that runs on a node: its slurmd, and all that this started
    for process in /proc/[0-9]*; do
        [[ $(readlink "$process/ns/uts" 2>/dev/null) == "${space[$1]:-none}" ]] && basename "$process"
    done
    true
}
kill_node() { for process in $(processes_of "$1"); do kill -9 "$process" 2>/dev/null || true; done; }
cleanup() {
    kill_node n1; kill_node n2
    for file in "$work"/slurmctld.pid "$work"/munge/pid; do
        [[ -s $file ]] && kill "$(cat "$file")" 2>/dev/null || true
    done
}
trap cleanup EXIT

dd if=/dev/urandom of="$work/munge/key" bs=128 count=1 status=none && chmod 600 "$work/munge/key"
chmod 711 "$work/munge"
munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
    --log-file="$work/munge/log" --seed-file="$work/munge/seed"
slurmctld -f "$SLURM_CONF"
start_node n1
start_node n2
wait_for_nodes() { for _ in $(seq 60); do [[ $(sinfo -h -t idle -o %D 2>/dev/null) == 2 ]] && break; sleep 1; done; }
wait_for_nodes
say "$(slurmctld -V) on $host"
sinfo -N -o "%N %c CPU %T"

wait_for_queue() { # until no job is left; a line whenever something changes
    local before="" now
    for _ in $(seq 3000); do
        now=$(squeue -h -r -o "%i on %N: %T" -S i | sed 's/ on :/:/')
        [[ $now != "$before" && -n $now ]] && say "$(echo "$now" | tr '\n' ';' | sed 's/;/; /g')"
        before=$now
        [[ -z $now ]] && return
        sleep 1
    done
    say "jobs are left after 50 minutes"; return 1
}

# ---- the study here, then over the nodes, of which one is killed
one_is_killed() {
    local study cell folder node
    study=$("$python" -m tests.cluster.tiny_study "$work/study")
    say "without SLURM: python -m src study tiny.yaml"
    "$python" -m src study "$study" --runs "$work/here" >"$work/log/here" 2>&1
    grep -c done "$work/log/here" | sed 's/$/ stages done/'

    say "python -m src study tiny.yaml --launcher submitit --gpus-per-cell 0 --time 30"
    "$python" -m src study "$study" --runs "$work/cluster" --launcher submitit --gpus-per-cell 0 --time 30 | sed "s#$work/##g"
    squeue -o "%i %T %E"
    cell=$("$python" -m src study "$study" --runs "$work/cluster" --list | awk -F'\t' '$4 ~ /^pre-train/ {print $1}')
    folder="$work/cluster/cells/$cell"
    until [[ -f $folder/checkpoints/last.ckpt ]]; do
        [[ -n $(squeue -h) ]] || { say "the jobs ended without a checkpoint"; exit 1; }
        sleep 0.3
    done
    node=$(grep -o '"host": "n[12]"' "$folder/lock" | grep -o 'n[12]')
    say "kill -9 of all that runs on $node, in the middle of the pre-training"
    kill_node "$node"
    wait_for_queue
    say "jobs that were requeued:"
    scontrol -o show job | grep -o "^JobId=[0-9]* \|ArrayTaskId=[0-9]*\|JobState=[A-Z_]*\|Restarts=[1-9][0-9]*\|BatchHost=[a-z0-9]*" | tr '\n' ' ' | sed 's/JobId=/\nJobId=/g' | grep Restarts
    grep -h "resumed at step" "$work"/cluster/jobs/*.out | head -3
    say "study --list afterwards:"
    "$python" -m src study "$study" --runs "$work/cluster" --list
    say "numbers of SLURM against those without:"
    "$python" -m tests.cluster.compare "$work/here" "$work/cluster"
    start_node "$node"
    wait_for_nodes
}

# ---- a cell on two nodes; of few steps, since rounding grows in training
one_cell_on_two_nodes() {
    local study
    study=$("$python" -m tests.cluster.tiny_study "$work/short" 4)
    say "without SLURM: python -m src study tiny.yaml --only glare"
    "$python" -m src study "$study" --runs "$work/one" --only glare >"$work/log/one" 2>&1
    say "python -m src study tiny.yaml --only glare --launcher submitit --gpus-per-cell 0 --nodes 2"
    "$python" -m src study "$study" --runs "$work/two" --only glare --launcher submitit --gpus-per-cell 0 --nodes 2 \
        --time 30 | sed "s#$work/##g"
    wait_for_queue
    grep -h "images a step" "$work"/two/cells/*/log.txt | sort | uniq -c
    say "numbers of two nodes against those of one process:"
    "$python" -m tests.cluster.compare "$work/two" "$work/one" 1e-5
}

[[ $parts == *kill* ]] && one_is_killed
[[ $parts == *two* ]] && one_cell_on_two_nodes
say "all well"
