// SPDX-License-Identifier: Apache-2.0
//! Failures of the store: the error says what to do, changes are atomic, and the store recovers by itself.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::types::AddressSpace;

/// The error message with all causes.
fn message<T>(result: Result<T>) -> String {
    format!("{:#}", result.err().expect("it fails"))
}

fn set(store: &Store, name: &'static str) -> Result<String> {
    store.write(move |tx| tx.setting_or(name, "1"))
}

fn is_set(store: &Store, name: &str) -> bool {
    let query = "SELECT 1 FROM setting WHERE name = ?1";
    store.read(|tx| tx.first(query, [name], |row| row.get::<_, i64>(0))).unwrap().is_some()
}

/// Runs `test` in a thread with mounts of its own, in a folder where it may mount.
fn with_mounts(test: impl FnOnce(&Path) + Send) {
    let folder = tempfile::tempdir().unwrap();
    let ended = std::thread::scope(|scope| {
        let test = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own: run the tests as root");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            test(folder.path());
            umount(folder.path()).unwrap();
        };
        scope.spawn(test).join()
    });
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn mount_memory(folder: &Path, options: &str) {
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
}

/// Overwrites a part of the file.
fn damage(path: &Path, from: u64, length: usize) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0xa5; length]).unwrap();
}

/// A file with some pools, closed.
fn filled() -> (TempDir, PathBuf) {
    let (folder, store) = store();
    store
        .write(|tx| {
            for third in 0..200 {
                let set = tx.insert_pool_set(Scope::Local, None, subnet(&format!("10.0.{third}.0/24")))?;
                tx.insert_pool(&set, &AddressSpace::of(Scope::Local), None, None, false)?;
            }
            Ok(())
        })
        .unwrap();
    let path = store.path().to_owned();
    (folder, path)
}

#[test]
fn a_cause_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ciao.db");
    fs::write(&path, "x".repeat(4096)).unwrap();
    let error = message(Store::open(&path));
    assert_eq!(error.matches("file is not a database").count(), 1, "{error}");
}

#[test]
fn many_changes_wait_no_longer_for_an_open_transaction_than_one() {
    let (_folder, store) = store();
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let since = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = message(set(&store, "a"));
                assert!(error.contains("end its open transaction"), "{error}");
            });
        }
    });
    // Each on its own would take three seconds; those that came while the first waited, as long again at most.
    assert!(since.elapsed() < Duration::from_secs(12), "{:?}", since.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(!is_set(&store, "a"), "what was refused is not done later");
    set(&store, "a").unwrap();
}

#[test]
fn a_reader_does_not_wait_for_an_open_transaction() {
    let (_folder, store) = store();
    set(&store, "a").unwrap();
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO setting VALUES ('b', '1')").unwrap();
    assert!(is_set(&store, "a") && !is_set(&store, "b"));
}

#[test]
fn a_file_on_a_read_only_filesystem_is_refused_until_it_is_writable() {
    with_mounts(|folder| {
        mount_memory(folder, "size=4m");
        let path = folder.join("ciao.db");
        set(&Store::open(&path).unwrap(), "a").unwrap();
        let remount = |flags| mount(None::<&str>, folder, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>);
        remount(MsFlags::MS_RDONLY).unwrap();
        let error = message(Store::open(&path));
        assert!(error.contains("cannot be opened") && error.contains("mounted read-write"), "{error}");
        assert!(error.contains("ciao.db"), "{error}");
        remount(MsFlags::empty()).unwrap();
        let store = Store::open(&path).unwrap();
        assert!(is_set(&store, "a"));
        set(&store, "b").unwrap();
    });
}

#[test]
fn a_read_only_file_is_refused_with_what_to_check() {
    let (_folder, path) = filled();
    // Root ignores modes; so this is SQLite's error for a file that was opened read-only.
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    let conn = connection::open_for_reading(&path).unwrap();
    let clock = Clock::read(&conn, SystemTime::now()).unwrap().0;
    let error =
        message(Tx { conn: &conn, clock, memory: &Memory::default(), guarded: Cell::new(true) }.setting_or("a", "1"));
    assert!(error.contains("cannot be written: check the file's and folder's owner and mode"), "{error}");
}

#[test]
fn a_full_disk_is_an_error_until_there_is_space() {
    with_mounts(|folder| {
        mount_memory(folder, "size=1m");
        let store = Store::open(&folder.join("ciao.db")).unwrap();
        set(&store, "a").unwrap();
        let ballast = folder.join("ballast");
        let full = fs::write(&ballast, vec![0; 2 << 20]);
        assert!(full.is_err(), "the disk takes more than it has");
        let grow = |store: &Store| store.write(|tx| tx.setting_or("large", &"x".repeat(100_000)));
        let error = message(grow(&store));
        assert!(error.contains("the disk is full: free some space"), "{error}");
        assert!(is_set(&store, "a") && !is_set(&store, "large"), "what there is can be read");
        fs::remove_file(&ballast).unwrap();
        grow(&store).unwrap();
        assert!(is_set(&store, "large"));
    });
}

#[test]
fn changes_in_a_transaction_that_fills_the_disk_fail_with_that_cause() {
    with_mounts(|folder| {
        mount_memory(folder, "size=1m");
        let store = Store::open(&folder.join("ciao.db")).unwrap();
        drop(fs::write(folder.join("ballast"), vec![0; 2 << 20]));
        let (held, go) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            // Holds the writer until the others wait, so that all are in one transaction.
            let first = scope
                .spawn(|| store.write(move |tx| tx.setting_or("first", "1").inspect(|_| assert!(go.recv().is_err()))));
            std::thread::sleep(Duration::from_millis(50));
            let others: Vec<_> = ["small", "large", "small too"]
                .into_iter()
                .map(|name| {
                    let value = if name == "large" { "x".repeat(2 << 20) } else { String::new() };
                    let store = &store;
                    let waits = scope.spawn(move || store.write(move |tx| tx.setting_or(name, &value)));
                    std::thread::sleep(Duration::from_millis(50));
                    waits
                })
                .collect();
            drop(held);
            let answers = others.into_iter().map(|other| other.join().unwrap());
            for answer in answers.chain([first.join().unwrap()]) {
                let done = answer.map_err(|error| format!("{error:#}"));
                assert!(done.as_ref().err().is_none_or(|error| error.contains("the disk is full")), "{done:?}");
            }
        });
    });
}

#[test]
fn a_damaged_header_is_refused_and_left_alone() {
    let (_folder, path) = filled();
    damage(&path, 0, 100);
    let before = fs::read(&path).unwrap();
    let error = message(Store::open(&path));
    assert!(error.contains("stop both daemons, keep a copy, and restore a backup"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damaged_pages_are_an_error_of_the_call_that_reads_them() {
    let (_folder, path) = filled();
    let length = fs::metadata(&path).unwrap().len();
    damage(&path, 4096, usize::try_from(length).unwrap() - 4096);
    let opened = Store::open(&path);
    let error = message(opened.and_then(|store| store.read(|tx| tx.view("pool", None))));
    assert!(error.contains("damaged") && error.contains("restore a backup"), "{error}");
}

#[test]
fn a_file_deleted_or_replaced_under_the_daemon_accepts_no_changes() {
    let (_folder, store) = store();
    set(&store, "a").unwrap();
    let path = store.path().to_owned();
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    let error = message(set(&store, "b"));
    assert!(error.contains("was deleted or replaced") && error.contains("restart"), "{error}");
    fs::write(&path, "").unwrap();
    assert!(message(set(&store, "b")).contains("was deleted or replaced"));
    // Put back, it is as before.
    fs::rename(&away, &path).unwrap();
    set(&store, "c").unwrap();
    assert!(is_set(&store, "a") && !is_set(&store, "b") && is_set(&store, "c"));
}

#[test]
fn a_backup_taken_under_changes_is_whole() {
    let (folder, store) = store();
    let copy = folder.path().join("copy.db");
    // On a busy machine the thread may not have begun when the backup is taken.
    store.write(|tx| tx.insert_pool_set(Scope::Local, None, subnet("192.168.0.0/24"))).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                let net = format!("10.{}.{}.0/24", number / 256 % 256, number % 256);
                store.write(move |tx| tx.insert_pool_set(Scope::Local, None, subnet(&net))).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        let from = Connection::open(store.path()).unwrap();
        from.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let restored = Store::open(&copy).unwrap();
    restored.read(|tx| tx.check_addresses()).unwrap();
    let sets = restored.read(|tx| tx.pool_sets_touching(Scope::Local, None, subnet("0.0.0.0/0"))).unwrap();
    assert!(!sets.is_empty(), "what was committed before is in it");
}

#[test]
fn a_row_that_cannot_be_read_is_an_error_that_quotes_it() {
    let (_folder, path) = versions::newest_with_rows();
    let store = Store::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    for (column, list) in [("network_subnet SET aux", "network"), ("vnic_record SET allowed", "vnic")] {
        let read =
            || store.read(|tx| if list == "network" { tx.networks().map(drop) } else { tx.vnics(None).map(drop) });
        read().unwrap();
        other.execute_batch(&format!("UPDATE {column} = '[\"ten\"]'")).unwrap();
        let error = message(read());
        assert!(error.contains(r#"column text "[\"ten\"]""#), "{error}");
    }
}
