//! The engine inside a tokio-uring runtime: its futures need no runtime, so they are awaited beside
//! that runtime's own file operations, in tasks that are not `Send`.
//!
//!     cargo run --release --example tokio_uring [FILE]
//!
//! Where io_uring is refused the runtime cannot start; the example says so and ends. (The engine
//! would not mind: it falls back to its pwrite backend.)

#[cfg(target_os = "linux")]
mod place;

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("note: tokio-uring is for Linux, nothing was run");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = place::Place::from_args()?;
    let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("note: io_uring is refused here ({error}), nothing was run");
            return Ok(());
        }
    };
    runtime.block_on(linux::run(place.path()))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;
    use std::path::Path;
    use std::rc::Rc;

    use ringdb::{ColumnFamily, Db};
    use tokio_uring::fs::OpenOptions;

    const TASKS: u32 = 16;
    const ROWS: u32 = 64;

    pub async fn run(path: &Path) -> Result<(), Box<dyn Error>> {
        let db = Db::open(path).await?;
        let rows = db.column_family("rows").await?;
        // An Rc crosses awaits here: these tasks stay on this thread.
        let prefix = Rc::new(String::from("row"));
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio_uring::spawn(write(rows.clone(), prefix.clone(), task)))
            .collect();
        for task in tasks {
            task.await??;
        }
        let metrics = db.metrics();
        println!("{} durable commits took {} syncs", metrics.commits, metrics.syncs);

        let export = path.with_extension("txt");
        let bytes = export_rows(&rows, &export).await?;
        println!("exported {} rows, {bytes} bytes, through tokio-uring", rows.len().await?);
        std::fs::remove_file(&export)?;
        db.close().await?;
        Ok(())
    }

    async fn write(rows: ColumnFamily, prefix: Rc<String>, task: u32) -> ringdb::Result<()> {
        for row in 0..ROWS {
            rows.put(format!("{prefix}/{task:04}/{row:04}"), "value").await?;
        }
        Ok(())
    }

    /// Writes all rows as lines with tokio-uring's own file, and reads the length back.
    async fn export_rows(rows: &ColumnFamily, path: &Path) -> Result<u64, Box<dyn Error>> {
        let mut lines = Vec::new();
        let mut scan = rows.iter();
        while let Some((key, value)) = scan.try_next().await? {
            lines.extend_from_slice(&key);
            lines.push(b'\t');
            lines.extend_from_slice(&value);
            lines.push(b'\n');
        }
        let file = OpenOptions::new().write(true).create_new(true).open(path).await?;
        let (written, _lines) = file.write_all_at(lines, 0).await;
        written?;
        file.sync_all().await?;
        file.close().await?;
        Ok(std::fs::metadata(path)?.len())
    }
}
