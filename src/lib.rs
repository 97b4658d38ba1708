//! ringdb: API skeleton (bodies come later; signatures are binding).
#![allow(dead_code, unused_variables, missing_docs)]
mod error;
mod ids;
pub use bytes::Bytes;
pub use error::{Error, ErrorKind, Result};
pub use ids::Seq;
use std::future::Future;
use std::ops::{Deref, RangeBounds};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

macro_rules! future {
    ($name:ident, $out:ty) => {
        #[must_use = "futures do nothing until polled"]
        pub struct $name(());
        impl Future for $name {
            type Output = $out;
            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<$out> { unimplemented!() }
        }
    };
}

#[derive(Clone, Debug)] pub struct Options(());
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Backend { Auto, Uring, Pwrite }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Durability { Immediate, Buffered }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum DirectIo { Auto, Off }
/// Whether one log write and sync serves all commits that wait, or (to measure what that gives) each its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Grouping { Shared, PerCommit }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Create { IfMissing, Never, Always /* AlreadyExists if there */ }
impl Options {
    pub fn new() -> Options { unimplemented!() }
    /// default 128 MiB
    pub fn memory_bytes(self, bytes: usize) -> Options { self }
    pub fn backend(self, backend: Backend) -> Options { self }
    pub fn durability(self, durability: Durability) -> Options { self }
    pub fn direct_io(self, direct: DirectIo) -> Options { self }
    pub fn grouping(self, grouping: Grouping) -> Options { self }
    pub fn create(self, create: Create) -> Options { self }
    pub fn log_bytes_max(self, bytes: u64) -> Options { self }
    pub fn queue_depth(self, entries: u32) -> Options { self }
    pub fn snapshot_age_max(self, age: Duration) -> Options { self }
    pub fn snapshot_pinned_bytes_max(self, bytes: u64) -> Options { self }
    pub fn open(self, path: impl AsRef<Path>) -> Open { unimplemented!() }
}
impl Default for Options { fn default() -> Self { Options::new() } }
future!(Open, Result<Db>);

#[derive(Clone)] pub struct Db(());
impl Db {
    pub fn open(path: impl AsRef<Path>) -> Open { unimplemented!() }
    pub fn in_memory() -> Open { unimplemented!() }
    pub fn column_family(&self, name: impl AsRef<str>) -> FamilyFuture { unimplemented!() }
    pub fn create_column_family(&self, name: impl AsRef<str>, options: ColumnFamilyOptions) -> FamilyFuture { unimplemented!() }
    pub fn existing_column_family(&self, name: impl AsRef<str>) -> FamilyFuture { unimplemented!() }
    /// Names, ascending.
    pub fn column_families(&self) -> Vec<String> { unimplemented!() }
    pub fn drop_column_family(&self, name: impl AsRef<str>) -> Done { unimplemented!() }
    pub fn rename_column_family(&self, from: impl AsRef<str>, to: impl AsRef<str>) -> Done { unimplemented!() }
    pub fn batch(&self) -> Batch { unimplemented!() }
    pub fn begin(&self) -> Begin { unimplemented!() }
    pub async fn transact<T, E, F, Fut>(&self, work: F) -> std::result::Result<T, E>
    where F: FnMut(Transaction) -> Fut + Send, Fut: Future<Output = std::result::Result<T, E>> + Send, E: From<Error> + Send, T: Send { unimplemented!() }
    pub fn snapshot(&self) -> Snapshot { unimplemented!() }
    pub fn durable(&self, seq: Seq) -> Done { unimplemented!() }
    pub fn sync(&self) -> Done { unimplemented!() }
    pub fn checkpoint(&self) -> Done { unimplemented!() }
    /// Walks every page of every family, verifies all checksums and the page accounting.
    pub fn check(&self) -> Check { unimplemented!() }
    pub fn stat(&self) -> Stat { unimplemented!() }
    pub fn metrics(&self) -> Metrics { unimplemented!() }
    pub fn health(&self) -> Health { unimplemented!() }
    pub fn backend(&self) -> BackendReport { unimplemented!() }
    pub fn recovery(&self) -> RecoveryReport { unimplemented!() }
    pub fn close(&self) -> Close { unimplemented!() }
}
future!(FamilyFuture, Result<ColumnFamily>);
future!(Done, Result<()>);
future!(Close, Result<()>);
future!(Begin, Result<Transaction>);
future!(Check, Result<CheckReport>);
#[derive(Clone, Debug, Default)] pub struct ColumnFamilyOptions { _p: () }
impl ColumnFamilyOptions {
    pub fn new() -> Self { Default::default() }
    /// Commits cost no log; after a crash the family is as of the last checkpoint.
    pub fn unlogged(self) -> Self { self }
}
#[derive(Clone)] pub struct ColumnFamily(());
impl ColumnFamily {
    pub fn name(&self) -> String { unimplemented!() }
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write { unimplemented!() }
    pub fn put_bytes(&self, key: impl AsRef<[u8]>, value: Bytes) -> Write { unimplemented!() }
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Write { unimplemented!() }
    pub fn delete_range(&self, range: impl RangeBounds<[u8; 0]>) -> Write { unimplemented!() }
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get { unimplemented!() }
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> MultiGet { unimplemented!() }
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Contains { unimplemented!() }
    pub fn first(&self) -> Edge { unimplemented!() }
    pub fn last(&self) -> Edge { unimplemented!() }
    /// e.g. `range("a".."b")`, `range::<&str>(..)`
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range { unimplemented!() }
    pub fn iter(&self) -> Range { unimplemented!() }
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Range { unimplemented!() }
    pub fn len(&self) -> Len { unimplemented!() }
    pub fn approximate_len(&self) -> u64 { unimplemented!() }
    pub fn with_durability(&self, durability: Durability) -> ColumnFamily { unimplemented!() }
}
future!(Write, Result<Seq>);
future!(Get, Result<Option<Value>>);
future!(MultiGet, Result<Vec<Option<Value>>>);
future!(Contains, Result<bool>);
future!(Edge, Result<Option<(Value, Value)>>);
future!(Len, Result<u64>);
#[derive(Clone, Debug)] pub struct Value(Bytes);
impl Deref for Value { type Target = [u8]; fn deref(&self) -> &[u8] { &self.0 } }
impl AsRef<[u8]> for Value { fn as_ref(&self) -> &[u8] { &self.0 } }
impl From<Value> for Bytes { fn from(v: Value) -> Bytes { v.0 } }
/// Stream<Item = Result<(Value, Value)>> + Send + Unpin + 'static
#[must_use] pub struct Range(());
impl Range {
    pub fn rev(self) -> Range { self }
    pub fn try_next(&mut self) -> Next<'_> { unimplemented!() }
}
pub struct Next<'a>(&'a mut Range);
impl Future for Next<'_> { type Output = Result<Option<(Value, Value)>>; fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> { unimplemented!() } }
impl futures_core::Stream for Range { type Item = Result<(Value, Value)>; fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> { unimplemented!() } }
#[must_use] pub struct Batch(());
impl Batch {
    pub fn put(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Batch { self }
    pub fn delete(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> &mut Batch { self }
    pub fn delete_range<K: AsRef<[u8]>>(&mut self, family: &ColumnFamily, range: impl RangeBounds<K>) -> &mut Batch { self }
    pub fn durability(&mut self, durability: Durability) -> &mut Batch { self }
    pub fn len(&self) -> usize { 0 }
    pub fn is_empty(&self) -> bool { true }
    pub fn bytes(&self) -> usize { 0 }
    /// Takes the content out, as a builder: `batch.put(..).submit()`.
    pub fn submit(&mut self) -> Submit { unimplemented!() }
    /// `Err` of kind Busy leaves the content in the batch.
    pub fn try_submit(&mut self) -> Result<Commit> { unimplemented!() }
    pub fn commit(&mut self) -> Write { unimplemented!() }
}
future!(Submit, Result<Commit>);
/// Resolves to its Seq when visible (and durable, if Immediate).
#[must_use] pub struct Commit(());
impl Future for Commit { type Output = Result<Seq>; fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Seq>> { unimplemented!() } }
impl Commit {
    pub fn seq(&self) -> Seq { unimplemented!() }
    /// Blocks the thread and may drive the ring itself. Not inside an async task.
    pub fn wait(self) -> Result<Seq> { unimplemented!() }
}
#[derive(Clone)] pub struct Snapshot(());
impl Snapshot {
    pub fn seq(&self) -> Seq { unimplemented!() }
    pub fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Get { unimplemented!() }
    pub fn range<K: AsRef<[u8]>>(&self, family: &ColumnFamily, range: impl RangeBounds<K>) -> Range { unimplemented!() }
    pub fn iter(&self, family: &ColumnFamily) -> Range { unimplemented!() }
}
/// Owned, cheap clone of one handle; all methods take &self.
#[derive(Clone)] pub struct Transaction(());
impl Transaction {
    pub fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Get { unimplemented!() }
    pub fn contains(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Contains { unimplemented!() }
    pub fn range<K: AsRef<[u8]>>(&self, family: &ColumnFamily, range: impl RangeBounds<K>) -> Range { unimplemented!() }
    pub fn put(&self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {}
    pub fn delete(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) {}
    pub fn durability(&self, durability: Durability) {}
    pub fn commit(self) -> Write { unimplemented!() }
}
#[derive(Clone, Debug)] pub struct BackendReport { pub kind: BackendKind, pub reason: String, pub direct: bool, pub direct_reason: String, pub sync_method: String, pub kernel: String }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum BackendKind { Uring, Pwrite, Sim }
#[derive(Clone, Debug)] pub struct Stat { pub families: Vec<FamilyStat>, pub file_bytes: u64, pub log_bytes: u64, pub free_bytes: u64, pub tree_bytes: u64, pub generation: u64, pub incarnation: u64 }
#[derive(Clone, Debug)] pub struct FamilyStat { pub name: String, pub logged: bool, pub approximate_rows: u64, pub tree_bytes: u64, pub memtable_bytes: u64, pub trees: u32, pub height: u32 }
#[derive(Clone, Debug, Default)] pub struct Metrics { pub commits: u64, pub groups: u64, pub syncs: u64, pub syscalls: u64, pub log_bytes: u64, pub page_bytes: u64, pub page_reads: u64, pub read_bytes: u64, pub checkpoints: u64, pub cache_bytes: u64, pub memtable_bytes: u64, pub conflicts: u64 }
#[derive(Clone, Debug)] pub struct Health { pub reads: Result<()>, pub writes: Result<()> }
#[derive(Clone, Debug, Default)] pub struct RecoveryReport { pub commits: u64, pub log_bytes: u64, pub duration: Duration, pub tail: String }
#[derive(Clone, Debug)] pub struct CheckReport { pub pages: u64, pub rows: u64, pub defects: Vec<Defect> }
#[derive(Clone, Debug)] pub struct Defect { pub family: Option<String>, pub page: Option<u64>, pub offset: u64, pub what: String }
/// Runs a future on this thread and may drive the ring while it waits.
pub fn block_on<F: Future>(future: F) -> F::Output { unimplemented!() }
