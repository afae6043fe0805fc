# SPDX-License-Identifier: Apache-2.0
# Boots systemd on a root filesystem, in namespaces of its own, until its input closes; then removes what it left.
#
#   systemd.sh DIR NAME LOWER WORKSPACE
#
# As a container manager does it: /dev, /run, /tmp, /sys and the tree of cgroups (version 2 alone) are the host's own.
set -eu
dir=$1
exec 3<&0
unified=$(sed -n 's/^[^ ]* \([^ ]*\) cgroup2 .*/\1/p' /proc/mounts | head -n 1)
group=$unified/${dir##*/}
mkdir "$group"

(
    echo 0 >"$group/cgroup.procs"
    exec unshare --cgroup --mount --net --pid --uts --ipc --fork --kill-child sh "$dir/boot.sh" "$@" 3<&-
) &
namespaces=$!
cat <&3 >/dev/null
kill -KILL "$namespaces"
wait "$namespaces" 2>/dev/null || true

# The kernel lets go of the groups of killed processes a moment later.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    ! find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || break
    sleep 0.2
done
[ "${CIAO_KEEP:-}" = 1 ] || rm -rf --one-file-system "$dir"
