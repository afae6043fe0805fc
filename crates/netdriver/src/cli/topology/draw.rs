// SPDX-License-Identifier: Apache-2.0
//! A tree of texts, as lines for people or as a graph for Graphviz.

use std::fmt::Write;

/// Something, and what is connected to it.
pub(super) struct Node {
    pub(super) text: String,
    pub(super) below: Vec<Node>,
}

/// As a tree of lines.
pub(super) fn drawn(roots: &[Node]) -> String {
    let mut into = String::new();
    for root in roots {
        into.extend([&root.text, "\n"]);
        branches(&root.below, "", &mut into);
    }
    into
}

fn branches(nodes: &[Node], indent: &str, into: &mut String) {
    for (nth, node) in nodes.iter().enumerate() {
        let (branch, below) = if nth + 1 == nodes.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        into.extend([indent, branch, &node.text, "\n"]);
        branches(&node.below, &format!("{indent}{below}"), into);
    }
}

/// In Graphviz's language: a cluster for each root.
pub(super) fn graph(roots: &[Node]) -> String {
    let mut into = "graph ciao {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    let mut count = 0;
    for (nth, root) in roots.iter().enumerate() {
        into.extend([&format!("  subgraph cluster_{nth} {{\n"), ""]);
        vertices(root, None, &mut count, &mut into);
        into.push_str("  }\n");
    }
    into.push_str("}\n");
    into
}

fn vertices(node: &Node, above: Option<usize>, count: &mut usize, into: &mut String) {
    let number = *count;
    *count += 1;
    let label = node.text.replace(", ", "\n");
    // Of a String: never fails.
    let edge = above.map_or_else(String::new, |above| format!("    n{above} -- n{number};\n"));
    let _ = write!(into, "    n{number} [label={label:?}];\n{edge}");
    node.below.iter().for_each(|below| vertices(below, Some(number), count, into));
}
