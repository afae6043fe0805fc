# Runs a command inside a lab host: enter.sh COMMAND ARGUMENT…
#
# The copy in a host's folder is for people too: `sh /tmp/ciao-lab-a-XXXXXX/enter.sh bash`.
#
# It forks nothing itself: the only child of its process id is the command.
set -eu
dir=${0%/*}
read -r pid <"$dir/pid"

# Joined from outside, where the whole tree is in sight.
while read -r hierarchy; do echo 0 >"$hierarchy/${dir##*/}/init/cgroup.procs"; done <"$dir/hierarchies"

# /usr/bin comes first: the engine's own docker command, not a newer one in /usr/local/bin which the engine may refuse.
exec nsenter --target "$pid" --mount --net --pid --uts --ipc --cgroup --root --wd -- \
    env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin "$@"
