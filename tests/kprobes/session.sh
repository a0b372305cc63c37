#!/bin/busybox sh
# The guest's first process from then on: mounts the rest, runs the command, leaves its status, powers off.
guest() { /run/guest/busybox "$@"; }

guest mkdir -p /dev/pts /dev/shm
guest mount -t devpts devpts /dev/pts
guest mount -t tmpfs tmpfs /dev/shm
guest mount -t tracefs tracefs /sys/kernel/tracing
guest mount -t debugfs debugfs /sys/kernel/debug
guest mount -t bpf bpf /sys/fs/bpf
guest mount -t cgroup2 cgroup2 /sys/fs/cgroup
guest ip link set lo up
guest hostname guest

if guest mount -t 9p -o trans=virtio,version=9p2000.L,msize=65536 results /run/results; then
    /bin/sh /run/results/command
    echo $? >/run/results/status
else
    echo "guest: cannot mount the share for results"
fi
guest sync
guest poweroff -f
