#!/bin/busybox sh
# shellcheck shell=dash
# /init of the test VM's initramfs: load the disk driver, mount the root image, hand over.
B=/bin/busybox
fail() {
    echo "VM-FAILED $1"
    # stty drains the console before the machine goes.
    $B stty -F /dev/console sane
    $B reboot -f
}
$B mount -t devtmpfs dev /dev
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
while read -r module; do
    $B insmod "/modules/$module" || fail "insmod $module"
done </modules/order
tries=0
while [ ! -b /dev/vda ]; do
    [ "$tries" -lt 500 ] || fail "no /dev/vda after 10 s"
    tries=$((tries + 1))
    $B usleep 20000
done
$B mount -t ext4 -o rw,noatime /dev/vda /new || fail "mount /dev/vda"
for d in dev proc sys; do
    $B mount --move /$d /new/$d || fail "move /$d"
done
exec $B switch_root /new /sbin/vm-init
