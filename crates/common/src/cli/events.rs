// SPDX-License-Identifier: Apache-2.0
//! `events`: who had which address when, as a table or one JSON object a line.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::client::{Client, Method};
use super::table::{cell, shown, terminal_width};
use crate::types::TenantId;

/// A column: its key in the event, and its width as long as no value is longer.
pub type Column = (&'static str, usize);

/// Options of the command.
#[derive(Args, Debug)]
pub struct EventOptions {
    /// Limit the list to this tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Start at this time: 2026-11-24, 2026-11-24T08:00:00Z, now
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Follow new events (only new ones unless --since is given)
    #[arg(short, long)]
    follow: bool,
    /// Output as JSON, one event a line
    #[arg(long)]
    json: bool,
}

impl EventOptions {
    /// Prints the events that the daemon knows. Lines are cut at the width of the terminal, the last columns first.
    pub fn run(&self, daemon: &Client, columns: &[Column]) -> Result<()> {
        let mut table = Lines::new(columns);
        let mut known = Vec::new();
        let response = daemon.follow(Method::GET, &self.path(), |event| {
            if self.json {
                print(&event.to_string());
            } else if self.follow {
                print(&table.line(&event));
            } else {
                // As wide as the longest value of all.
                known.push(table.values(&event));
            }
        })?;
        for values in known {
            print(&table.fitted(&values));
        }
        response.success().map(drop)
    }

    fn path(&self) -> String {
        let tenant = self.tenant.as_ref().map(|tenant| ("tenant", tenant.as_str()));
        let since = self.since.as_deref().map(|since| ("since", since));
        let follow = self.follow.then_some(("follow", "1"));
        let query: Vec<_> = [tenant, since, follow].into_iter().flatten().collect();
        format!("/v1/events?{}", serde_urlencoded::to_string(query).unwrap_or_default())
    }
}

/// Prints a line at once. A reader that is gone, such as `head`, ends the command.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("Error: write to stdout: {error}");
        std::process::exit(1);
    }
}

/// Events as lines of a table whose columns become wider where need be.
struct Lines<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
    has_head: bool,
    most: usize,
}

impl<'a> Lines<'a> {
    fn new(columns: &'a [Column]) -> Self {
        let most = terminal_width().unwrap_or(usize::MAX);
        Self { columns, widths: columns.iter().map(|(_, width)| *width).collect(), has_head: false, most }
    }

    fn line(&mut self, event: &Value) -> String {
        let values = self.values(event);
        self.fitted(&values)
    }

    /// What an event has in each column, which becomes as wide as that.
    fn values(&mut self, event: &Value) -> Vec<String> {
        let values: Vec<_> = self.columns.iter().map(|(key, _)| value(event, key)).collect();
        for (width, value) in self.widths.iter_mut().zip(&values) {
            *width = value.len().max(*width);
        }
        values
    }

    /// A line, below the titles if it is the first.
    fn fitted(&mut self, values: &[String]) -> String {
        let line = self.fit(values);
        if std::mem::replace(&mut self.has_head, true) {
            return line;
        }
        let titles: Vec<_> = self.columns.iter().map(|(key, _)| key.to_uppercase()).collect();
        format!("{}\n{line}", self.fit(&titles))
    }

    /// The columns beside each other. At most as wide as the terminal.
    fn fit(&self, values: &[String]) -> String {
        let mut line = String::new();
        for (value, width) in values.iter().zip(&self.widths) {
            line += &format!("{value:<width$} ");
        }
        line.chars().take(self.most).collect::<String>().trim_end().to_owned()
    }
}

/// What an event has in a column.
fn value(event: &Value, key: &str) -> String {
    let text = |key: &str| cell(&event[key]);
    match key {
        "time" => text(key).replace('T', " ").chars().take(19).collect(),
        "address" if event["address"].is_null() => text("address6"),
        "address6" if event["address"].is_null() => "-".to_owned(),
        "port" if event["host_port"].is_number() => {
            let host = match event["host_address"].as_str().unwrap_or_default() {
                "0.0.0.0" | "::" => String::new(),
                address if address.contains(':') => format!("[{address}]:"),
                address => format!("{address}:"),
            };
            format!("{host}{}->{}/{}", text("host_port"), text("container_port"), text("protocol"))
        }
        _ => shown(key, &event[key]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 7] =
        [("time", 19), ("kind", 7), ("tenant", 6), ("address", 8), ("port", 12), ("endpoint", 12), ("address6", 8)];

    fn event(kind: &str, address: Option<&str>, address6: Option<&str>) -> Value {
        json!({
            "id": 1, "time": "2026-11-24T08:00:00.123Z", "kind": kind, "tenant": "red", "endpoint": "7c298b289eb4".repeat(5),
            "address": address, "address6": address6, "protocol": "tcp", "host_address": "127.0.0.1",
            "host_port": if kind == "publish" { json!(8080) } else { Value::Null }, "container_port": 80,
        })
    }

    #[test]
    fn a_table_of_events_is_as_wide_as_the_terminal_and_a_column_as_its_longest_value() {
        let v4 = Some("10.5.0.2");
        let events = [
            event("attach", v4, None),
            event("publish", v4, None),
            event("attach", v4, Some("fd00::2")),
            event("attach", None, Some("fd00::2")),
        ];
        let most = usize::MAX;
        let mut table = Lines { most, ..Lines::new(&COLUMNS) };
        let followed: Vec<_> = events.iter().map(|event| table.line(event)).collect();
        assert_eq!(
            followed.join("\n").lines().collect::<Vec<_>>(),
            [
                "TIME                KIND    TENANT ADDRESS  PORT         ENDPOINT     ADDRESS6",
                "2026-11-24 08:00:00 attach  red    10.5.0.2 -            7c298b289eb4 -",
                "2026-11-24 08:00:00 publish red    10.5.0.2 127.0.0.1:8080->80/tcp 7c298b289eb4 -",
                "2026-11-24 08:00:00 attach  red    10.5.0.2 -                      7c298b289eb4 fd00::2",
                "2026-11-24 08:00:00 attach  red    fd00::2  -                      7c298b289eb4 -",
            ]
        );
        // All of them known before the first is printed.
        let mut table = Lines { most, ..Lines::new(&COLUMNS) };
        let values: Vec<_> = events.iter().map(|event| table.values(event)).collect();
        let text = values.iter().map(|values| table.fitted(values) + "\n").collect::<String>();
        let begins: Vec<_> = text.lines().map(|line| line.find("7c298b").or(line.find("ENDPOINT"))).collect();
        assert_eq!(begins, [Some(67); 5], "{text}");
        let mut narrow = Lines { most: 44, ..Lines::new(&COLUMNS) };
        let text = narrow.line(&event("attach", v4, Some("fd00::2")));
        assert_eq!(text.lines().last(), Some("2026-11-24 08:00:00 attach  red    10.5.0.2"));
        assert!(text.lines().all(|line| line.len() <= 44), "{text}");
    }
}
