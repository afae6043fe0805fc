// SPDX-License-Identifier: Apache-2.0
//! What the writer remembers, and changes without a savepoint. A debug build compares all that is remembered with the
//! records, so each test with leases is one of this too.

use super::*;

/// The pool as the writer sees it, twice: as it reads it, and as it remembers it.
fn known(store: &Store, pool: &Pool) -> Option<Pool> {
    let id = pool.pool_id.clone();
    let (read, remembered) = store.write(move |tx| Ok((tx.pool_by_id(&id)?, tx.pool_by_id(&id)?))).unwrap();
    assert_eq!(read, remembered);
    read
}

#[test]
fn what_another_process_commits_is_seen() {
    let (_folder, store) = store();
    let (pool, network) = network(&store);
    assert_eq!(known(&store, &pool).as_ref(), Some(&pool));
    let other = Store::open(store.path()).unwrap();
    let set = pool.set.clone();
    let used = move |tx: &Tx<'_>| tx.use_of(&set).map(|found| (found.network, found.launcher));
    assert_eq!(store.write(used.clone()).unwrap(), (true, false));
    other.write(move |tx| tx.delete_network(&network.id)).unwrap();
    assert_eq!(store.write(used).unwrap(), (false, false));
    let raw = Connection::open(store.path()).unwrap();
    raw.execute_batch("UPDATE pool_record SET refs = 7").unwrap();
    assert_eq!(known(&store, &pool).map(|pool| pool.refs), Some(7));
    raw.execute_batch("DELETE FROM pool_record").unwrap();
    assert_eq!(known(&store, &pool), None);
}

#[test]
fn what_the_writer_changes_itself_is_seen_and_what_fails_is_not() {
    let (_folder, store) = store();
    let pool = network(&store).0;
    let refs = || known(&store, &pool).map(|pool| pool.refs);
    let more = |fails: bool| {
        let pool = pool.clone();
        let raised = store.write(move |tx| {
            assert_eq!(tx.pool_by_id(&pool.pool_id)?.map(|pool| pool.refs), Some(1));
            tx.add_pool_ref(&pool, &AddressSpace::of(Scope::Local))?;
            assert_eq!(tx.pool_by_id(&pool.pool_id)?.map(|pool| pool.refs), Some(2));
            ensure!(!fails, "no");
            Ok(())
        });
        assert_eq!(raised.is_err(), fails);
    };
    more(true);
    assert_eq!(refs(), Some(1));
    more(false);
    assert_eq!(refs(), Some(2));
}

/// Holds the writer until it is called, so that all changes begun before are in one transaction.
fn hold(store: &Store) -> impl FnOnce() + use<> {
    let (held, go) = std::sync::mpsc::channel::<()>();
    let first = store.begin(move |tx| {
        assert!(go.recv().is_err());
        tx.set_setting("first", "1")
    });
    move || {
        drop(held);
        drop(first.wait());
    }
}

fn set_one(name: &'static str, fails: bool) -> impl FnOnce(&Tx<'_>) -> Result<()> + Send + 'static {
    move |tx| {
        tx.set_setting(name, "1")?;
        ensure!(!fails, "no {name}");
        Ok(())
    }
}

fn settings(store: &Store) -> Vec<String> {
    let names = "SELECT name FROM setting WHERE value = '1' AND name NOT IN ('compatible') ORDER BY name";
    store.read(|tx| tx.all(names, [], |row| row.get(0))).unwrap()
}

#[test]
fn a_change_without_a_savepoint_fails_alone_before_it_writes_or_after_it_set_one() {
    let (_folder, store) = store();
    let release = hold(&store);
    let begun = [
        store.begin_unguarded(|_| bail!("no early"), false),
        store.begin_unguarded(set_one("good", false), false),
        store.begin_unguarded(
            |tx| {
                tx.guard()?;
                tx.guard()?;
                set_one("late", true)(tx)
            },
            false,
        ),
        store.begin(set_one("guarded", true)),
        store.begin_unguarded(set_one("last", false), false),
    ];
    release();
    let answers = begun.map(|answer| answer.wait().err().map(|error| format!("{error:#}")));
    let failed = |name| Some(format!("no {name}"));
    assert_eq!(answers, [failed("early"), None, failed("late"), failed("guarded"), None]);
    assert_eq!(settings(&store), ["first", "good", "last"]);
}

#[test]
fn nothing_is_kept_of_a_transaction_in_which_one_fails_half_way_without_a_savepoint() {
    let (_folder, store) = store();
    let release = hold(&store);
    let begun = [
        store.begin(set_one("good", false)),
        store.begin_unguarded(set_one("half", true), false),
        store.begin(set_one("behind", false)),
    ];
    release();
    let [good, half, behind] = begun.map(|answer| answer.wait().err().map(|error| format!("{error:#}")));
    assert_eq!(half.as_deref(), Some("no half"));
    assert!(good.as_ref().is_some_and(|error| error.contains("nothing was changed: no half")), "{good:?}");
    // It was not in that transaction, or fails with it.
    assert_eq!(settings(&store).contains(&"behind".to_owned()), behind.is_none());
    assert!(!settings(&store).iter().any(|name| ["first", "good", "half"].contains(&name.as_str())));
}
