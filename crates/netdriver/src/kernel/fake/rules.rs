// SPDX-License-Identifier: Apache-2.0
//! Rules in the double: the elements of sets, as lines of nft's language.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

use super::Fake;
use crate::kernel::element::{Change, Element, Ruleset};
use crate::kernel::{Flows, ForwardedPort, Namespace, Rules};

impl Rules for Fake {
    fn run_nft(&self, namespace: &Namespace, script: &str) -> Result<()> {
        let mut state = self.changing()?;
        self.count(namespace);
        if script.ends_with("delete table inet ciao\n") {
            state.rules.remove(namespace);
            return Ok(());
        }
        let Some(elements) = state.rules.get_mut(namespace) else {
            bail!("network namespace {namespace} has no rules")
        };
        for line in script.lines() {
            match line.strip_prefix("flush set inet ciao ") {
                Some(set) => elements.retain(|element| !element.starts_with(&format!("add element inet ciao {set} "))),
                None => drop(elements.insert(format!("{line}\n"))),
            }
        }
        Ok(())
    }

    fn load_rules(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<u32>> {
        let mut state = self.changing()?;
        let is_there = namespace.name().is_none_or(|name| state.namespaces.contains(name));
        ensure!(is_there, "network namespace {namespace} is not there");
        state.rules.insert(namespace.clone(), lines(&ruleset.elements).collect());
        self.count(namespace);
        Ok(Some(self.generation(namespace)))
    }

    fn rules_difference(&self, namespace: &Namespace, ruleset: &Ruleset) -> Result<Option<String>> {
        let state = self.reading()?;
        let Some(found) = state.rules.get(namespace) else { return Ok(Some("its tables are missing".to_owned())) };
        let expected: BTreeSet<_> = lines(&ruleset.elements).collect();
        Ok((*found != expected).then(|| "its elements differ".to_owned()))
    }

    fn change_elements(&self, namespace: &Namespace, elements: &[Element], change: Change) -> Result<Option<u32>> {
        let mut state = self.changing()?;
        let Some(found) = state.rules.get_mut(namespace) else { bail!("network namespace {namespace} has no rules") };
        for element in elements {
            match change {
                Change::Add => drop(found.insert(element.line(Change::Add))),
                Change::Delete => {
                    let others = found.iter().filter(|line| !has_key_of(line, element)).cloned().collect();
                    ensure!(*found != others, "there is no {element:?} in network namespace {namespace}");
                    *found = others;
                }
            }
        }
        self.count(namespace);
        Ok(Some(self.generation(namespace)))
    }

    fn has_rules(&self, namespace: &Namespace) -> Result<bool> {
        Ok(self.reading()?.rules.contains_key(namespace))
    }

    fn rules_generation(&self, namespace: &Namespace) -> Result<Option<u32>> {
        drop(self.reading()?);
        Ok(Some(self.generation(namespace)))
    }

    fn forwarded_ports(&self, namespace: &Namespace) -> Result<Vec<ForwardedPort>> {
        let state = self.reading()?;
        let lines = state.rules.get(namespace).into_iter().flatten();
        Ok(lines.filter_map(|line| forwarded(line)).collect())
    }

    fn list_rules(&self, _namespace: &Namespace) -> Result<String> {
        Ok(String::new())
    }

    fn forget_flows(&self, _namespace: &Namespace, _flows: &Flows) -> Result<()> {
        Ok(())
    }
}

fn lines(elements: &[Element]) -> impl Iterator<Item = String> {
    elements.iter().map(|element| element.line(Change::Add))
}

/// Whether a line adds an element with the same key, by which the kernel deletes it.
fn has_key_of(line: &str, element: &Element) -> bool {
    let deletion = element.line(Change::Delete);
    let key = deletion.strip_prefix("delete ").and_then(|rest| rest.strip_suffix("}\n")).unwrap_or(&deletion);
    let rest = line.strip_prefix("add ").and_then(|line| line.strip_prefix(key));
    rest.is_some_and(|rest| ["}", ": ", "limit "].iter().any(|next| rest.starts_with(next)))
}

/// A published port from its line: `add element inet ciao ports4 { tcp . 8080 : 10.0.0.2 . 80 }`.
fn forwarded(line: &str) -> Option<ForwardedPort> {
    let words: Vec<_> = line.strip_prefix("add element inet ciao ports")?.split_ascii_whitespace().collect();
    let middle = words.iter().position(|word| *word == ":")?;
    let (key, value) = (&words[2..middle], &words[middle + 1..]);
    let (at, key) = if key.len() > 3 { (Some(key[0].parse().ok()?), &key[2..]) } else { (None, key) };
    let [protocol, _, number] = key else { return None };
    let port = value.get(2).filter(|_| value.len() > 3).map(|port| port.parse()).transpose().ok()?;
    let (protocol, number, to) = (protocol.parse().ok()?, number.parse().ok()?, value.first()?.parse().ok()?);
    Some(ForwardedPort { at, protocol, number, to, port })
}
