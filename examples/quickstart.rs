//! The first five minutes: open, put, get, a batch, a transaction, a scan, close.
//!
//!     cargo run --release --example quickstart [FILE]

mod place;

use ringdb::Db;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = place::Place::from_args()?;
    let db = Db::open(place.path()).await?;
    let backend = db.backend();
    println!("backend: {:?} ({}), sync: {}", backend.kind, backend.reason, backend.sync_method);

    // A column family is a named key space; the handle is a cheap clone.
    let users = db.column_family("users").await?;
    let sessions = db.column_family("sessions").await?;

    // Once this is awaited, the row survives power loss.
    users.put("ada", "1815").await?;
    let born = users.get("ada").await?;
    println!("ada: {}", text(born.as_deref().unwrap_or_default()));

    // All or none, over both families. `submit` orders the batch; what it returns resolves when it
    // is durable.
    let mut batch = db.batch();
    batch.put(&users, "alan", "1912").put(&users, "grace", "1906").delete(&sessions, "old");
    let commit = batch.submit().await?;
    println!("ordered as {:?}", commit.seq());
    commit.await?;

    // Reads and writes of a transaction hold together; on a conflict the closure runs again.
    let made = db
        .transact(|tx| {
            let users = users.clone();
            async move {
                if tx.contains(&users, "alan").await? {
                    return Ok::<_, ringdb::Error>(false);
                }
                tx.put(&users, "alan", "1912");
                Ok(true)
            }
        })
        .await?;
    println!("alan made now: {made}");

    // A scan is a stream over a snapshot of its own.
    let mut rows = users.range("a".."b").rev();
    while let Some((key, value)) = rows.try_next().await? {
        println!("{} {}", text(&key), text(&value));
    }

    db.close().await?;
    Ok(())
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
