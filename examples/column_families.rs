//! Column families: many ordered key spaces in one file, each with writers of its own, and one
//! commit order.
//!
//!     cargo run --release --example column_families [FILE]

mod place;

use ringdb::{ColumnFamily, ColumnFamilyOptions, Db, Error, ErrorKind};

const WRITERS: usize = 8;
const ROWS: u32 = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = place::Place::from_args()?;
    let db = Db::open(place.path()).await?;

    // One task per family. No writer waits for another's family, and all share one sync per group.
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let family = db.column_family(format!("events-{writer}")).await?;
        writers.push(tokio::spawn(write(family)));
    }
    for writer in writers {
        writer.await??;
    }
    let metrics = db.metrics();
    println!("{} durable commits took {} syncs", metrics.commits, metrics.syncs);

    // A batch moves a row from one family to another: nobody sees it in both or in none.
    let from = db.existing_column_family("events-0").await?;
    let to = db.column_family("archive").await?;
    let key = 0_u32.to_be_bytes();
    if let Some(value) = from.get(key).await? {
        db.batch().put(&to, key, value).delete(&from, key).commit().await?;
    }

    // Names are ascending; an unlogged family costs no log and reopens as of the last checkpoint.
    let cache = match db.create_column_family("cache", ColumnFamilyOptions::new().unlogged()).await
    {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            db.existing_column_family("cache").await?
        }
        other => other?,
    };
    cache.put("greeting", "hello").await?;
    for family in db.stat().families {
        let log = if family.logged { "logged" } else { "unlogged" };
        println!("{:<10} {log:<8} about {} rows", family.name, family.approximate_rows);
    }

    // A handle of a dropped family fails, even when a new family takes the name.
    db.drop_column_family("archive").await?;
    db.column_family("archive").await?;
    let error = to.get(key).await.expect_err("the family of this handle was dropped");
    println!("reading a dropped family: {error}");

    db.close().await?;
    Ok(())
}

async fn write(family: ColumnFamily) -> Result<(), Error> {
    for row in 0..ROWS {
        family.put(row.to_be_bytes(), format!("event {row}")).await?;
    }
    Ok(())
}
