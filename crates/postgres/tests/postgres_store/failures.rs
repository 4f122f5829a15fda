//! What goes wrong: locks, lost sessions, commits in doubt.

use std::time::Duration;

use redeliver_core::ports::Scope;
use redeliver_core::ports::store::{Store, StoreError, Tx};
use redeliver_postgres::{PgOptions, PgStore};
use sqlx::Executor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rows::{Account, account};
use crate::{committed, outgoing, somebody_waits, with_options, with_store};
use redeliver_testing::{bounded, eventually, server};

/// Whether the row's lock is free at this moment.
async fn lock_is_free(store: &PgStore, key: &str) -> bool {
    let text = format!(
        "select from {}.row_store where key = $1 for update nowait",
        store.schema()
    );
    let mut tx = store.pool().begin().await.unwrap();
    let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(key);
    query.execute(&mut *tx).await.is_ok()
}

#[tokio::test]
async fn locks_are_free_after_rollback_and_soon_after_a_drop() {
    with_store(|store| async move {
        committed(&store, async |tx| tx.insert(&account("a", 1)).await)
            .await
            .unwrap();
        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.get_for_update::<Account>("a").await.unwrap();
        assert!(!lock_is_free(&store, "a").await);
        tx.rollback().await;
        assert!(lock_is_free(&store, "a").await, "at once");

        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.get_for_update::<Account>("a").await.unwrap();
        drop(tx);
        eventually("the lock of a dropped transaction", async || {
            lock_is_free(&store, "a").await.then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_given_up_frees_its_locks_too() {
    with_store(|store| async move {
        for key in ["a", "b"] {
            committed(&store, async |tx| tx.insert(&account(key, 1)).await)
                .await
                .unwrap();
        }
        let mut holder = store.begin(Scope::default()).await.unwrap();
        holder.get_for_update::<Account>("a").await.unwrap();
        let other = store.clone();
        let waiter = tokio::spawn(async move {
            let mut tx = other.begin(Scope::default()).await.unwrap();
            tx.get_for_update::<Account>("b").await.unwrap();
            tx.get_for_update::<Account>("a").await
        });
        somebody_waits(&store).await;
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
        eventually("the lock on b", async || {
            lock_is_free(&store, "b").await.then_some(())
        })
        .await;
        holder.rollback().await;
    })
    .await;
}

#[test]
fn a_transaction_may_be_dropped_outside_a_runtime() {
    let Some(url) = server("DATABASE_URL") else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tx = runtime.block_on(async {
        let store = PgStore::connect(&url, PgOptions::default()).unwrap();
        store.begin(Scope::default()).await.unwrap()
    });
    drop(tx);
    drop(runtime);
}

#[tokio::test]
async fn a_wait_for_a_lock_ends_and_may_be_tried_again() {
    let options = PgOptions {
        lock_timeout: Duration::from_millis(20),
        ..PgOptions::default()
    };
    with_options(options, |store| async move {
        committed(&store, async |tx| tx.insert(&account("a", 1)).await)
            .await
            .unwrap();
        let mut holder = store.begin(Scope::default()).await.unwrap();
        holder.get_for_update::<Account>("a").await.unwrap();
        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.insert(&account("b", 1)).await.unwrap();
        let error = tx.get_for_update::<Account>("a").await.unwrap_err();
        assert!(matches!(error, StoreError::Transient(_)), "{error:?}");
        let after = tx.insert(&account("c", 1)).await.unwrap_err();
        assert_eq!((&after, tx.commit().await), (&error, Err(error.clone())));
        holder.rollback().await;
        assert_eq!(store.read_all().await.unwrap().rows.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_ends_one_of_two_and_may_be_tried_again() {
    with_store(|store| async move {
        for key in ["a", "b"] {
            committed(&store, async |tx| tx.insert(&account(key, 1)).await)
                .await
                .unwrap();
        }
        let mut one = store.begin(Scope::default()).await.unwrap();
        let mut two = store.begin(Scope::default()).await.unwrap();
        one.get_for_update::<Account>("a").await.unwrap();
        two.get_for_update::<Account>("b").await.unwrap();
        let cross = async {
            tokio::join!(
                one.get_for_update::<Account>("b"),
                two.get_for_update::<Account>("a")
            )
        };
        let (first, second) = bounded("the deadlock's end", cross).await;
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let error = first.err().or(second.err()).unwrap();
        assert!(matches!(error, StoreError::Transient(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_lost_session_is_transient_before_commit() {
    with_store(|store| async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        tx.insert(&account("a", 1)).await.unwrap();
        let id: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(tx.connection())
            .await
            .unwrap();
        let end = sqlx::query("select pg_terminate_backend($1)").bind(id);
        end.execute(store.pool()).await.unwrap();
        let error = bounded("an error", async {
            loop {
                if let Err(error) = tx.get::<Account>("a").await {
                    return error;
                }
            }
        })
        .await;
        assert!(matches!(error, StoreError::Transient(_)), "{error:?}");
        assert_eq!(tx.commit().await, Err(error));
        assert!(store.read_all().await.unwrap().rows.is_empty());
    })
    .await;
}

#[tokio::test]
async fn constraints_refuse() {
    with_store(|store| async move {
        let mut tx = store.begin(Scope::default()).await.unwrap();
        // jsonb cannot hold U+0000.
        let error = tx.insert(&account("nul \0", 1)).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_the_password_stays_secret() {
    let url = "postgres://user:hunter2@127.0.0.1:1/none";
    let options = PgOptions {
        connect_within: Duration::from_millis(200),
        ..PgOptions::default()
    };
    let store = PgStore::connect(url, options).unwrap();
    let Err(error) = store.begin(Scope::default()).await else {
        panic!("nobody listens there");
    };
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    let error = store.outbox_mark(&[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    assert!(!format!("{store:?} {error:?} {error}").contains("hunter2"));
    // A wait on a server that is not there neither hangs nor spins.
    bounded("a wait without a server", store.outbox_wait()).await;
    for schema in ["", "A", "a-b", "1a", "a; drop table x", &"a".repeat(64)] {
        let refused = PgStore::connect(url, PgOptions::in_schema(schema)).unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)));
    }
    let refused = PgStore::connect("postgres://u:hunter2@h:port/d", PgOptions::default());
    assert!(!format!("{:?}", refused.unwrap_err()).contains("hunter2"));
}

/// Forwards between a client and the server until the client sends COMMIT; cuts both before
/// that reaches the server, or after the server has answered it.
async fn cutting_proxy(server: String, before: bool) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(server).await?;
                let (mut sent, mut answer) = ([0; 16_384], [0; 16_384]);
                loop {
                    tokio::select! {
                        n = client.read(&mut sent) => match n? {
                            0 => return Ok(()),
                            n if sent[..n].windows(6).any(|w| w == b"COMMIT") => {
                                if !before {
                                    upstream.write_all(&sent[..n]).await?;
                                    upstream.readable().await?;
                                }
                                return std::io::Result::Ok(());
                            }
                            n => upstream.write_all(&sent[..n]).await?,
                        },
                        n = upstream.read(&mut answer) => match n? {
                            0 => return Ok(()),
                            n => client.write_all(&answer[..n]).await?,
                        },
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_commit_without_an_answer_is_in_doubt() {
    let Some(url) = server("DATABASE_URL") else {
        return;
    };
    with_store(move |store| async move {
        let (head, tail) = url
            .rsplit_once('@')
            .unwrap_or(("postgres://postgres", &url));
        let (address, database) = tail.split_once('/').expect("an address and a database");
        for (before, key) in [(true, "cut before"), (false, "cut after")] {
            let port = cutting_proxy(address.to_owned(), before).await;
            let url = format!("{head}@127.0.0.1:{port}/{database}");
            let proxied = PgStore::connect(&url, PgOptions::in_schema(store.schema())).unwrap();
            let mut tx = bounded("begin", proxied.begin(Scope::default()))
                .await
                .unwrap();
            tx.insert(&account(key, 1)).await.unwrap();
            tx.emit(outgoing("order.placed", key, true)).await.unwrap();
            let error = bounded("the end of the commit", tx.commit())
                .await
                .unwrap_err();
            assert!(matches!(error, StoreError::InDoubt(_)), "{error:?}");
            // The next use gets another connection.
            bounded("a new session", proxied.begin(Scope::default()))
                .await
                .unwrap()
                .rollback()
                .await;
        }
        let rows = eventually("the second one", async || {
            let rows = store.read_all().await.unwrap().rows;
            (!rows.is_empty()).then_some(rows)
        })
        .await;
        assert_eq!(
            rows.iter().map(|r| &*r.1).collect::<Vec<_>>(),
            ["cut after"]
        );
        store.pool().execute("select 1").await.unwrap();
    })
    .await;
}
