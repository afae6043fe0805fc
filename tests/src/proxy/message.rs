// SPDX-License-Identifier: Apache-2.0
//! `Message`, one HTTP request or reply as bytes: read only as far as it takes to pass it on whole, to find which
//! method it calls, and to cut it in half.

use std::io::{self, BufRead, ErrorKind};

/// A request or a reply, whole.
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    /// Where the body begins.
    pub(super) body: usize,
    first_line: String,
}

impl Message {
    /// A request of a plugin's method.
    pub(super) fn request(method: &str, body: &str) -> Self {
        let head = format!("POST /{method} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {}\r\n\r\n", body.len());
        let (first_line, start) = (head.lines().next().unwrap_or_default().to_owned(), head.len());
        Self { bytes: (head + body).into_bytes(), body: start, first_line }
    }

    /// Its body.
    pub(super) fn body(&self) -> String {
        String::from_utf8_lossy(&self.bytes[self.body..]).into_owned()
    }

    /// Its head and the first half of its body.
    pub(super) fn half(&self) -> &[u8] {
        &self.bytes[..self.body + (self.bytes.len() - self.body) / 2]
    }

    /// `None`: the connection was closed between two messages.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let start = head.len();
            if from.read_line(&mut head)? == 0 {
                return if head.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
            let line = head[start..].trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(|_| ErrorKind::InvalidData)?,
                // Neither dockerd nor a plugin of ours sends its messages in pieces.
                "transfer-encoding" => return Err(ErrorKind::Unsupported.into()),
                _ => {}
            }
        }
        let first_line = head.lines().next().unwrap_or_default().to_owned();
        let mut bytes = head.into_bytes();
        let body = bytes.len();
        bytes.resize(body + length, 0);
        from.read_exact(&mut bytes[body..])?;
        Ok(Some(Self { bytes, body, first_line }))
    }

    /// `NetworkDriver.Join` of `POST /NetworkDriver.Join HTTP/1.1`.
    pub(super) fn method(&self) -> String {
        let path = self.first_line.split(' ').nth(1).unwrap_or_default();
        path.trim_start_matches('/').to_owned()
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.first_line.split(' ').nth(1)?.parse().ok()
    }
}
