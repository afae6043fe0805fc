# SPDX-License-Identifier: Apache-2.0
# Makes one lab host, stays until it ends, and removes what it left.
#
#   host.sh DIR NAME LOWER WORKSPACE
#
# DIR is the host's folder, LOWER the root filesystem below its overlay. Standard input is a lifeline: init.sh ends the
# host when it closes, so a host never outlives the test that opened it, not even one that was killed with SIGKILL.
# This script stays outside all namespaces, for the same reason: somebody must sweep up when the test no longer can.
set -eu
dir=$1
group=${dir##*/} # the host's cgroup is named after its folder, which is unique

# Every cgroup hierarchy of the machine, version 1 or 2.
while read -r _ target type _; do
    case $type in cgroup | cgroup2) echo "$target" ;; esac
done </proc/mounts >"$dir/hierarchies"

make_group() {
    mkdir -p "$1"
    # In version 1 a cpuset starts empty and then takes no process.
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$1/cgroup.clone_children" ] && [ -e "$1/$file" ]; then cat "${1%/*}/$file" >"$1/$file"; fi
    done
}

# GROUP becomes the root of the host's cgroup namespace; its processes live in the leaf GROUP/init, because version 2
# allows no process beside the containers' groups.
while read -r hierarchy; do
    make_group "$hierarchy/$group"
    make_group "$hierarchy/$group/init"
done <"$dir/hierarchies"

(
    while read -r hierarchy; do echo 0 >"$hierarchy/$group/cgroup.procs"; done <"$dir/hierarchies"
    exec unshare --cgroup sh "$dir/leaf.sh" "$@"
) || echo "host.sh: the host ended with code $?" >&2

# The kernel lets go of the groups of killed processes a moment later.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=
    while read -r hierarchy; do
        [ ! -d "$hierarchy/$group" ] || find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done <"$dir/hierarchies"
    [ -n "$left" ] || break
    sleep 0.2
done
[ "${CIAO_KEEP:-}" = 1 ] || rm -rf --one-file-system "$dir"
