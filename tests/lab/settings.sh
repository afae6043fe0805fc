# SPDX-License-Identifier: Apache-2.0
# Gives the network namespace it runs in the kernel's settings after a boot, whatever the machine's are: a new namespace
# copies the machine's IPv4 settings, and its IPv6 settings too if net.core.devconf_inherit_init_net asks for it.
#
#   settings.sh [PROC]
#
# PROC is where proc is mounted, /proc unless given. A setting that the kernel does not have is left out. What no
# namespace has of its own stays the machine's: the neighbour table's settings, nf_conntrack_max, what is below kernel,
# fs and vm.
set -eu
cd "${1:-/proc}/sys/net"

set_each() { # set_each PATTERN VALUE
    for file in $1; do
        [ ! -w "$file" ] || echo "$2" >"$file"
    done
}

while read -r pattern value; do
    case $pattern in '' | \#*) ;; *) set_each "$pattern" "$value" ;; esac
done <<SETTINGS
# Forwarding first: the kernel changes other settings with it.
ipv4/ip_forward 0
ipv6/conf/all/forwarding 0
ipv[46]/conf/*/forwarding 0

ipv4/conf/*/accept_local 0
ipv4/conf/*/accept_redirects 1
ipv4/conf/all/accept_source_route 0
ipv4/conf/[!a]*/accept_source_route 1
ipv4/conf/*/arp_accept 0
ipv4/conf/*/arp_announce 0
ipv4/conf/*/arp_evict_nocarrier 1
ipv4/conf/*/arp_filter 0
ipv4/conf/*/arp_ignore 0
ipv4/conf/*/arp_notify 0
ipv4/conf/*/bc_forwarding 0
ipv4/conf/*/drop_gratuitous_arp 0
ipv4/conf/*/drop_unicast_in_l2_multicast 0
ipv4/conf/*/force_igmp_version 0
ipv4/conf/*/ignore_routes_with_linkdown 0
ipv4/conf/*/log_martians 0
ipv4/conf/*/promote_secondaries 0
ipv4/conf/*/proxy_arp 0
ipv4/conf/*/proxy_arp_pvlan 0
ipv4/conf/*/route_localnet 0
ipv4/conf/*/rp_filter 0
ipv4/conf/*/secure_redirects 1
ipv4/conf/*/send_redirects 1
ipv4/conf/*/shared_media 1
ipv4/conf/*/src_valid_mark 0

ipv6/conf/*/disable_ipv6 0
ipv6/conf/*/accept_ra 1
ipv6/conf/*/accept_ra_defrtr 1
ipv6/conf/*/accept_ra_pinfo 1
ipv6/conf/*/accept_ra_rtr_pref 1
ipv6/conf/*/accept_redirects 1
ipv6/conf/*/accept_source_route 0
ipv6/conf/default/accept_dad 1
ipv6/conf/*/addr_gen_mode 0
ipv6/conf/*/autoconf 1
ipv6/conf/*/dad_transmits 1
ipv6/conf/*/drop_unicast_in_l2_multicast 0
ipv6/conf/*/drop_unsolicited_na 0
ipv6/conf/*/hop_limit 64
ipv6/conf/*/ignore_routes_with_linkdown 0
ipv6/conf/*/keep_addr_on_down 0
ipv6/conf/*/ndisc_notify 0
ipv6/conf/*/optimistic_dad 0
ipv6/conf/*/proxy_ndp 0
ipv6/conf/all/use_tempaddr 0
ipv6/conf/default/use_tempaddr 0

ipv4/ip_nonlocal_bind 0
ipv6/ip_nonlocal_bind 0
ipv6/bindv6only 0
ipv4/ip_unprivileged_port_start 1024
bridge/bridge-nf-call-* 1
bridge/bridge-nf-filter-* 0
bridge/bridge-nf-pass-* 0
netfilter/nf_conntrack_acct 0
netfilter/nf_conntrack_checksum 1
netfilter/nf_conntrack_tcp_be_liberal 0
netfilter/nf_conntrack_tcp_loose 1
SETTINGS
