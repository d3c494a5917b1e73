#!/usr/bin/env bash
# BASE=folder slurm-up.sh [up|down]: a one-node SLURM on loopback, as root, without systemd, cgroups or a database.
# Needs slurm-wlm and munge. After `up`:  export SLURM_CONF=$BASE/slurm.conf
set -euo pipefail
BASE=$(realpath -m "${BASE:?set BASE to a folder}")
port=${SLURM_BASE_PORT:-16817}
export SLURM_CONF=$BASE/slurm.conf

stop() { # the process whose id this script wrote
    [ -s "$1" ] || return 0
    pid=$(cat "$1")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    rm -f "$1"
}

if [ "${1:-up}" = down ]; then
    scancel -u root 2>/dev/null || true
    for daemon in slurmd slurmctld munge/munged; do stop "$BASE/$daemon.pid"; done
    exit
fi

mkdir -p "$BASE"/{state,spool,log}
chmod 755 "$BASE"
install -d -o munge -g munge -m 0755 "$BASE/munge"
[ -s "$BASE/munge/munge.key" ] || dd if=/dev/urandom of="$BASE/munge/munge.key" bs=1 count=1024 status=none
chown munge:munge "$BASE/munge/munge.key"
chmod 0400 "$BASE/munge/munge.key"
host=$(hostname -s)
cat >"$SLURM_CONF" <<CONF
ClusterName=ci
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$BASE/munge/munge.socket
StateSaveLocation=$BASE/state
SlurmdSpoolDir=$BASE/spool
SlurmctldPidFile=$BASE/slurmctld.pid
SlurmdPidFile=$BASE/slurmd.pid
SlurmctldLogFile=$BASE/log/slurmctld.log
SlurmdLogFile=$BASE/log/slurmd.log
MailProg=/bin/true
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PropagateResourceLimits=NONE
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
MinJobAge=300
InactiveLimit=0
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/{print int($2/1024*0.9)}' /proc/meminfo) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
runuser -u munge -- munged --socket="$BASE/munge/munge.socket" --key-file="$BASE/munge/munge.key" \
    --pid-file="$BASE/munge/munged.pid" --log-file="$BASE/munge/munged.log" --seed-file="$BASE/munge/munged.seed"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N "$host"
for _ in $(seq 60); do
    state=$(sinfo -h -o %T 2>/dev/null || true)
    case $state in idle | mixed | allocated) exit 0 ;; esac
    sleep 0.5
done
echo "slurm did not come up: sinfo says '${state:-nothing}'" >&2
tail -20 "$BASE"/log/*.log >&2
exit 1
