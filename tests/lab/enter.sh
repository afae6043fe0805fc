# SPDX-License-Identifier: Apache-2.0
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

# Limits as systemd gives them to a service, whatever ours are; a lower hard one stays where this process may not raise
# it.
limit() { # limit OPTION SOFT HARD
    ulimit "-S$1" "$2" 2>/dev/null || ulimit "-S$1" "$(ulimit "-H$1")"
    ulimit "-H$1" "$3" 2>/dev/null || :
}
limit n 1024 524288
limit l 8192 8192
limit c 0 unlimited
umask 022

# /usr/bin comes first: the engine's own docker command, not a newer one in /usr/local/bin which the engine may refuse.
# GLIBC_TUNABLES: as in the units of ciao's daemons.
exec nsenter --target "$pid" --mount --net --pid --uts --ipc --cgroup --root --wd -- \
    env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin \
    GLIBC_TUNABLES=glibc.malloc.trim_threshold=524288 "$@"
