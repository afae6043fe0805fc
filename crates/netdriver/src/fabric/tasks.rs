// SPDX-License-Identifier: Apache-2.0
//! What is done in the background, by one thread: deleting links takes the kernel some 20 ms.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result};
use ciao_common::store::Vnic;
use ciao_common::sync::lock;
use ciao_common::types::VnicId;

/// A task.
pub(super) enum Task {
    /// Deletes the links of a VNIC in state `deleting`.
    Delete(VnicId),
    Announce(Box<Vnic>),
    /// Dropped when it and all tasks before it are done.
    #[cfg(any(test, feature = "fake-kernel"))]
    Barrier(Sender<()>),
}

/// Tasks that came while the thread was busy.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) deleted: Vec<VnicId>,
    pub(super) announced: Vec<Vnic>,
    #[cfg(any(test, feature = "fake-kernel"))]
    barriers: Vec<Sender<()>>,
}

impl Batch {
    fn add(&mut self, task: Task) {
        match task {
            Task::Delete(id) => self.deleted.push(id),
            Task::Announce(vnic) => self.announced.push(*vnic),
            #[cfg(any(test, feature = "fake-kernel"))]
            Task::Barrier(sender) => self.barriers.push(sender),
        }
    }
}

/// The thread's queue.
pub(super) struct Tasks(Mutex<Sender<Task>>);

impl Tasks {
    /// A queue, and its end for [`serve`].
    pub(super) fn new() -> (Self, Receiver<Task>) {
        let (sender, receiver) = channel();
        (Self(Mutex::new(sender)), receiver)
    }

    pub(super) fn add(&self, task: Task) {
        let sender = lock(&self.0);
        if sender.send(task).is_err() {
            log::warn!("the thread that deletes links has ended: the next start deletes the remaining links");
        }
    }

    /// Waits until the tasks so far are done.
    #[cfg(any(test, feature = "fake-kernel"))]
    pub(super) fn wait(&self) {
        let (sender, done) = channel();
        self.add(Task::Barrier(sender));
        // Dropped with its batch, nothing is sent.
        let _dropped = done.recv();
    }
}

/// Starts the thread. It ends with the queue, or when `run` answers `false`.
pub(super) fn serve(tasks: Receiver<Task>, run: impl Fn(&Batch) -> bool + Send + 'static) -> Result<()> {
    let serve = move || {
        while let Ok(first) = tasks.recv() {
            let mut batch = Batch::default();
            std::iter::once(first).chain(tasks.try_iter()).for_each(|task| batch.add(task));
            if !run(&batch) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("links".into()).spawn(serve).context("start a thread").map(drop)
}
