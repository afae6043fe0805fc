// SPDX-License-Identifier: Apache-2.0
//! The command blocks of the documentation: what is marked `console run` in a page, and whether output is as it shows.
//!
//! A line that begins with `$ ` is a command; it goes on after a final `\` and to the end mark of a here-document.
//! Below is its output, in which `…` stands for any text of a line, and a line `…` alone for any number of lines.

use anyhow::{Context, Result, ensure};

const FENCE: &str = "```";
const ANY: &str = "…";

/// A command and the output that the page shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// As typed, several lines if it has a here-document.
    pub command: String,
    /// Line by line.
    pub expected: Vec<String>,
}

impl Step {
    /// Whether a command with this exit code and output did what the page shows. One that shows nothing of its output
    /// must have succeeded.
    #[must_use]
    pub fn fits(&self, code: i32, output: &str) -> bool {
        let lines: Vec<_> = output.trim_end().lines().map(str::trim_end).collect();
        let expected: Vec<_> = self.expected.iter().map(|line| line.trim_end()).collect();
        let shows_nothing = expected.iter().all(|line| *line == ANY);
        lines_fit(&expected, &lines) && (code == 0 || !shows_nothing)
    }
}

/// The steps of a page's marked blocks, in order.
///
/// # Errors
/// A block that does not begin with a command or does not end.
pub fn steps(page: &str) -> Result<Vec<Step>> {
    let mut lines = page.lines();
    let mut steps = Vec::new();
    while let Some(line) = lines.next() {
        if line != "```console run" {
            continue;
        }
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != FENCE).collect();
        read_block(&block, &mut steps)?;
    }
    Ok(steps)
}

fn read_block(block: &[&str], steps: &mut Vec<Step>) -> Result<()> {
    let mut lines = block.iter().copied().peekable();
    while let Some(line) = lines.next() {
        let first = line.strip_prefix("$ ").with_context(|| format!("{line:?} belongs to no command"))?;
        let mut command = first.to_owned();
        let end = first.split_once("<<'").and_then(|(_, rest)| rest.split_once('\'')).map(|(mark, _)| mark);
        while command.ends_with('\\') || end.is_some_and(|mark| command.lines().next_back() != Some(mark)) {
            let next = lines.next().with_context(|| format!("`{command}` does not end"))?;
            command = format!("{command}\n{next}");
        }
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push(line.to_owned());
        }
        steps.push(Step { command, expected });
    }
    ensure!(!block.is_empty(), "a block without commands");
    Ok(())
}

fn lines_fit(expected: &[&str], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&ANY, rest)) => (0..=lines.len()).any(|skipped| lines_fit(rest, &lines[skipped..])),
        Some((line, rest)) => {
            lines.split_first().is_some_and(|(first, others)| line_fits(line, first) && lines_fit(rest, others))
        }
    }
}

fn line_fits(expected: &str, line: &str) -> bool {
    let Some((start, rest)) = expected.split_once(ANY) else { return expected == line };
    let Some(line) = line.strip_prefix(start) else { return false };
    let mut ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    ends.any(|at| line_fits(rest, &line[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page

```console run
$ echo one \\
    two
one two
$ cat >file <<'END'
a
END
$ false
```
```sh
$ not this
```
";

    fn step(command: &str, expected: &[&str]) -> Step {
        Step { command: command.to_owned(), expected: expected.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn the_marked_blocks_of_a_page_are_commands_with_their_output() {
        let read = steps(PAGE).unwrap();
        let here = step("cat >file <<'END'\na\nEND", &[]);
        assert_eq!(read, [step("echo one \\\n    two", &["one two"]), here, step("false", &[])]);
        assert!(steps("```console run\nno command\n```").is_err());
        assert!(steps("```console run\n$ cat <<'END'\n```").is_err());
    }

    #[test]
    fn output_fits_line_by_line_and_dots_stand_for_anything() {
        let shown = step("x", &["a … c", "…", "end"]);
        for output in ["a b c\nend", "a  c\n\nmore\nend\n", "a c … c\nend"] {
            assert!(shown.fits(0, output), "{output:?}");
        }
        for output in ["a b d\nend", "a b c", "a b c\nend\nmore", ""] {
            assert!(!shown.fits(0, output), "{output:?}");
        }
        assert!(step("x", &[]).fits(0, "") && !step("x", &[]).fits(0, "surprise"));
    }

    #[test]
    fn a_failure_is_expected_only_where_the_page_shows_its_error() {
        assert!(!step("x", &["…"]).fits(1, "error: no"));
        assert!(step("x", &["error: …"]).fits(1, "error: no"));
    }
}
