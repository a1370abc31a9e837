#!/usr/bin/env bash
# A Slurm of one node on this machine, loopback only, for tests/slurm/test_slurm.py.
#
#   sudo tests/slurm/one_node.sh start DIR   # prints what to export
#   sudo tests/slurm/one_node.sh stop DIR
#
# Debian or Ubuntu, as root; installs slurm-wlm and munge if they are not there. Keys,
# state and logs are all in DIR, no service of the system is started or changed. There
# are two partitions: the jobs of `high` preempt those of `low`, which have a grace of
# 60 seconds and are requeued. No accounts, cgroups or affinity: what needs systemd or a
# database is left out.
set -euo pipefail

usage="usage: $0 start|stop DIR"
action=${1:?$usage}
dir=$(realpath -m "${2:?$usage}")
export SLURM_CONF=$dir/slurm.conf

if [ "$(id -u)" != 0 ]; then
  echo "error: $0 starts Slurm's daemons; run it as root" >&2
  exit 2
fi

stop_by_file() {
  # The daemon whose number is in the file, and nothing else.
  local pid
  [ -s "$1" ] || return 0
  pid=$(cat "$1")
  kill "$pid" 2> /dev/null || true
  for _ in $(seq 100); do
    kill -0 "$pid" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2> /dev/null || true
}

if [ "$action" = stop ]; then
  if [ -e "$SLURM_CONF" ]; then
    scancel --user=root --quiet 2> /dev/null || true
    for name in slurmd slurmctld munged; do
      stop_by_file "$dir/$name.pid"
    done
  fi
  echo "Stopped; $dir keeps the logs."
  exit
elif [ "$action" != start ]; then
  echo "error: $usage" >&2
  exit 2
fi

if ! { command -v sbatch && command -v slurmd && command -v munged; } > /dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update > /dev/null
  # Installing must not start services that would stay.
  RUNLEVEL=1 apt-get install -y --no-install-recommends slurm-wlm munge > /dev/null
fi
if [ -s "$dir/slurmctld.pid" ] && kill -0 "$(cat "$dir/slurmctld.pid")"; then
  echo "error: runs already in $dir; $0 stop $dir" >&2
  exit 2
fi

mkdir -p "$dir/state" "$dir/spool"
chmod 755 "$dir"
if [ ! -e "$dir/munge.key" ]; then
  (umask 077 && head -c 1024 /dev/urandom > "$dir/munge.key")
fi
# The force is for the folder: munged wants one that only root can enter.
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
  --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" \
  --seed-file="$dir/munged.seed" > "$dir/munged.out" 2>&1 ||
  { cat "$dir/munged.out" >&2; exit 1; }

cores=$(nproc)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
cat > "$SLURM_CONF" << END
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its old credential has expired.
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
MinJobAge=3600
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=low Nodes=localhost Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 MaxTime=120 State=UP
PartitionName=high Nodes=localhost PriorityTier=10 PreemptMode=OFF MaxTime=120 State=UP
END

slurmctld > "$dir/slurmctld.out" 2>&1
slurmd -N localhost > "$dir/slurmd.out" 2>&1
for _ in $(seq 60); do
  if [ "$(sinfo --noheader --partition=low --format=%T 2> /dev/null)" = idle ]; then
    sinfo --version
    echo "export SLURM_CONF=$SLURM_CONF"
    exit
  fi
  sleep 0.5
done
echo "error: the node is not idle after 30 s; see the logs in $dir" >&2
tail -n 20 "$dir/slurmctld.log" "$dir/slurmd.log" >&2 || true
exit 1
