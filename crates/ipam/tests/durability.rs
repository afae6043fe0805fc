// SPDX-License-Identifier: Apache-2.0
//! Answered is on the disk: of a copy of the disk, taken at any moment under load, every lease that was answered before
//! is there; and waiting requests share a flush.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{scope, sleep};
use std::time::Duration;

use ciao_common::api::ipam::{RequestAddress, RequestPool};
use ciao_common::store::Store;
use ciao_common::types::PoolId;
use ciao_ipam::{Config, Ipam};
use tempfile::TempDir;

const CLIENTS: usize = 8;
const SNAPSHOTS: usize = 5;

fn run(program: &str, args: &[&Path]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A filesystem in a file, to which the kernel writes what it was told to, and the rest half a minute later.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn mount(image: PathBuf) -> Self {
        let mounted = image.with_extension("mounted");
        fs::create_dir(&mounted).unwrap();
        run("mount", &["-oloop".as_ref(), &image, &mounted]);
        Self { image, mounted }
    }

    fn database(&self) -> PathBuf {
        self.mounted.join("ciao.db")
    }

    /// How often it was told to write what it holds.
    fn flushes(&self) -> u64 {
        let device = run("losetup", &["-nONAME".as_ref(), "-j".as_ref(), &self.image]);
        let name = Path::new(device.trim()).file_name().unwrap().to_owned();
        let counts = fs::read_to_string(Path::new("/sys/block").join(name).join("stat")).unwrap();
        // The sixteenth of Documentation/block/stat.rst.
        counts.split_whitespace().nth(15).unwrap().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &[&self.mounted]);
    }
}

fn make(folder: &TempDir) -> Disk {
    let image = folder.path().join("disk");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run("mkfs.ext4", &["-qF".as_ref(), &image]);
    Disk::mount(image)
}

/// Requests addresses until stopped, and notes those that were answered.
fn request(ipam: &Ipam, pool: &PoolId, stop: &AtomicBool, answered: &Mutex<Vec<IpAddr>>) {
    while !stop.load(Ordering::Acquire) {
        let request = RequestAddress { pool_id: pool.clone(), address: None, options: Default::default() };
        let reply = ipam.request_address(request).wait().unwrap();
        answered.lock().unwrap().push(reply.address.split('/').next().unwrap().parse().unwrap());
    }
}

#[test]
fn every_lease_that_was_answered_is_in_a_copy_of_the_disk_and_waiting_requests_share_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let disk = make(&folder);
    let store = Arc::new(Store::open(&disk.database()).unwrap());
    let ipam = Ipam::new(Arc::clone(&store), Config::default()).unwrap();
    let pool = Some("10.0.0.0/8".parse().unwrap());
    let pool = ipam.request_pool(RequestPool { pool, ..RequestPool::default() }).wait().unwrap().pool_id;
    // What nobody told the disk to write is not in a copy: so a copy shows what was.
    fs::write(disk.mounted.join("unwritten"), "text").unwrap();
    let (answered, mut snapshots) = (Mutex::default(), Vec::new());
    for number in 0..SNAPSHOTS {
        let (stop, flushes, commits) = (AtomicBool::new(false), disk.flushes(), store.commits());
        scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| request(&ipam, &pool, &stop, &answered));
            }
            sleep(Duration::from_millis(50 + 17 * number as u64));
            stop.store(true, Ordering::Release);
        });
        // Answered a moment ago, and nothing closed, moved to the file or flushed since.
        let image = folder.path().join(format!("snapshot{number}"));
        fs::copy(&disk.image, &image).unwrap();
        snapshots.push((image, answered.lock().unwrap().clone()));
        let (flushes, now) = (disk.flushes() - flushes, store.commits());
        let (commits, changes) = (now.commits - commits.commits, now.changes - commits.changes);
        println!("{changes} leases in {commits} commits, {flushes} flushes");
        assert!(flushes >= commits, "{commits} commits, but {flushes} flushes");
        assert!(changes >= 2 * commits, "{changes} changes of {CLIENTS} clients in {commits} commits");
    }
    for (image, answered) in snapshots {
        let copy = Disk::mount(image);
        assert_eq!(
            fs::read(copy.mounted.join("unwritten")).unwrap_or_default(),
            b"",
            "the copy has more than the disk"
        );
        let store = Store::open(&copy.database()).unwrap();
        store
            .read(|tx| {
                tx.check_addresses()?;
                let pool = tx.pool_by_id(&pool)?.unwrap();
                for address in &answered {
                    assert!(tx.address(&pool.set, *address)?.is_some(), "{address} was answered and is not there");
                }
                Ok(())
            })
            .unwrap();
        assert!(answered.len() > CLIENTS);
    }
}
