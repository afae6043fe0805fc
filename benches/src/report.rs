// SPDX-License-Identifier: Apache-2.0
//! What a measurement says: tables for people, goals and whether they are met, and bars for the picture.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::numbers::time;

/// The report of one measurement.
#[derive(Debug, Default)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// How it was measured.
    pub text: String,
    /// What was found.
    pub tables: Vec<Table>,
    /// What was aimed at.
    pub goals: Vec<Goal>,
    /// What the picture shows.
    pub bars: Vec<Bar>,
    /// What leads: the same work by us, by others, and by what is beneath.
    pub lines: Vec<Line>,
}

/// A line of the table that leads.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was done.
    pub what: String,
    /// Who did it.
    pub by: String,
    /// Of one call.
    pub p50: Duration,
    /// Of one call.
    pub p99: Duration,
    /// Of the daemon's processor, a call; `None`: not measured.
    pub cpu: Option<Duration>,
}

impl Line {
    /// All of them as one table.
    #[must_use]
    pub fn table<'a>(lines: impl IntoIterator<Item = &'a Self>) -> Table {
        let mut table = Table::new(["what", "by", "p50", "p99", "CPU a call"]);
        for line in lines {
            let cpu = line.cpu.map_or_else(String::new, time);
            table.row([line.what.clone(), line.by.clone(), time(line.p50), time(line.p99), cpu]);
        }
        table
    }
}

/// A table.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// A goal, and what was measured.
#[derive(Debug)]
pub struct Goal {
    what: String,
    wanted: f64,
    measured: f64,
    at_least: bool,
    unit: &'static str,
    rest: String,
}

/// Ours and a baseline, in one unit.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What was done.
    pub what: String,
    /// What it is compared with.
    pub baseline: &'static str,
    /// Ours divided by the baseline's, both as time: below 1 is faster.
    pub ratio: f64,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Goal {
    /// As much as `wanted`, or more.
    #[must_use]
    pub fn at_least(what: impl Into<String>, wanted: f64, measured: f64, unit: &'static str) -> Self {
        Self { what: what.into(), wanted, measured, at_least: true, unit, rest: String::new() }
    }

    /// As much as `wanted`, or less.
    #[must_use]
    pub fn at_most(what: impl Into<String>, wanted: f64, measured: f64, unit: &'static str) -> Self {
        Self { what: what.into(), wanted, measured, at_least: false, unit, rest: String::new() }
    }

    /// Where the time or the memory goes, for a goal that is not met.
    #[must_use]
    pub fn rest(self, rest: impl Into<String>) -> Self {
        Self { rest: rest.into(), ..self }
    }

    /// Whether it is met, as far as the digits tell that are printed.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let measured = (self.measured * 100.0).round() / 100.0;
        if self.at_least { measured >= self.wanted } else { measured <= self.wanted }
    }

    /// Where the time goes of those that are not met, a line each.
    #[must_use]
    pub fn rests<'a>(goals: impl IntoIterator<Item = &'a Self>) -> String {
        let unmet = goals.into_iter().filter(|goal| !goal.is_met() && !goal.rest.is_empty());
        unmet.map(|goal| format!("- **{}**: {}.\n", goal.what, goal.rest)).collect()
    }

    /// Goals as one table.
    #[must_use]
    pub fn table<'a>(goals: impl IntoIterator<Item = &'a Self>) -> Table {
        let mut table = Table::new(["goal", "wanted", "measured", "met"]);
        for goal in goals {
            let sign = if goal.at_least { "≥" } else { "≤" };
            let number = |number| format!("{}{}", crate::numbers::digits(number), goal.unit);
            let met = if goal.is_met() { "yes" } else { "**no**" };
            let wanted = format!("{sign} {}", number(goal.wanted));
            table.row([goal.what.clone(), wanted, number(goal.measured), met.to_owned()]);
        }
        table
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", " --- |".repeat(self.head.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

impl Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}", self.title, self.text)?;
        self.tables.iter().try_for_each(|table| write!(f, "\n{table}"))?;
        if !self.goals.is_empty() {
            write!(f, "\n{}\n{}", Goal::table(&self.goals), Goal::rests(&self.goals))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_whether_it_is_met() {
        let goals = [Goal::at_least("fast", 10.0, 9.0, " ×"), Goal::at_most("small", 6.0, 5.5, " MB")];
        let text = Goal::table(&goals).to_string();
        assert!(text.contains("| fast | ≥ 10.0 × | 9.00 × | **no** |"), "{text}");
        assert!(text.contains("| small | ≤ 6.00 MB | 5.50 MB | yes |"), "{text}");
    }

    #[test]
    fn a_goal_is_met_by_the_digits_that_are_printed_and_else_says_where_the_time_goes() {
        let goals = [
            Goal::at_least("nearly", 1.0, 0.996, " ×").rest("nowhere"),
            Goal::at_least("behind", 1.0, 0.99, " ×").rest("one veth pair more"),
        ];
        assert_eq!(goals.each_ref().map(Goal::is_met), [true, false]);
        assert_eq!(Goal::rests(&goals), "- **behind**: one veth pair more.\n");
    }
}
