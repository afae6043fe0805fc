// SPDX-License-Identifier: Apache-2.0
//! Files that several daemons open at the same time, and what remains when they have closed them.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use super::*;

/// A folder whose disk takes no time.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn two_daemons_that_open_a_new_file_at_once_both_get_it() {
    let folder = in_memory();
    for pair in 0..500 {
        let path = folder.path().join(format!("{pair}.db"));
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            let open = || {
                start.wait();
                Store::open(&path)
            };
            let daemons = [scope.spawn(open), scope.spawn(open)].map(|daemon| daemon.join().unwrap());
            for (daemon, opened) in daemons.into_iter().enumerate() {
                let store = opened.unwrap_or_else(|error| panic!("pair {pair}, daemon {daemon}: {error:#}"));
                store.write(move |tx| tx.setting_or(&daemon.to_string(), "1")).unwrap();
            }
        });
    }
}

/// A dead battery, a clock that was ahead before: ages would be negative until the host's clock passes the records.
#[test]
fn after_a_boot_nothing_recorded_is_younger_than_now() {
    const DAY: i64 = 86_400_000;
    let (folder, store) = store();
    let path = folder.path().join("ciao.db");
    let (pool, _) = network(&store);
    store
        .write(move |tx| {
            assert!(tx.take(&pool.set, address("10.0.0.2"))?);
            tx.grant(&pool, address("10.0.0.2"), AddressKind::Lease)?;
            tx.set_engine_started()
        })
        .unwrap();
    let times = [
        ("pool_set", "restoring"),
        ("pool_record", "created"),
        ("pool_record", "requested"),
        ("address_record", "granted"),
        ("address_record", "unclaimed"),
        ("network_record", "created"),
        ("setting", "value"),
    ];
    let mut newest = store.now();
    drop(store);
    for (table, column) in times {
        newest += DAY;
        let conn = Connection::open(&path).unwrap();
        let of = if table == "setting" { "name = 'engine_started'" } else { "true" };
        assert!(conn.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE {of}"), [newest]).unwrap() > 0);
        conn.execute("UPDATE setting SET value = 'another-boot 0' WHERE name = 'clock'", []).unwrap();
        let booted = Store::open_at(&path, SystemTime::now()).unwrap();
        assert!((0..10_000).contains(&(booted.now() - newest)), "{table}.{column}: {}", booted.now() - newest);
    }
}

/// Run by the next test in a process of its own: opens each file that it reads the name of.
#[test]
fn opens_files_by_name() {
    if std::env::var_os("CIAO_OPEN").is_none() {
        return;
    }
    for path in std::io::stdin().lines() {
        let opened = Store::open(Path::new(&path.unwrap()));
        println!("opened: {}", opened.err().map_or_else(|| "ok".into(), |error| format!("{error:#}")));
    }
}

#[test]
fn two_processes_that_open_new_files_at_once_both_get_them() {
    use std::io::{BufRead, BufReader, Write};

    const PAIRS: usize = 500;
    let folder = in_memory();
    let daemon = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::opening::opens_files_by_name", "--nocapture", "--quiet"])
            .env("CIAO_OPEN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut daemons = [daemon(), daemon()];
    let mut output = daemons.each_mut().map(|daemon| BufReader::new(daemon.stdout.take().unwrap()).lines());
    for pair in 0..PAIRS {
        let path = folder.path().join(format!("{pair}.db"));
        for daemon in &mut daemons {
            writeln!(daemon.stdin.as_mut().unwrap(), "{}", path.display()).unwrap();
        }
        for lines in &mut output {
            let opened = lines.map(Result::unwrap).find_map(|line| Some(line.split_once("opened: ")?.1.to_owned()));
            assert_eq!(opened.as_deref(), Some("ok"), "pair {pair}");
        }
    }
    for mut daemon in daemons {
        drop(daemon.stdin.take());
        assert!(daemon.wait().unwrap().success());
    }
}

/// The names of the files beside `path`, its lock aside.
fn files_beside(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

#[test]
fn after_both_daemons_have_stopped_the_file_alone_is_complete() {
    let (folder, ipam) = store();
    let net = Store::open(ipam.path()).unwrap();
    for (number, store) in [&ipam, &net, &ipam, &net].into_iter().enumerate() {
        store.write(move |tx| tx.setting_or(&number.to_string(), "1")).unwrap();
        // Reading connections are open too when they end.
        assert!(store.read(|tx| tx.networks()).unwrap().is_empty());
    }
    let path = ipam.path().to_owned();
    drop(ipam);
    // One has ended, the other goes on: what the first wrote is in the file already, were its log lost.
    let alone = folder.path().join("copy");
    fs::create_dir(&alone).unwrap();
    fs::copy(&path, alone.join("ciao.db")).unwrap();
    let count = |path: &Path| {
        let count = "SELECT count(*) FROM setting WHERE name < 'a'";
        Store::open_reading(path).unwrap().read(|tx| tx.first(count, [], |row| row.get::<_, i64>(0))).unwrap()
    };
    assert_eq!(count(&alone.join("ciao.db")), Some(4));
    drop(net);
    assert_eq!(files_beside(&path), ["ciao.db", "copy"]);
    assert_eq!(count(&path), Some(4));
}

#[test]
fn a_file_locked_by_another_process_is_an_error_that_names_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ciao.db");
    let lock = fs::File::create(folder.path().join("ciao.db.lock")).unwrap();
    lock.lock().unwrap();
    let error =
        format!("{:#}", connection::open_within(&path, SystemTime::now(), Duration::from_millis(20)).err().unwrap());
    assert!(error.contains("ciao.db.lock"), "{error}");
    lock.unlock().unwrap();
    assert!(Store::open(&path).is_ok());
}
