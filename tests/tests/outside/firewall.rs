//! Beside the host's firewalls, and after somebody's reload of one.

use std::time::{Duration, Instant};

use ciao_tests::world::soon;

use crate::scene::{open, publish_red, red_is_published, said};

#[test]
fn a_flushed_firewall_is_put_right_within_six_seconds() {
    let (host, itself, internet) = open("flush");
    let red = publish_red(&host, "");
    assert!(soon(|| red_is_published(&itself, &internet)));
    for flush in ["iptables -F; ip6tables -F", "nft delete table inet ciao", "nft flush ruleset"] {
        host.sh(flush).unwrap();
        let since = Instant::now();
        assert!(!red_is_published(&itself, &internet), "`{flush}` is seen to do harm");
        while !(red_is_published(&itself, &internet) && red.fetch("203.0.113.2:80") == said("internet")) {
            assert!(since.elapsed() < Duration::from_secs(6), "after `{flush}`");
        }
    }
}
