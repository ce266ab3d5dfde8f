#!/bin/sh
# PID 1 of the test VM, a cgroup v2 host with every controller the kernel has.
#   /dev/vdb  tar: job.sh and the files that belong to it -> /job      /dev/vdc  results come back as a tar
#   /dev/vdd  empty scratch disk (the tests' /var/tmp)                  /dev/ttyS1  the job's own output
#   /dev/vde  the modules of another kernel than the image's, if one was booted
# With vm.systemd on the kernel's command line systemd becomes PID 1 and runs the job as a service ("vm-init job").
# A result disk with a whole tar that holds exit_code is the one sign of success; whatever goes wrong before
# leaves it empty, and says why in a console line that starts with VM-FAILED (read by tests/vm/run.py).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

power_off() {
    sync
    # stty drains a tty; what it has not sent yet dies with the machine.
    busybox stty -F /dev/console sane
    busybox reboot -f
}
fail() {
    echo "VM-FAILED $1" >/dev/console
    power_off
}
own_mounts() {
    mkdir -p /dev/pts /dev/shm /dev/mqueue /run/lock || fail "mkdir"
    mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts || fail "mount /dev/pts"
    mount -t tmpfs -o mode=1777 shm /dev/shm || fail "mount /dev/shm"
    mount -t mqueue mqueue /dev/mqueue || fail "mount /dev/mqueue"
    ln -sf /proc/self/fd /dev/fd
    ln -sf /proc/self/fd/0 /dev/stdin
    ln -sf /proc/self/fd/1 /dev/stdout
    ln -sf /proc/self/fd/2 /dev/stderr
    mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup || fail "mount cgroup2"
    # No process may stay in the root for its controllers to be handed down.
    mkdir /sys/fs/cgroup/init || fail "mkdir /sys/fs/cgroup/init"
    echo 1 >/sys/fs/cgroup/init/cgroup.procs || fail "leave the root cgroup"
    # One at a time: a controller that is unavailable fails the whole write.
    # shellcheck disable=SC2013 # words are what is wanted
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || echo "VM-NOTE no $controller for children"
    done
}
run_job() {
    if [ -b /dev/vde ]; then
        mount -t ext4 -o ro /dev/vde /lib/modules || fail "mount /dev/vde"
    fi
    modprobe -a overlay veth bridge tun loop || fail "modprobe"
    ip link set lo up || fail "lo"
    busybox hostname vm
    busybox sysctl -qw vm.overcommit_memory=1 net.ipv4.ip_forward=1 || fail "sysctl"
    mkdir -p /job/out || fail "mkdir /job"
    tar -xf /dev/vdb -C /job || fail "the job disk holds no readable tar"
    busybox stty -F /dev/ttyS1 raw -echo || fail "ttyS1"

    cd /job || fail "cd /job"
    echo "VM-READY $(cut -d' ' -f1 /proc/uptime)" >/dev/console
    sh ./job.sh </dev/null >/dev/ttyS1 2>&1
    echo $? >/job/exit_code
    busybox stty -F /dev/ttyS1 raw # drains the job's last words
    # exit_code last: a disk that is full before it has no result.
    tar -cf /dev/vdc -C /job out exit_code || fail "the results do not fit on the result disk (result_mb)"
    echo "VM-DONE $(cut -d' ' -f1 /proc/uptime)" >/dev/console
    power_off
}

if [ "$1" = job ]; then
    run_job
fi
mount -t tmpfs -o mode=755,nosuid,nodev run /run || fail "mount /run"
mount -t tmpfs -o mode=1777 tmp /tmp || fail "mount /tmp"
if grep -qw vm.systemd /proc/cmdline; then
    mkdir -p /run/systemd/system || fail "mkdir /run/systemd/system"
    cat >/run/systemd/system/vm-job.service <<END
[Unit]
Requires=dbus.service
After=dbus.service
[Service]
Type=oneshot
ExecStart=/sbin/vm-init job
TimeoutStartSec=infinity
END
    exec /lib/systemd/systemd --unit=vm-job.service
fi
own_mounts
run_job
