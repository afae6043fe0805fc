// SPDX-License-Identifier: Apache-2.0
//! Files of older and newer versions, and of other programs. `versions/N.sql` is a file of version N with rows in every
//! table, as sqlite3 dumps it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::*;

const OLD: [(i64, &str); 4] = [
    (1, include_str!("versions/1.sql")),
    (2, include_str!("versions/2.sql")),
    (3, include_str!("versions/3.sql")),
    (4, include_str!("versions/4.sql")),
];

/// A closed file created by `script`.
fn made_by(script: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ciao.db");
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.execute_batch(script).unwrap();
    (folder, path)
}

/// A file of this version with rows in every table.
pub(super) fn newest_with_rows() -> (TempDir, PathBuf) {
    let (folder, path) = made_by(OLD[OLD.len() - 1].1);
    drop(Store::open(&path).unwrap());
    (folder, path)
}

fn texts(conn: &Connection, query: &str) -> Vec<String> {
    let mut statement = conn.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(rusqlite::Result::unwrap).collect()
}

fn number(conn: &Connection, pragma: &str) -> i64 {
    conn.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
}

fn tables(conn: &Connection) -> Vec<String> {
    texts(conn, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
}

/// Every row of every table, with the values of the columns by name.
fn rows(conn: &Connection) -> BTreeMap<String, BTreeSet<BTreeMap<String, String>>> {
    let of = |table: &String| {
        let mut statement = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |(n, name): (usize, &String)| Ok((name.clone(), format!("{:?}", row.get_ref(n)?)));
            columns.iter().enumerate().map(value).collect::<rusqlite::Result<_>>()
        };
        statement.query_map([], row).unwrap().map(rusqlite::Result::unwrap).collect()
    };
    tables(conn).iter().map(|table| (table.clone(), of(table))).collect()
}

/// The schema without order and comments: columns, indices, foreign keys, checks, views.
fn schema_of(conn: &Connection) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    for table in tables(conn).iter().filter(|table| *table != "sqlite_sequence") {
        let of = |pragma: &str, columns: &str| {
            texts(conn, &format!("SELECT '{table}: {pragma} ' || {columns} FROM pragma_{pragma}('{table}')"))
        };
        parts.extend(of("table_xinfo", "concat_ws(' ', name, type, \"notnull\", dflt_value, pk, hidden)"));
        parts.extend(of("foreign_key_list", "concat_ws(' ', \"table\", \"from\", \"to\", on_delete)"));
        parts.extend(of("table_list", "concat_ws(' ', wr, strict)"));
        let text = &texts(conn, &format!("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"))[0];
        parts.extend(checks(text).into_iter().map(|check| format!("{table}: CHECK {check}")));
    }
    let others =
        texts(conn, "SELECT sql FROM sqlite_schema WHERE type IN ('index', 'view', 'trigger') AND sql IS NOT NULL");
    parts.extend(others.iter().map(|sql| plain(sql)));
    parts
}

/// SQL without comments and superfluous blanks.
fn plain(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The conditions that rows must meet.
fn checks(sql: &str) -> Vec<String> {
    let sql = plain(sql);
    let condition = |after: &str| {
        let mut depth = 0;
        let end = after.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        after[..=end.unwrap()].to_owned()
    };
    sql.split("CHECK ").skip(1).map(condition).collect()
}

#[test]
fn a_file_of_each_older_version_is_converted_to_the_current_schema() {
    let (_folder, store) = store();
    let new = schema_of(&Connection::open(store.path()).unwrap());
    assert!(
        new.iter().any(|part| part.contains("CHECK (kind = 'lease' OR kind = 'gateway' OR kind = 'reserved')")),
        "{new:#?}"
    );
    for (version, script) in OLD {
        let (_folder, path) = made_by(script);
        drop(Store::open(&path).unwrap());
        let conn = Connection::open(&path).unwrap();
        let converted = schema_of(&conn);
        let lacks: Vec<_> = new.difference(&converted).collect();
        let has: Vec<_> = converted.difference(&new).collect();
        assert!(lacks.is_empty() && has.is_empty(), "version {version} lacks {lacks:#?} and has {has:#?}");
        assert_eq!(number(&conn, "user_version"), schema::VERSION);
        assert_eq!(number(&conn, "application_id"), number(&Connection::open(store.path()).unwrap(), "application_id"));
        assert_eq!(texts(&conn, "PRAGMA integrity_check"), ["ok"]);
        assert!(texts(&conn, "SELECT 'broken' FROM pragma_foreign_key_check").is_empty());
    }
}

#[test]
fn a_file_of_each_older_version_keeps_its_rows() {
    for (version, script) in OLD {
        let (_folder, path) = made_by(script);
        let mut old = rows(&Connection::open(&path).unwrap());
        assert!(old.values().all(|rows| !rows.is_empty()), "version {version} has rows in every table");
        let store = Store::open(&path).unwrap();
        // Everything can be read as what it is.
        store
            .read(|tx| {
                tx.check_addresses()?;
                let (networks, vnics) = (tx.networks()?, tx.vnics(None)?);
                assert_eq!((networks.len(), vnics.len(), tx.vnics_deleting()?.len()), (2, 3, 1));
                assert_eq!((networks[0].subnets[0].aux.len(), vnics[0].allowed.len()), (1, 2));
                assert_eq!((tx.endpoints()?.len(), tx.ports()?.len(), tx.uplinks()?.len()), (2, 2, 1));
                Ok(())
            })
            .unwrap();
        drop(store);
        let mut new = rows(&Connection::open(&path).unwrap());
        // What a step changes on purpose.
        old.remove("peer");
        let text = |value: &str| format!("{:?}", rusqlite::types::ValueRef::Text(value.as_bytes()));
        let named = |name| new["setting"].iter().find(|row| row["name"] == text(name)).map(|row| row["value"].clone());
        assert_eq!(named("former_rules"), (version < 4).then(|| text("1")), "version {version}");
        for rows in [&mut old, &mut new] {
            let changed = ["compatible", "clock", "former_rules"].map(text);
            rows.get_mut("setting").unwrap().retain(|row| !changed.contains(&row["name"]));
        }
        let vnics = old.remove("vnic_record").unwrap().into_iter().map(|mut row| {
            if row["state"] == text("going") {
                row.insert("state".into(), text("deleting"));
            }
            row
        });
        old.insert("vnic_record".into(), vnics.collect());
        // New columns aside, nothing else differs.
        for (table, old) in &old {
            let columns: BTreeSet<_> = old.iter().flat_map(BTreeMap::keys).collect();
            let kept: BTreeSet<BTreeMap<_, _>> = new[table]
                .iter()
                .map(|row| {
                    row.iter().filter(|(name, _)| columns.contains(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
                })
                .collect();
            assert_eq!(kept, *old, "version {version}, table {table}");
        }
    }
}

#[test]
fn a_conversion_writes_a_backup_and_a_failed_one_leaves_the_file_as_it_was() {
    let (folder, path) = made_by(OLD[2].1);
    let old = rows(&Connection::open(&path).unwrap());
    // In the way of the step: the conversion fails.
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("CREATE TABLE vnic_new (x)").unwrap();
    let error = format!("{:#}", Store::open(&path).err().unwrap());
    assert!(error.contains("convert the schema from version 3"), "{error}");
    assert_eq!((number(&conn, "user_version"), number(&conn, "application_id")), (3, 0));
    conn.execute_batch("DROP TABLE vnic_new").unwrap();
    assert_eq!(rows(&conn), old);
    assert!(texts(&conn, "SELECT tenant FROM vnic WHERE tenant IS NOT NULL").len() == 3, "its views are there");
    drop(conn);
    drop(Store::open(&path).unwrap());
    let copy = folder.path().join(format!("ciao.db.before-v{}", schema::VERSION));
    let copy = Connection::open(copy).unwrap();
    assert_eq!((number(&copy, "user_version"), rows(&copy)), (3, old));
    let names: BTreeSet<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.contains(std::ffi::OsStr::new("ciao.db.part")), "{names:?}");
}

#[test]
fn a_new_file_has_no_backup() {
    let (folder, _store) = store();
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains("before")).count(), 0);
}

#[test]
fn a_command_advises_what_to_do_with_an_older_file() {
    let (_folder, path) = made_by(OLD[0].1);
    let error = format!("{:#}", Store::open_reading(&path).err().unwrap());
    assert!(error.contains("version 1, older than") && error.contains("restart ciao-net and ciao-ipam"), "{error}");
    drop(Store::open(&path).unwrap());
    assert!(Store::open_reading(&path).is_ok());
}

#[test]
fn pools_of_a_file_that_did_not_record_their_last_request_count_as_old() {
    let (_folder, path) = made_by(OLD[1].1);
    let store = Store::open(&path).unwrap();
    let pools = |time| store.read(|tx| tx.pools_requested_before(time)).unwrap().len();
    assert_eq!((pools(1_700_000_000_001), pools(1_700_000_000_002)), (0, 1));
}

#[test]
fn a_newer_file_is_used_only_if_it_is_compatible() {
    let (_folder, store) = store();
    let path = store.path().to_owned();
    let newer = |compatible: i64| {
        let conn = Connection::open(&path).unwrap();
        conn.execute("UPDATE setting SET value = ?1 WHERE name = 'compatible'", [compatible.to_string()]).unwrap();
        conn.pragma_update(None, "user_version", schema::VERSION + 1).unwrap();
    };
    let this = schema::VERSION;
    // The other daemon is upgraded while this one runs.
    newer(this);
    store.write(|tx| tx.setting_or("a", "1")).unwrap();
    newer(this + 1);
    let error = format!("{:#}", store.write(|tx| tx.setting_or("b", "1")).unwrap_err());
    assert!(error.contains("install the newer ciao"), "{error}");
    drop(store);
    let refused = |error: Option<anyhow::Error>| format!("{:#}", error.unwrap()).contains("install the newer ciao");
    assert!(refused(Store::open(&path).err()) && refused(Store::open_reading(&path).err()));
    newer(this);
    assert!(Store::open_reading(&path).is_ok());
    Store::open(&path).unwrap().write(|tx| tx.setting_or("b", "1")).unwrap();
    assert_eq!(number(&Connection::open(&path).unwrap(), "user_version"), this + 1, "it is not stepped down");
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_was() {
    let cases = [
        "CREATE TABLE bookmark (url TEXT)",
        "CREATE TABLE bookmark (url TEXT); PRAGMA user_version = 2",
        "CREATE TABLE pool_set (x); PRAGMA user_version = 2",
        "PRAGMA application_id = 12345",
        "PRAGMA user_version = 77",
        "CREATE TABLE bookmark (url TEXT); PRAGMA application_id = 12345; PRAGMA user_version = 4",
    ];
    for script in cases {
        let (_folder, path) = made_by(script);
        let before = fs::read(&path).unwrap();
        for error in [Store::open(&path).err(), Store::open_reading(&path).err()] {
            let error = format!("{:#}", error.unwrap());
            assert!(error.contains("of another program") && error.contains("ciao.db"), "{script}: {error}");
        }
        assert!(fs::read(&path).unwrap() == before, "{script} changed");
    }
}

#[test]
fn a_command_creates_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("typo.db");
    let error = format!("{:#}", Store::open_reading(&path).err().unwrap());
    assert!(error.contains("typo.db") && error.contains("no such file"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(&path, "").unwrap();
    let error = format!("{:#}", Store::open_reading(&path).err().unwrap());
    assert!(error.contains("the file is empty"), "{error}");
}
