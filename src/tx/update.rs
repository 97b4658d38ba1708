//! One key read and written as one step, for those who need no more of a transaction.

use crate::db::column_family::ColumnFamily;
use crate::db::{Db, Task};
use crate::error::{ErrorKind, Result};
use crate::tx::ATTEMPTS_MAX;
use crate::value::Value;

impl ColumnFamily {
    /// Gives a key another value if it has the expected one; `None` stands for "not there", on
    /// both sides. Resolves to `Ok(Ok(()))` if so, and to `Ok(Err(current))` if not.
    ///
    /// # Errors
    ///
    /// `Conflict` if other writers of the key were faster 128 times; else as [`Write`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the exchange happened whole or not at all.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let locks = db.column_family("locks").await?;
    /// let free = locks.compare_and_swap("door", None, Some(b"ada")).await?;
    /// assert!(free.is_ok());
    /// let taken = locks.compare_and_swap("door", None, Some(b"alan")).await?;
    /// assert_eq!(taken.unwrap_err().as_deref(), Some(&b"ada"[..]));
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// [`Write`]: crate::Write
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Task<std::result::Result<(), Option<Value>>> {
        let (expected, new) = (expected.map(<[u8]>::to_vec), new.map(<[u8]>::to_vec));
        self.update(key.as_ref(), move |current| match current.as_deref() == expected.as_deref() {
            true => Step::Write(new.clone(), Ok(())),
            false => Step::Leave(Err(current)),
        })
    }

    /// Gives a key the value that `change` makes of the one it has, where `None` stands for "not
    /// there", on both sides. Resolves to the value before.
    ///
    /// `change` is called again, at most 128 times, if another writer of the key was faster.
    ///
    /// # Errors
    ///
    /// `Conflict` after the last attempt; else as [`Write`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the update happened whole or not at all.
    ///
    /// # Examples
    ///
    /// ```
    /// # ringdb::block_on(async {
    /// let db = ringdb::Db::in_memory().await?;
    /// let visits = db.column_family("visits").await?;
    /// for _ in 0..3 {
    ///     let next = |visits: Option<&[u8]>| Some(vec![visits.map_or(1, |visits| visits[0] + 1)]);
    ///     visits.fetch_update("ada", next).await?;
    /// }
    /// assert_eq!(visits.get("ada").await?.as_deref(), Some(&[3][..]));
    /// # Ok::<(), ringdb::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// [`Write`]: crate::Write
    pub fn fetch_update<V, F>(&self, key: impl AsRef<[u8]>, mut change: F) -> Task<Option<Value>>
    where
        V: AsRef<[u8]>,
        F: FnMut(Option<&[u8]>) -> Option<V> + Send + 'static,
    {
        self.update(key.as_ref(), move |current| {
            let next = change(current.as_deref()).map(|value| value.as_ref().to_vec());
            Step::Write(next, current)
        })
    }

    fn update<T: Send + 'static>(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<Value>) -> Step<T> + Send + 'static,
    ) -> Task<T> {
        let (family, key) = (self.clone(), key.to_vec());
        Task::new(self.handle().engine(), async move {
            let db = Db::of(family.handle());
            for number in 1..ATTEMPTS_MAX {
                match attempt(&db, &family, &key, &mut decide).await {
                    Err(error) if error.kind() == ErrorKind::Conflict => db.after(number).await,
                    done => return done,
                }
            }
            attempt(&db, &family, &key, &mut decide).await
        })
    }
}

/// What is to become of the key, and the answer if that holds.
enum Step<T> {
    Write(Option<Vec<u8>>, T),
    Leave(T),
}

async fn attempt<T>(
    db: &Db,
    family: &ColumnFamily,
    key: &[u8],
    decide: &mut impl FnMut(Option<Value>) -> Step<T>,
) -> Result<T> {
    let tx = db.begin().await?;
    tx.durability(family.durability());
    let answer = match decide(tx.get(family, key).await?) {
        Step::Leave(answer) => answer,
        Step::Write(Some(value), answer) => {
            tx.put(family, key, value);
            answer
        }
        Step::Write(None, answer) => {
            tx.delete(family, key);
            answer
        }
    };
    tx.commit().await.map(|_| answer)
}
