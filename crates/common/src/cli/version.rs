// SPDX-License-Identifier: Apache-2.0
//! The version that a program prints: its release and, where the build knows it, the commit.

use clap::Parser;

/// `0.1.0 (0123456789ab)`, or `0.1.0` without a commit.
pub fn version(commit: Option<&str>) -> &'static str {
    let release = env!("CARGO_PKG_VERSION");
    match commit.filter(|commit| !commit.is_empty()) {
        // clap keeps it as long as the program runs.
        Some(commit) => format!("{release} ({commit})").leak(),
        None => release,
    }
}

/// Parses the command line of a program of that version. Ends the program for `--help`, `--version` and a wrong option.
pub fn parse<C: Parser>(version: &'static str) -> C {
    let matches = C::command().version(version).get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_commit_where_the_build_knows_it() {
        let release = version(None);
        assert!(release.split('.').count() == 3 && release.starts_with(|first: char| first.is_ascii_digit()));
        assert_eq!(version(Some("0123456789ab")), format!("{release} (0123456789ab)"));
        assert_eq!(version(Some("")), release, "a tarball without git");
    }
}
