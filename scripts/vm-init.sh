#!/bin/busybox sh
# The first process of the virtual machine of scripts/vm.py, in its initial
# file system: makes the machine that lent its files the root, with all that is
# written kept in memory, and hands over to systemd or to /run/vm/main.
export PATH=/bin
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

while read -r module; do
    insmod "/modules/$module" || echo "vm: no $module"
done </modules/order

mkdir -p /lent /kept /new
mount -t virtiofs -o ro lent /lent
mount -t tmpfs -o size=70% kept /kept
mkdir /kept/upper /kept/work
mount -t overlay -o metacopy=on,lowerdir=/lent,upperdir=/kept/upper,workdir=/kept/work \
    overlay /new || { echo 'vm: no root file system'; poweroff -f; }

mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/shm /new/dev/pts
ln -s /proc/self/fd /new/dev/fd
for n in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${n%:*}" "/new/dev/${n#*:}"
done
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t tmpfs -o mode=755 run /new/run
mount -t tmpfs -o mode=1777,size=50% tmp /new/tmp
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /new/sys/fs/cgroup
mkdir -p /new/run/vm/out
cp /vm/* /bin/busybox /new/run/vm/
mount -t virtiofs out /new/run/vm/out

rm -f /new/.dockerenv /new/run/.containerenv

if grep -q vm.systemd /proc/cmdline; then
    mkdir -p /new/run/systemd/system
    cp /vm/vm.service /vm/vm.target /new/run/systemd/system/
    exec switch_root /new /lib/systemd/systemd --unit=vm.target
fi
exec switch_root /new /bin/sh /run/vm/main
