// SPDX-License-Identifier: Apache-2.0
//! The part of the host's ruleset that keeps tenants in, for a second table with the same chains and sets.
//!
//! It is taken out of the one text, so that the two never differ: base chains of type filter, the chains that they jump
//! to, and the sets and counters that these name. Translation is left out: a packet is translated once.

use std::collections::BTreeSet;

use crate::kernel::element::Element;

/// The chains and sets, as in `tables`.
pub(crate) fn filter(tables: &str) -> String {
    let blocks = blocks(tables);
    let mut kept: BTreeSet<_> =
        blocks.iter().filter(|block| block.text.contains("type filter hook")).map(|block| block.name).collect();
    loop {
        let named: BTreeSet<_> =
            blocks.iter().filter(|block| kept.contains(block.name)).flat_map(Block::names).collect();
        let more: Vec<_> =
            blocks.iter().map(|block| block.name).filter(|name| named.contains(name) && !kept.contains(name)).collect();
        if more.is_empty() {
            return blocks.iter().filter(|block| kept.contains(block.name)).map(|block| block.text.as_str()).collect();
        }
        kept.extend(more);
    }
}

/// Those of a ruleset's elements that are in sets of the filter.
pub(crate) fn elements(filter: &str, elements: Vec<Element>) -> Vec<Element> {
    let sets: BTreeSet<_> = blocks_in(filter.lines()).into_iter().map(|block| block.name.to_owned()).collect();
    elements.into_iter().filter(|element| sets.contains(element.set)).collect()
}

/// A chain, set or map.
struct Block<'a> {
    name: &'a str,
    text: String,
}

impl Block<'_> {
    /// What it refers to: sets, chains and counters.
    fn names(&self) -> impl Iterator<Item = &str> {
        let words = || self.text.split(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '{' | '}'));
        let blocks = words().zip(words().skip(1)).filter(|(verb, _)| matches!(*verb, "jump" | "goto" | "name"));
        blocks.map(|(_, name)| name).chain(words().filter_map(|word| word.strip_prefix('@')))
    }
}

/// What is in `table inet ciao`.
fn blocks(tables: &str) -> Vec<Block<'_>> {
    let mut lines = tables.lines();
    lines.find(|line| *line == "table inet ciao {");
    blocks_in(lines)
}

fn blocks_in<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Block<'a>> {
    let (mut found, mut depth) = (Vec::<Block<'a>>::new(), 0);
    for line in lines {
        let code = line.trim();
        if code.is_empty() || code.starts_with('#') {
            continue;
        }
        if depth == 0 && code == "}" {
            // The table ends.
            break;
        }
        if depth == 0 {
            let name = code.split_ascii_whitespace().nth(1).unwrap_or_default();
            found.push(Block { name, text: String::new() });
        }
        depth += code.matches('{').count();
        depth -= code.matches('}').count().min(depth);
        if let Some(block) = found.last_mut() {
            block.text += line;
            block.text.push('\n');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_filters_is_kept_with_all_that_it_names_and_nothing_else() {
        let tables = "table inet ciao\ntable inet ciao {\n\t# of nat\n\tmap ports { type inet_service : ipv4_addr; }\n\
            \tcounter denied { }\n\tcounter passed { }\n\tset out { type ifname; }\n\tset deny { type ipv4_addr; flags interval; }\n\
            chain range {\nmasquerade\n}\n\tchain nat {\n\t\ttype nat hook prerouting priority dstnat;\n\t\tdnat to @ports\n\t}\n\
            \tchain forward {\n\t\ttype filter hook forward priority filter - 1;\n\t\ticmp type { 1, 2 } accept\n\
            \t\toifname @out jump egress\n\t}\n\tchain egress {\n\t\tip daddr @deny counter name denied drop\n\t}\n}\n";
        let filter = filter(tables);
        let names: Vec<_> = blocks_in(filter.lines()).iter().map(|block| block.name.to_owned()).collect();
        assert_eq!(names, ["denied", "out", "deny", "forward", "egress"]);
        assert!(filter.contains("{ 1, 2 }") && !filter.contains("dnat"));
    }
}
