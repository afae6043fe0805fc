# SPDX-License-Identifier: Apache-2.0
# Process 1 of a lab host: makes its root filesystem, prints its process id, then reaps orphans until its input closes.
#
#   init.sh DIR NAME LOWER WORKSPACE
#
# Daemons are not started here but with enter.sh, so that each has a parent outside which gets its exit status.
set -eu
dir=$1 name=$2 lower=$3 workspace=$4
root=$dir/root
exec 3<&0

# /proc is still the machine's, so this is the process id as the machine sees it.
read -r pid _ </proc/self/stat

# Without a table of mounts, for which mount would make a folder in the machine's own /run.
mount() { command mount --no-mtab "$@"; }

mount --make-rprivate / || {
    echo "/ is not a mount point: in a chroot, bind-mount its folder onto itself first" >&2
    exit 1
}
mkdir -p "$root" "$dir/layers" "$dir/docker" "$dir/ciao"
mount -t tmpfs -o mode=755 ciao-lab "$dir/layers"
mkdir "$dir/layers/upper" "$dir/layers/work"
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/layers/upper,workdir=$dir/layers/work" ciao-lab "$root"

mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys" # a new one shows the links of the new network namespace
mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
while read -r hierarchy; do
    mkdir -p "$root$hierarchy"
    mount --bind "$hierarchy/${dir##*/}" "$root$hierarchy"
done <"$dir/hierarchies"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"

# dockerd's overlay cannot lie on an overlay, and ciao's database should meet a disk that syncs.
mkdir -p "$root/var/lib/docker" "$root/var/lib/ciao" "$root$workspace"
mount --bind "$dir/docker" "$root/var/lib/docker"
mount --bind "$dir/ciao" "$root/var/lib/ciao"
mount --bind "$workspace" "$root$workspace"
mount -o remount,bind,ro "$root$workspace"

# A stock engine, whatever the machine's configuration, and no resolver of the machine's.
rm -rf "$root/etc/docker" "$root/root/.docker" "$root/etc/resolv.conf"
mkdir -p "$root/etc/docker/plugins"
echo 'nameserver 192.0.2.53' >"$root/etc/resolv.conf" # TEST-NET-1: nobody
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"

echo "$name" >/proc/sys/kernel/hostname
# For tests: settings as if inherited from a machine that has them, such as `ipv4/ip_forward=1`.
for setting in ${CIAO_LAB_INHERITED:-}; do echo "${setting#*=}" >"$root/proc/sys/net/${setting%%=*}"; done
sh "$dir/settings.sh" "$root/proc"
ip link set lo up
cd "$root"
pivot_root . .
umount -l .
cd /
mount --make-rshared / # as systemd leaves it

echo "$pid"
exec >&2
cat <&3 >/dev/null &
wait $! # a shell that waits also reaps
