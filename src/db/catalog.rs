//! Creating, finding, dropping and renaming column families.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::blocking;
use crate::commit::{Admission, Request, Shown, Ticket};
use crate::db::column_family::ColumnFamily;
use crate::db::{ColumnFamilyOptions, Db, Task, checked};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::Seq;
use crate::state::Family;

impl Db {
    /// Opens the family of that name, or creates it with the default options.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for an empty name, `TooLarge` for one above 255 bytes, and as [`Write`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the family exists whole or not at all.
    ///
    /// [`Write`]: crate::Write
    pub fn column_family(&self, name: impl AsRef<str>) -> Task<ColumnFamily> {
        let (db, name) = (self.clone(), checked(name.as_ref()));
        Task::new(self.engine(), async move {
            let name = name?;
            loop {
                if let Some(family) = db.engine().pipeline.family(&name) {
                    return db.shown(&family).await;
                }
                let logging = ColumnFamilyOptions::new().logging;
                match change(db.engine(), Request::Create { name: name.clone(), logging }).await {
                    Ok(family) => return Ok(db.family_handle(&family)),
                    // Another task was faster; its family is the one.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }

    /// Creates a family.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, and as [`Db::column_family`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the family exists whole or not at all.
    pub fn create_column_family(
        &self,
        name: impl AsRef<str>,
        options: ColumnFamilyOptions,
    ) -> Task<ColumnFamily> {
        let (db, name) = (self.clone(), checked(name.as_ref()));
        Task::new(self.engine(), async move {
            let request = Request::Create { name: name?, logging: options.logging };
            change(db.engine(), request).await.map(|family| db.family_handle(&family))
        })
    }

    /// Opens the family of that name.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it is harmless.
    pub fn existing_column_family(&self, name: impl AsRef<str>) -> Task<ColumnFamily> {
        let (db, name) = (self.clone(), checked(name.as_ref()));
        Task::new(self.engine(), async move {
            let name = name?;
            let Some(family) = db.engine().pipeline.family(&name) else {
                let error = Error::new(ErrorKind::NotFound, "there is no such column family");
                return Err(error.with_detail(format!("family {name}")));
            };
            db.shown(&family).await
        })
    }

    /// The names of all families, ascending.
    pub fn column_families(&self) -> Vec<String> {
        let visible = self.engine().pipeline.places.visible();
        let families = self.engine().pipeline.families().into_iter();
        let shown = families.filter(|family| family.created() <= visible);
        let mut names: Vec<String> = shown.map(|family| family.name().to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Drops a family with all that is in it. Its handles fail from then on, also after another
    /// family took the name; snapshots go on showing it.
    ///
    /// # Errors
    ///
    /// `NotFound`, and as [`Db::column_family`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the family was dropped whole or not at all.
    pub fn drop_column_family(&self, name: impl AsRef<str>) -> Task<()> {
        let (engine, name) = (self.engine().clone(), checked(name.as_ref()));
        Task::new(self.engine(), async move {
            change(&engine, Request::Drop { name: name? }).await.map(drop)
        })
    }

    /// Gives a family another name. Its handles stay good.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AlreadyExists`, and as [`Db::column_family`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the family was renamed or not.
    pub fn rename_column_family(&self, from: impl AsRef<str>, to: impl AsRef<str>) -> Task<()> {
        let (from, to) = (checked(from.as_ref()), checked(to.as_ref()));
        let engine = self.engine().clone();
        Task::new(self.engine(), async move {
            change(&engine, Request::Rename { from: from?, to: to? }).await.map(drop)
        })
    }

    /// A family that exists for this caller once the commit that created it is visible.
    async fn shown(&self, family: &Arc<Family>) -> Result<ColumnFamily> {
        self.engine().pipeline.visible(family.created()).await?;
        Ok(self.family_handle(family))
    }
}

/// Orders a change of the catalog, publishes it, and waits until it is durable.
async fn change(engine: &Arc<Engine>, request: Request) -> Result<Arc<Family>> {
    let mut waiting = Waiting { engine: engine.clone(), ticket: None };
    let (family, seq) = poll_fn(|context| {
        blocking::note(&waiting.engine.io);
        let waker = Some(context.waker());
        match enter(&waiting.engine, &request, &mut waiting.ticket, waker) {
            Ok(Admission::Ordered(ordered)) => Poll::Ready(Ok(ordered)),
            Ok(Admission::Wait | Admission::NeedsBuffer(_)) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    })
    .await?;
    engine.pipeline.visible(seq).await?;
    Ok(family)
}

/// The state is published before the seq is marked applied, so whoever sees the seq sees it.
fn enter(
    engine: &Engine,
    request: &Request,
    ticket: &mut Option<Arc<Ticket>>,
    waker: Option<&std::task::Waker>,
) -> Result<Admission<(Arc<Family>, Seq)>> {
    let edit = engine.edit_state();
    let admission = engine.pipeline.try_change(request, ticket, waker)?;
    if let Admission::Ordered((family, seq)) = &admission {
        if let Request::Create { .. } = request {
            edit.add_family(family);
        }
        engine.pipeline.places.mark_applied(*seq, Shown::WhenDurable);
        // This may be what shows others, whose places are free then.
        engine.pipeline.wake_front_if_waiting();
    }
    Ok(admission)
}

/// Leaves the queue if the future is dropped. (I11)
struct Waiting {
    engine: Arc<Engine>,
    ticket: Option<Arc<Ticket>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.engine.pipeline.withdraw(&ticket);
        }
    }
}
