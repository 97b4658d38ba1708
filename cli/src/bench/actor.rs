//! One writer or reader, and one step of each.

use ringdb::{Batch, ColumnFamily, Db, Durability, block_on};

use super::key::{Origin, mix};
use crate::exit::Failure;

/// Who takes one step after another.
pub struct Actor {
    /// Its number, from zero.
    pub id: u32,
    role: Role,
}

enum Role {
    Writer(Box<Writer>),
    Reader(Reader),
}

struct Writer {
    counter: u64,
    puts: u32,
    durability: Option<Durability>,
    family: ColumnFamily,
    batch: Batch,
    value: Vec<u8>,
    value_bytes: usize,
}

struct Reader {
    random: u64,
    rows_there: u64,
    rows_wanted: u32,
    family: ColumnFamily,
    value_bytes: usize,
}

impl Actor {
    /// Commits `puts` rows at a time, with the default durability or another.
    pub fn writer(
        id: u32,
        db: &Db,
        family: &ColumnFamily,
        puts: u32,
        durability: Option<Durability>,
        value_bytes: usize,
    ) -> Actor {
        let family = family.clone();
        let batch = db.batch();
        let value = Vec::with_capacity(value_bytes);
        let role = Role::Writer(Box::new(Writer {
            counter: 0,
            puts,
            durability,
            family,
            batch,
            value,
            value_bytes,
        }));
        Actor { id, role }
    }

    /// Reads `rows_wanted` rows from a random place among the `rows_there` of writer 0.
    pub fn reader(
        id: u32,
        family: &ColumnFamily,
        rows_there: u64,
        rows_wanted: u32,
        value_bytes: usize,
    ) -> Actor {
        let (random, family) = (mix(u64::from(id) + 1), family.clone());
        Actor {
            id,
            role: Role::Reader(Reader { random, rows_there, rows_wanted, family, value_bytes }),
        }
    }

    /// Rows that were acknowledged to this writer since it was made; none to a reader.
    pub fn acknowledged(&self) -> u64 {
        match &self.role {
            Role::Writer(writer) => writer.counter,
            Role::Reader(_) => 0,
        }
    }

    /// One step on a thread that may block; how many operations it was.
    pub fn step_blocking(&mut self) -> Result<u64, Failure> {
        match &mut self.role {
            Role::Writer(writer) => writer.commit_blocking(self.id),
            Role::Reader(reader) => block_on(reader.read()),
        }
    }

    /// One step in a task; how many operations it was.
    pub async fn step(&mut self) -> Result<u64, Failure> {
        match &mut self.role {
            Role::Writer(writer) => writer.commit(self.id).await,
            Role::Reader(reader) => reader.read().await,
        }
    }
}

impl Writer {
    fn prepare(&mut self, writer: u32) {
        if let Some(durability) = self.durability {
            self.batch.durability(durability);
        }
        for counter in self.counter..self.counter + u64::from(self.puts) {
            let origin = Origin { writer, counter };
            origin.value(self.value_bytes, &mut self.value);
            self.batch.put(&self.family, origin.key(), &self.value);
        }
    }

    fn acknowledge(&mut self) -> u64 {
        self.counter += u64::from(self.puts);
        u64::from(self.puts)
    }

    fn commit_blocking(&mut self, writer: u32) -> Result<u64, Failure> {
        self.prepare(writer);
        self.batch.commit().wait()?;
        Ok(self.acknowledge())
    }

    async fn commit(&mut self, writer: u32) -> Result<u64, Failure> {
        if self.puts == 1 && self.durability.is_none() {
            let origin = Origin { writer, counter: self.counter };
            origin.value(self.value_bytes, &mut self.value);
            self.family.put(origin.key(), &self.value).await?;
        } else {
            self.prepare(writer);
            self.batch.commit().await?;
        }
        Ok(self.acknowledge())
    }
}

impl Reader {
    async fn read(&mut self) -> Result<u64, Failure> {
        self.random = mix(self.random.wrapping_add(1));
        let key = Origin { writer: 0, counter: self.random % self.rows_there }.key();
        match self.rows_wanted {
            1 => {
                let value = self.family.get(key).await?;
                self.believe(value.as_deref())?;
            }
            rows => {
                let mut range = self.family.range(key..);
                for row in 0..rows {
                    match range.try_next().await? {
                        Some((_, value)) => self.believe(Some(&value))?,
                        None if row == 0 => self.believe(None)?,
                        None => break,
                    }
                }
            }
        }
        Ok(1)
    }

    fn believe(&self, value: Option<&[u8]>) -> Result<(), Failure> {
        match value {
            Some(value) if value.len() == self.value_bytes => Ok(()),
            Some(_) => Err(Failure::Defects("a read gave a value that nobody wrote".to_owned())),
            None => Err(Failure::Defects("a read did not find a row that is there".to_owned())),
        }
    }
}
