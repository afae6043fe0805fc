// SPDX-License-Identifier: Apache-2.0
//! A daemon's log, on stderr: for the journal without times, and with priorities.

use std::io::Write;

use nix::sys::stat::fstat;

/// Starts the log on stderr, level `info` unless `RUST_LOG` sets another.
pub(super) fn start() {
    let to_journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,actix_server=warn"))
        .format(move |out, record| {
            if to_journal {
                return writeln!(out, "<{}>{}", priority(record.level()), record.args());
            }
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "{} {level}: {}", out.timestamp_millis(), record.args())
        })
        .init();
}

/// Whether stderr is the journal, which adds the time and reads the priority: `JOURNAL_STREAM` is its device and inode.
fn is_journal(stream: Option<&str>) -> bool {
    let stderr = fstat(std::io::stderr()).ok();
    stderr.is_some_and(|file| stream == Some(format!("{}:{}", file.st_dev, file.st_ino).as_str()))
}

/// The syslog priority of a level.
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_recognized_by_device_and_inode() {
        let stderr = fstat(std::io::stderr()).unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))));
        assert!(!is_journal(Some("1:2")) && !is_journal(None), "inherited by a process whose stderr is another file");
    }
}
