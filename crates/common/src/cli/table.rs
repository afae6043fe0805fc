// SPDX-License-Identifier: Apache-2.0
//! Output of commands, as tables or JSON.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::store::Store;
use crate::types::TenantId;

/// Option `--db`.
#[derive(Args, Debug)]
pub struct Database {
    /// Database that ciao-ipam and ciao-net share
    #[arg(long, value_name = "FILE", default_value = "/var/lib/ciao/ciao.db")]
    pub db: PathBuf,
}

/// Options of all lists.
#[derive(Args, Debug)]
pub struct List {
    /// Limit the list to this tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    database: Database,
    /// Output as JSON
    #[arg(long)]
    json: bool,
    /// Print IDs only, one per line
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

impl List {
    /// Prints the rows of a view of the database, of one tenant or of all; with `-q` only its column `id`.
    pub fn run(&self, view: &str, id: &str) -> Result<()> {
        let rows = Store::open_reading(&self.database.db)?.read(|tx| tx.view(view, self.tenant.as_ref()))?;
        if self.quiet {
            return rows.iter().try_for_each(|row| print_text(&shown(id, &row[id])));
        }
        print(&rows, self.json)
    }
}

/// Prints `rows`, with their keys as columns.
pub fn print<T: Serialize>(rows: &[T], json: bool) -> Result<()> {
    print_rows(rows, json, "none")
}

/// As [`print`], for what was changed or would be.
pub fn print_changes<T: Serialize>(rows: &[T], json: bool) -> Result<()> {
    print_rows(rows, json, "nothing to do")
}

fn print_rows<T: Serialize>(rows: &[T], json: bool, empty: &str) -> Result<()> {
    let values = serde_json::to_value(rows).context("serialize rows")?;
    if json {
        return print_text(&serde_json::to_string_pretty(&values)?);
    }
    let Some(table) = Columns::of(&values) else { return print_text(empty) };
    let (shown, left_out) = table.fitting(terminal_width());
    print_text(&text(shown))?;
    if !left_out.is_empty() {
        eprintln!("(also {}: see --json)", left_out.join(", "));
    }
    Ok(())
}

/// Prints one value, one field per line or as JSON.
pub fn print_one<T: Serialize>(value: &T, json: bool) -> Result<()> {
    let value = serde_json::to_value(value).context("serialize a value")?;
    let text = if json { serde_json::to_string_pretty(&value)? } else { fields(&value) };
    print_text(&text)
}

/// Prints text and a line end. A reader that is gone, such as `head`, is no error.
pub fn print_text(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(()),
    }
}

/// Columns of the terminal; `None`: the output is none.
pub(super) fn terminal_width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// As text, its lines without a blank at their begin and end.
fn text(mut table: Table) -> String {
    table.load_style(presets::NOTHING);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt()
}

/// A table by columns: the title, then a cell for each row.
struct Columns(Vec<(String, Vec<String>)>);

impl Columns {
    /// A column for each key of the first row; `None`: there are no rows.
    fn of(rows: &Value) -> Option<Self> {
        let rows: Vec<_> = rows.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
        let column = |key: &String| {
            let cells = rows.iter().map(|row| row.get(key).map_or_else(|| "-".to_owned(), |value| shown(key, value)));
            (key.to_uppercase().replace('_', " "), cells.collect())
        };
        Some(Self(rows.first()?.keys().map(column).collect()))
    }

    /// The columns that are beside each other in so many characters, and the titles of the others: what no row has goes
    /// first, then what stands last.
    fn fitting(mut self, width: Option<usize>) -> (Table, Vec<String>) {
        let of_column = |(title, cells): &(String, Vec<String>)| {
            let lines = cells.iter().flat_map(|cell| cell.lines());
            lines.chain([title.as_str()]).map(|line| line.chars().count()).max().unwrap_or(0) + 2
        };
        let mut left_out = Vec::new();
        while self.0.len() > 1 && width.is_some_and(|most| self.0.iter().map(of_column).sum::<usize>() > most + 2) {
            let cells = |nth: &usize| &self.0[*nth].1;
            let mut from_right = (1..self.0.len()).rev();
            let empty = from_right.clone().find(|nth| cells(nth).iter().all(|cell| cell == "-"));
            let least = empty.or_else(|| from_right.next());
            left_out.extend(least.map(|nth| self.0.remove(nth).0));
        }
        let mut table = Table::new();
        table.set_header(self.0.iter().map(|(title, _)| title));
        for nth in 0..self.0.first().map_or(0, |(_, cells)| cells.len()) {
            table.add_row(self.0.iter().map(|(_, cells)| &cells[nth]));
        }
        (table, left_out)
    }
}

fn fields(value: &Value) -> String {
    let mut table = Table::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        table.add_row([key.replace('_', " "), cell(value)]);
    }
    text(table)
}

/// A value of a column in a table: of Docker's ids the first twelve characters, as Docker prints them.
pub(super) fn shown(column: &str, value: &Value) -> String {
    let text = cell(value);
    if !["network", "networks", "endpoint"].contains(&column) {
        return text;
    }
    let short = |id: &str| id.chars().take(12).collect::<String>();
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_per_key_and_a_dash_for_missing_values() {
        let rows = serde_json::json!([{"tenant": "acme", "pool_id": null, "refs": 2}]);
        let shown = |rows: &Value| text(Columns::of(rows).unwrap().fitting(None).0);
        assert_eq!(shown(&rows).lines().collect::<Vec<_>>(), ["TENANT  POOL ID  REFS", "acme    -        2"]);
        let rows = serde_json::json!([{"networks": "0123456789abcdef 0123456789abcdefgh"}]);
        assert_eq!(shown(&rows).lines().last(), Some("0123456789ab 0123456789ab"), "as Docker prints ids");
        assert!(Columns::of(&serde_json::json!([])).is_none());
    }

    #[test]
    fn on_a_terminal_a_table_is_as_wide_as_that_and_says_what_is_left_out() {
        let row = |id: &str| serde_json::json!({"tenant": id, "mtu": null, "state": "live", "link": format!("hv{id}"), "made": "now"});
        let rows = serde_json::json!([row("red"), row("blue")]);
        let fitting = |width| {
            let (table, left_out) = Columns::of(&rows).unwrap().fitting(Some(width));
            let text = text(table);
            assert!(text.lines().all(|line| line.len() <= width), "{width}: {text}");
            (text.lines().next().unwrap().to_owned(), left_out.join(" "))
        };
        // As long as they fit, all of them.
        let all = "TENANT  MTU  STATE  LINK    MADE";
        for (width, head, left_out) in [
            (32, all, ""),
            (31, "TENANT  STATE  LINK    MADE", "MTU"),
            (26, "TENANT  STATE  LINK", "MTU MADE"),
            (18, "TENANT  STATE", "MTU MADE LINK"),
            (12, "TENANT", "MTU MADE LINK STATE"),
        ] {
            assert_eq!(fitting(width), (head.to_owned(), left_out.to_owned()), "{width}");
        }
    }

    #[test]
    fn the_fields_of_a_value_begin_in_one_column() {
        let text = fields(&serde_json::json!({"id": "1", "host_link": "hv1", "rules": ["a", "b"]}));
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            ["id         1", "host link  hv1", "rules      a", "           b"]
        );
    }
}
