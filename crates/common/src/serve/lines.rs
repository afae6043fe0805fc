// SPDX-License-Identifier: Apache-2.0
//! A reply that goes on: text that is sent as it comes, until its end or until the client is gone.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::store::Committed;

/// The content type of one JSON value a line.
pub const LINES: &str = "application/x-ndjson";

/// Between two reads: what many commits bring is sent together.
const PAUSE: Duration = Duration::from_millis(100);

/// The text after a position, and the position behind it. An empty text: there is none yet; `None`: it has ended.
pub type Piece = Option<(Vec<u8>, i64)>;

/// Text that is read piece by piece, with the next commit for what is not there yet.
#[derive(Clone)]
pub struct Lines {
    /// The position of the first piece.
    pub start: i64,
    /// The piece at a position. May block.
    pub read: Arc<dyn Fn(i64) -> Result<Piece> + Send + Sync>,
    /// When there may be more.
    pub committed: Committed,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("start", &self.start).finish_non_exhaustive()
    }
}

impl Lines {
    /// The pieces, for a response.
    pub(super) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + 'static {
        let (pieces, body) = channel(1);
        tokio::spawn(async move {
            if let Err(error) = self.send(&pieces).await {
                log::warn!("a reply ended early: {error:#}");
                // So that the client does not take what it has for all.
                drop(pieces.send(Err(io::Error::other(error))).await);
            }
        });
        Body(body)
    }

    async fn send(mut self, pieces: &Sender<io::Result<Bytes>>) -> Result<()> {
        let mut position = self.start;
        loop {
            // A commit during the read is followed by another read.
            self.committed.mark_unchanged();
            let read = Arc::clone(&self.read);
            let Some((text, next)) = spawn_blocking(move || read(position)).await?? else { return Ok(()) };
            position = next;
            if !text.is_empty() {
                if pieces.send(Ok(text.into())).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            tokio::select! {
                () = pieces.closed() => return Ok(()),
                changed = self.committed.changed() => if changed.is_err() { return Ok(()) },
            }
            sleep(PAUSE).await;
        }
    }
}

struct Body(Receiver<io::Result<Bytes>>);

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
