//! The program as a script sees it: arguments, pipes, exit codes, and what is left after kill -9.

use std::fs::{self, DirEntry};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with a database in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory =
            tempfile::Builder::new().prefix("program-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Place { directory: directory.expect("cargo makes the directory above") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The names of all files, hidden ones too.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let name = |entry: io::Result<DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut left: Vec<_> = entries.map(name).collect();
        left.sort();
        left
    }

    /// Runs `ringdb` in the directory, so that arguments are plain names.
    fn ringdb(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = command(self.directory.path(), arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // A program that refuses its arguments does not read.
            drop(stdin.write_all(&input));
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }

    /// The same, for what must succeed; its stdout.
    fn ok(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.ringdb(arguments, input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, for what must fail with one line on stderr and nothing on stdout.
    fn fails(&self, code: i32, arguments: &[&str], input: &[u8]) -> String {
        let output = self.ringdb(arguments, input);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
        assert!(told.lines().count() <= 1, "{arguments:?}: {told}");
        told
    }
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringdb"));
    command.args(arguments).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A sample that LMDB or Berkeley DB wrote.
fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    fs::read_to_string(path).unwrap()
}

/// The text without the header lines that name LMDB's own map.
fn without_map(text: &str) -> String {
    let map = ["mapsize=", "maxreaders=", "db_pagesize="];
    let is_ours = |line: &&str| !map.iter().any(|name| line.starts_with(name));
    text.split_inclusive('\n').filter(is_ours).collect()
}

#[test]
fn rows_are_put_read_and_deleted() {
    let place = Place::new();
    place.ok(&["put", "app.ring", "ada", "1815", "--family", "users"], b"");
    place.ok(&["put", "app.ring", "alan", "--family", "users"], b"19\x0012");
    assert_eq!(place.ok(&["get", "app.ring", "ada", "--family", "users"], b""), "1815");
    assert_eq!(place.ok(&["get", "app.ring", "alan", "-f", "users"], b""), "19\x0012");
    assert_eq!(place.ok(&["get", "app.ring", "616461", "-f", "users", "--hex"], b""), "31383135\n");
    place.ok(&["delete", "app.ring", "ada", "--family", "users"], b"");
    assert_eq!(place.fails(1, &["get", "app.ring", "ada", "--family", "users"], b""), "");
    assert_eq!(place.fails(1, &["delete", "app.ring", "ada", "--family", "users"], b""), "");
}

#[test]
fn scans_are_bounded_reversed_and_counted() {
    let place = Place::new();
    for key in ["a", "b", "ba", "c"] {
        place.ok(&["put", "app.ring", key, &format!("{key}\n")], b"");
    }
    let scan = |more: &[&str]| place.ok(&[&["scan", "app.ring"], more].concat(), b"");
    assert_eq!(scan(&["--from", "b", "--to", "c"]), "b\tb\\0a\nba\tba\\0a\n");
    assert_eq!(scan(&["--prefix", "b", "--reverse", "--keys"]), "ba\nb\n");
    assert_eq!(scan(&["--limit", "1", "--hex"]), "61\t610a\n");
    assert_eq!(scan(&["--count"]), "4\n");
    assert_eq!(
        scan(&["--limit", "1", "--json"]),
        "{\"family\":\"main\",\"key\":\"a\",\"value\":\"a\\n\"}\n"
    );
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let place = Place::new();
    place.ok(&["put", "app.ring", "k", "v"], b"");
    let told = place.fails(1, &["get", "app.ring", "k", "--family", "none"], b"");
    assert_eq!(told, "ringdb: no column family none\n");
    place.fails(2, &["get"], b"");
    place.fails(2, &["get", "app.ring", "xyz", "--hex"], b"");
    place.fails(2, &["scan", "app.ring", "--from", "a", "--prefix", "b"], b"");
    place.fails(2, &["bench", "--seconds", "0"], b"");
    assert!(
        place.fails(3, &["get", "missing.ring", "k"], b"").starts_with("ringdb: missing.ring: ")
    );
    assert!(!place.path("missing.ring").exists());
    let told = place.fails(3, &["load", "app.ring"], b"garbage\n");
    assert_eq!(told, "ringdb: stdin: line 1: neither VERSION=3 nor a JSON object starts here\n");
}

#[test]
fn real_dumps_come_out_as_they_went_in() {
    let place = Place::new();
    let samples = [
        ("lmdb-packages.txt", "bytevalue"),
        ("lmdb-packages-print.txt", "print"),
        ("lmdb-families.txt", "bytevalue"),
        ("lmdb-one-family.txt", "bytevalue"),
        ("lmdb-empty.txt", "bytevalue"),
        ("berkeley.txt", "bytevalue"),
    ];
    for (name, format) in samples {
        let database = format!("{name}.ring");
        place.ok(&["load", &database], sample(name).as_bytes());
        let dumped = place.ok(&["dump", &database, "--format", format], b"");
        assert_eq!(without_map(&dumped), without_map(&sample(name)), "{name}");
        assert!(place.ok(&["check", &database], b"").ends_with(" 0 defects\n"));
    }
}

#[test]
fn compact_leaves_one_tree_and_every_row() {
    let place = Place::new();
    place.ok(&["load", "app.ring"], sample("lmdb-one-family.txt").as_bytes());
    let before = place.ok(&["dump", "app.ring"], b"");
    assert!(place.ok(&["compact", "app.ring"], b"").contains("1 tree now"));
    assert_eq!(place.ok(&["dump", "app.ring"], b""), before);
    place.fails(3, &["compact", "missing.ring"], b"");
}

#[test]
fn json_lines_and_files_carry_every_row() {
    let place = Place::new();
    place.ok(&["load", "one.ring"], sample("lmdb-families.txt").as_bytes());
    place.ok(&["dump", "one.ring", "rows.json", "--format", "json"], b"");
    place.ok(&["load", "two.ring", "rows.json"], b"");
    place.ok(&["dump", "two.ring", "again.json", "--format", "json"], b"");
    let (rows, again) = (fs::read(place.path("rows.json")), fs::read(place.path("again.json")));
    assert_eq!(String::from_utf8(rows.unwrap()), String::from_utf8(again.unwrap()));
}

#[test]
fn main_database_takes_the_family_that_it_is_given() {
    let place = Place::new();
    place.ok(&["load", "app.ring", "--family", "zebra"], sample("lmdb-packages.txt").as_bytes());
    place.ok(&["put", "app.ring", "k", "v", "--family", "ant"], b"");
    let dumped = place.ok(&["dump", "app.ring", "--main", "zebra", "--map-bytes", "0"], b"");
    assert!(dumped.starts_with("VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n 62617368\n"));
    assert!(dumped.ends_with("database=ant\ntype=btree\nHEADER=END\n 6b\n 76\nDATA=END\n"));
    let one = place.ok(&["dump", "app.ring", "--family", "ant", "--format", "json"], b"");
    assert_eq!(one, "{\"family\":\"ant\",\"key\":\"k\",\"value\":\"v\"}\n");
}

#[test]
fn second_values_are_refused_or_replace_the_first() {
    let place = Place::new();
    let text = sample("berkeley-duplicates.txt");
    let refused = place.ringdb(&["load", "app.ring"], text.as_bytes());
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("line 10: a second value"));
    let kept = place.ringdb(&["load", "app.ring", "--duplicates", "last"], text.as_bytes());
    assert_eq!(kept.status.code(), Some(0));
    assert_eq!(place.ok(&["scan", "app.ring"], b""), "a\t2\nb\t3\n");
}

#[test]
fn a_backup_is_restored_from_a_file_and_from_a_pipe() {
    let place = Place::new();
    place.ok(&["load", "app.ring"], sample("lmdb-families.txt").as_bytes());
    let all = |database: &str| place.ok(&["dump", database, "--format", "json"], b"");
    place.ok(&["backup", "app.ring", "app.backup"], b"");
    place.ok(&["restore", "app.backup", "file.ring"], b"");
    let piped = place.ringdb(&["backup", "app.ring", "-"], b"");
    assert_eq!((piped.status.code(), &piped.stderr[..]), (Some(0), &b""[..]));
    let restored = place.ringdb(&["restore", "-", "pipe.ring", "--progress"], &piped.stdout);
    let told = String::from_utf8_lossy(&restored.stderr).into_owned();
    assert_eq!(restored.status.code(), Some(0), "{told}");
    assert!(told.starts_with("restored 3 column families, "), "{told}");
    for database in ["file.ring", "pipe.ring"] {
        assert_eq!(all(database), all("app.ring"));
        assert!(place.ok(&["check", database], b"").ends_with(" 0 defects\n"));
    }
    assert_eq!(place.left(), ["app.backup", "app.ring", "file.ring", "pipe.ring"]);
}

#[test]
fn a_damaged_backup_is_a_defect_and_leaves_no_database() {
    let place = Place::new();
    place.ok(&["put", "app.ring", "ada", "1815"], b"");
    place.ok(&["backup", "app.ring", "app.backup"], b"");
    let whole = fs::read(place.path("app.backup")).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 1], b"VERSION=3\n", b""] {
        let told = place.fails(1, &["restore", "-", "copy.ring"], damaged);
        assert!(told.starts_with("ringdb: -: Corrupt: the b"), "{told}");
    }
    let told = place.fails(3, &["restore", "app.backup", "app.ring"], b"");
    assert!(told.starts_with("ringdb: app.ring: AlreadyExists: "), "{told}");
    let told = place.fails(3, &["restore", "missing", "copy.ring"], b"");
    assert!(told.starts_with("ringdb: missing: "), "{told}");
    assert_eq!(place.left(), ["app.backup", "app.ring"]);
}

#[test]
fn a_backup_that_fails_leaves_the_one_before() {
    let place = Place::new();
    place.ok(&["put", "app.ring", "ada", "1815"], b"");
    place.ok(&["backup", "app.ring", "app.backup"], b"");
    let before = fs::read(place.path("app.backup")).unwrap();
    place.fails(3, &["backup", "missing.ring", "app.backup"], b"");
    place.fails(3, &["backup", "app.ring", "no/such/directory"], b"");
    assert!(fs::read(place.path("app.backup")).unwrap() == before);
    place.ok(&["backup", "app.ring", "app.backup"], b"");
    place.ok(&["restore", "app.backup", "copy.ring"], b"");
    assert_eq!(place.left(), ["app.backup", "app.ring", "copy.ring"]);
}

/// A text of many rows, some megabytes, so that a load is killed in the middle.
fn large_text() -> String {
    let mut text = "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n".to_owned();
    for row in 0..40_000 {
        text.push_str(&format!(" key-{row:08}\n {}\n", "value ".repeat(row % 40)));
    }
    text + "DATA=END\n"
}

#[test]
fn load_that_was_killed_is_loaded_again() {
    let place = Place::new();
    let text = large_text();
    let mut child = command(place.directory.path(), &["load", "app.ring"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The pipe is small: when this much has gone in, batches have been committed.
    stdin.write_all(&text.as_bytes()[..text.len() * 3 / 4]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    assert!(place.path("app.ring").exists());
    place.ok(&["load", "app.ring"], text.as_bytes());
    let dumped = place.ok(&["dump", "app.ring", "--format", "print", "--map-bytes", "0"], b"");
    assert!(dumped == text, "the rows differ");
    place.ok(&["check", "app.ring"], b"");
}

#[test]
fn reader_that_goes_away_ends_a_dump_quietly() {
    let place = Place::new();
    place.ok(&["load", "app.ring"], large_text().as_bytes());
    let mut child = command(place.directory.path(), &["dump", "app.ring"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn stat_tells_families_and_the_backend() {
    let place = Place::new();
    place.ok(&["load", "app.ring"], sample("lmdb-families.txt").as_bytes());
    let text = place.ok(&["stat", "app.ring", "--backend", "pwrite"], b"");
    assert!(text.contains("backend   pwrite") && text.contains("3 column families"), "{text}");
    let json = place.ok(&["stat", "app.ring", "--json"], b"");
    let stat: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names = stat["families"].as_array().unwrap().iter().map(|family| &family["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["empty", "posts", "users"]);
}

#[test]
fn bench_verifies_what_was_acknowledged_before_the_kill() {
    let place = Place::new();
    let arguments = [
        "bench",
        "--dir",
        ".",
        "--seconds",
        "0.04",
        "--backend",
        "pwrite,pwrite-per-commit",
        "--workload",
        "durable-puts,durable-puts-tasks,separate-databases,durable-batches",
        "--writers",
        "3",
        "--json",
        "rows.json",
        "--chart",
        "chart.svg",
    ];
    let told = place.ok(&arguments, b"");
    assert!(told.contains("verified after kill -9"), "{told}");
    let rows = fs::read_to_string(place.path("rows.json")).unwrap();
    assert_eq!(rows.lines().count(), 8);
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert!(row["verified"].as_u64().unwrap() > 0, "{row}");
        assert!(row["ops_per_s"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(fs::read_to_string(place.path("chart.svg")).unwrap().ends_with("</svg>\n"));
    // Nothing but what was asked for is left.
    assert_eq!(place.left(), ["chart.svg", "rows.json"]);
}
