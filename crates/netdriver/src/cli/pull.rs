// SPDX-License-Identifier: Apache-2.0
//! What is shown while Docker pulls an image: one line on a terminal, a line a layer elsewhere. On standard error.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde_json::Value;

/// The progress of one image.
pub(super) struct Progress<W> {
    image: String,
    out: W,
    terminal: bool,
    /// Bytes that are there, and all, of each layer.
    layers: BTreeMap<String, (u64, u64)>,
    /// Why it failed.
    pub(super) error: Option<String>,
}

impl Progress<std::io::Stderr> {
    pub(super) fn new(image: &str) -> Self {
        let out = std::io::stderr();
        let terminal = out.is_terminal();
        Self::on(image, out, terminal)
    }
}

impl<W: Write> Progress<W> {
    fn on(image: &str, out: W, terminal: bool) -> Self {
        Self { image: image.to_owned(), out, terminal, layers: BTreeMap::new(), error: None }
    }

    /// Shows one value of Docker's answer. That it cannot be shown stops nothing.
    pub(super) fn show(&mut self, value: &Value) {
        if let Some(error) = value["error"].as_str() {
            self.error = Some(error.to_owned());
            return;
        }
        let (Some(status), layer) = (value["status"].as_str(), value["id"].as_str()) else { return };
        let detail = &value["progressDetail"];
        if let (Some(layer), Some(current), Some(total)) = (layer, detail["current"].as_u64(), detail["total"].as_u64())
            && status == "Downloading"
        {
            self.layers.insert(layer.to_owned(), (current, total));
            if self.terminal {
                let (here, all) = self.layers.values().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
                let line = format!("pull {}: {} of {} MB", self.image, here / 1_000_000, all / 1_000_000);
                drop(write!(self.out, "\r\x1b[K{line}").and_then(|()| self.out.flush()));
            }
        } else if ["Download complete", "Pull complete"].contains(&status) {
            if let Some((current, total)) = layer.and_then(|layer| self.layers.get_mut(layer)) {
                *current = *total;
            }
            if !self.terminal && status == "Pull complete" {
                drop(writeln!(self.out, "pull {}: layer {} complete", self.image, layer.unwrap_or_default()));
            }
        } else if status.starts_with("Status: ") {
            let start = if self.terminal { "\r\x1b[K" } else { "" };
            drop(writeln!(self.out, "{start}{}", status.trim_start_matches("Status: ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(terminal: bool) -> String {
        let mut progress = Progress::on("nginx", Vec::new(), terminal);
        for value in [
            json!({ "status": "Pulling from library/nginx", "id": "latest" }),
            json!({ "status": "Downloading", "id": "a1", "progressDetail": { "current": 1_000_000, "total": 4_000_000 } }),
            json!({ "status": "Downloading", "id": "b2", "progressDetail": { "current": 2_000_000, "total": 5_000_000 } }),
            json!({ "status": "Pull complete", "id": "a1", "progressDetail": {} }),
            json!({ "status": "Status: Downloaded newer image for nginx:latest" }),
        ] {
            progress.show(&value);
        }
        String::from_utf8(progress.out).unwrap()
    }

    #[test]
    fn a_terminal_has_one_line_that_counts() {
        let shown = shown(true);
        assert!(shown.contains("pull nginx: 3 of 9 MB"), "{shown:?}");
        assert_eq!(shown.lines().count(), 1, "{shown:?}");
        assert!(shown.ends_with("Downloaded newer image for nginx:latest\n"), "{shown:?}");
    }

    #[test]
    fn a_log_has_a_line_a_layer() {
        let wanted = "pull nginx: layer a1 complete\nDownloaded newer image for nginx:latest\n";
        assert_eq!(shown(false), wanted);
    }

    #[test]
    fn a_failed_pull_has_its_reason() {
        let mut progress = Progress::on("nginx", Vec::new(), false);
        progress.show(&json!({ "error": "no such registry", "errorDetail": {} }));
        assert_eq!(progress.error.as_deref(), Some("no such registry"));
    }
}
