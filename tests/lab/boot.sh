# SPDX-License-Identifier: Apache-2.0
# Process 1 of a host with systemd: makes its root filesystem, prints its process id, then is systemd.
#
#   boot.sh DIR NAME LOWER WORKSPACE
set -eu
dir=$1 name=$2 lower=$3 workspace=$4
root=$dir/root

# /proc is still the machine's, so this is the process id as the machine sees it.
read -r pid _ </proc/self/stat

# Without a table of mounts, for which mount would make a folder in the machine's own /run.
mount() { command mount --no-mtab "$@"; }

mount --make-rprivate /
mkdir "$root" "$dir/layers" "$dir/docker"
mount -t tmpfs -o mode=755 ciao-lab "$dir/layers"
mkdir "$dir/layers/upper" "$dir/layers/work"
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/layers/upper,workdir=$dir/layers/work" ciao-lab "$root"

mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -s "/proc/self/${link#*:}" "$root/dev/${link%:*}"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 -o nsdelegate cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"

# dockerd's overlay cannot lie on an overlay.
mkdir -p "$root/var/lib/docker" "$root$workspace"
mount --bind "$dir/docker" "$root/var/lib/docker"
mount --bind "$workspace" "$root$workspace"
mount -o remount,bind,ro "$root$workspace"
echo "$name" >/proc/sys/kernel/hostname
cd "$root"
pivot_root . .
umount -l .
cd /
mount --make-rshared / # as systemd leaves it

echo "$pid"
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target >/dev/null 2>&1
