//! nftables: whole rulesets by its command, elements by netlink.

mod command;
mod elements;

use anyhow::Result;

use super::{Linux, firewall};
use crate::kernel::element::{self, Change, Element};
use crate::kernel::{Namespace, Rules};

impl Rules for Linux {
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()> {
        command::finish(self.within(namespace.name(), command::start)?, script)
    }

    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        if !elements::supports(elements) {
            return self.run_nft(namespace, &element::script(elements, change));
        }
        elements::change(&self.within(namespace.name(), elements::open)?, elements, change)
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        let chains = self.within(namespace.name(), || command::list(&["chains", "inet"]))?;
        Ok(chains.contains("table inet ciao {"))
    }

    fn rules_generation(&self) -> Result<Option<u32>> {
        if firewall::is_legacy() { Ok(None) } else { elements::generation(&elements::open()?).map(Some) }
    }

    fn list_rules(&self, namespace: &Namespace) -> Result<String> {
        self.within(namespace.name(), || command::list(&["ruleset"]))
    }
}
