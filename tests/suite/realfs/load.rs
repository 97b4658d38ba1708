//! The children that work until the power goes, and what they must leave behind.
//!
//! Commit `n` of a writer is one batch over three families: a row in the writer's own family (now
//! and then a large value), a row in `two`, the writer's line in `heads`; and it deletes the row of
//! forty commits before. So after `L` commits the content of every family is known exactly, and a
//! row names the life in which it was written, so that nothing that was rolled back can return.

use std::path::Path;

use ringdb::{ColumnFamily, Db, Durability, Options};

use super::Way;
use crate::fixture::{block_on, family};

/// Writers that wait for each commit before the next.
pub const WAITING: u64 = 6;

/// The writer that orders commits without waiting, and syncs now and then.
pub const BUFFERED: u64 = WAITING;

/// All of them.
pub const WRITERS: u64 = WAITING + 1;

/// Rows that a writer's own family keeps.
pub const KEPT: u64 = 40;

/// Value of row `n`, written in life `life`.
pub fn value(writer: u64, n: u64, life: u64) -> Vec<u8> {
    let len = match n % 29 {
        // Above 64 KiB values lie in extents of their own.
        28 => 70_000 + n as usize * 37 % 60_000,
        _ => n as usize * 97 % 3000,
    };
    let mut value = life.to_be_bytes().to_vec();
    value.resize(8 + len, (writer * 31 + n) as u8);
    value
}

/// The key of a row in `two`.
pub fn key_of_two(writer: u64, n: u64) -> Vec<u8> {
    [writer, n].map(u64::to_be_bytes).concat()
}

/// The name of a writer's own family.
pub fn name_of(writer: u64) -> String {
    format!("one {writer}")
}

/// Commits of a writer that are in the database.
pub fn head(heads: &ColumnFamily, writer: u64) -> u64 {
    let head = block_on(heads.get(writer.to_be_bytes())).expect("the head is read");
    head.map_or(0, |head| u64::from_be_bytes(head[..].try_into().expect("heads are numbers")) + 1)
}

/// Options and life from a child's argument, `BACKEND DIRECT LIFE`.
fn parse(argument: &str) -> (Options, u64) {
    let life = argument.rsplit(' ').next().and_then(|word| word.parse().ok());
    (Way::of(argument).options(), life.expect("the argument ends with a number"))
}

/// Commits until commits fail. Each acknowledgement is a line, and so is each writer's end.
pub fn work(path: &Path, argument: &str) {
    let (options, life) = parse(argument);
    let db = block_on(options.open(path)).expect("the database opens");
    println!("working");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || {
                let error = write(db, writer, life).expect_err("it writes until it fails");
                println!("\nended {writer} {:?} {error:?}", error.kind());
            });
        }
    });
    println!("closed {:?}", block_on(db.close()).map_err(|error| error.kind()));
}

fn write(db: &Db, writer: u64, life: u64) -> ringdb::Result<()> {
    let one = block_on(db.column_family(name_of(writer)))?;
    let (two, heads) = (block_on(db.column_family("two"))?, block_on(db.column_family("heads"))?);
    let first = head(&heads, writer);
    for n in first.. {
        let mut batch = db.batch();
        batch.put(&one, n.to_be_bytes(), value(writer, n, life));
        batch.put(&two, key_of_two(writer, n), life.to_be_bytes());
        batch.put(&heads, writer.to_be_bytes(), n.to_be_bytes());
        if let Some(old) = n.checked_sub(KEPT) {
            batch.delete(&one, old.to_be_bytes());
        }
        if writer == BUFFERED {
            let seq = block_on(batch.durability(Durability::Buffered).commit())?;
            println!("ordered {n} {}", seq.0);
            if n % 32 == 31 {
                block_on(db.sync())?;
                println!("ack {writer} {n} {}", seq.0);
            }
        } else {
            let seq = block_on(batch.commit())?;
            println!("ack {writer} {n} {}", seq.0);
        }
        if writer == 0 && n % 64 == 63 {
            block_on(db.checkpoint())?;
        }
    }
    Ok(())
}

/// Opens, which recovers, checkpoints and closes; the power goes somewhere on the way.
pub fn recover(path: &Path, argument: &str) {
    let (options, _) = parse(argument);
    println!("recovering");
    let opened = block_on(options.open(path));
    println!("opened {:?}", opened.as_ref().map(|_| ()).map_err(|error| error.kind()));
    let Ok(db) = opened else { return };
    let heads = block_on(db.existing_column_family("heads"));
    println!("read {:?}", heads.map(|_| ()).map_err(|error| error.kind()));
    println!("checkpoint {:?}", block_on(db.checkpoint()).map_err(|error| error.kind()));
    println!("closed {:?}", block_on(db.close()).map_err(|error| error.kind()));
}

/// A family that may not exist yet.
pub fn rows_of(db: &Db, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    block_on(crate::fixture::rows_of(family(db, name).iter())).expect("the rows are read")
}
