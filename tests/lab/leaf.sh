# SPDX-License-Identifier: Apache-2.0
# Second step of host.sh, inside the cgroup namespace: moves into the leaf group, then makes the other namespaces.
#
#   leaf.sh DIR NAME LOWER WORKSPACE
#
# A cgroup namespace has the group its maker was in as its root, so the move into the leaf has to come after.
set -eu
dir=$1
group=${dir##*/}

while read -r hierarchy; do
    echo 0 >"$hierarchy/$group/init/cgroup.procs"
    # Version 2 passes controllers on to the containers' groups only when enabled.
    [ -e "$hierarchy/$group/cgroup.subtree_control" ] || continue
    for controller in $(cat "$hierarchy/$group/cgroup.controllers"); do
        echo "+$controller" >"$hierarchy/$group/cgroup.subtree_control"
    done
done <"$dir/hierarchies"

exec unshare --mount --net --pid --uts --ipc --fork --kill-child sh "$dir/init.sh" "$@"
