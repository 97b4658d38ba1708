//! The rules of the house that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the engine from low to high; those of one row may use one another, without cycles.
const LAYERS: [&[&str]; 10] = [
    &["error", "ids", "blocking", "report", "value", "options"],
    &["format"],
    &["log", "tree", "memtable"],
    &["state", "alloc"],
    &["commit", "page", "snapshot"],
    &["engine", "batch"],
    &["read", "check", "room", "large"],
    &["checkpoint", "recovery"],
    &["db", "tx"],
    &["lib"],
];

/// Lines that no file may exceed.
const LINES_MAX: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory of the repository.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut pending = vec![root().join(directory)];
    let mut sources = Vec::new();
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.expect("the directory is read").path()) {
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let path = path.strip_prefix(root()).expect("it is inside").to_owned();
                sources.push((path, text));
            }
        }
    }
    sources
}

/// What stands outside comments, up to the unit tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top module that a file of `src/` belongs to.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("it lies in src");
    let first = below.components().next().expect("it has a name").as_os_str();
    first.to_str().expect("names are text").trim_end_matches(".rs").to_string()
}

/// The modules that a text names after `crate::`, with a brace list taken apart.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = code(text).flat_map(|(_, line)| [line, "\n"]).collect();
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `pub(crate)` and `$crate` have no colons or another meaning.
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            None => drop(used.insert(word(rest))),
            Some(list) => used.extend(heads(list).iter().map(|head| word(head))),
        }
    }
    used.into_iter().filter(|name| name.starts_with(|c: char| c.is_lowercase())).collect()
}

/// The first words of the entries of a brace list, nested lists skipped.
fn heads(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(list[start..at].trim());
                return heads;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn used_modules_are_found_in_every_form() {
    let text = "use crate::error::Error;\nuse crate::{ids::Seq, format::{a, b}, Db};\n\
                // crate::tx\npub(crate) fn f() { crate::log::g() }\n#[cfg(test)]\nuse crate::db;\n";
    let used: Vec<_> = used(text).into_iter().collect();
    assert_eq!(used, ["error", "format", "ids", "log"]);
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources("src") {
        let module = module_of(&path);
        let Some(own) = layer(&module) else {
            wrong.push(format!("{}: `{module}` has no place in the order", path.display()));
            continue;
        };
        for target in used(&text).into_iter().filter(|target| *target != module) {
            match layer(&target) {
                Some(other) if other <= own => {}
                Some(_) => wrong.push(format!("{}: imports `{target}`, upward", path.display())),
                None if module == "lib" => {}
                None => wrong.push(format!("{}: `{target}` has no place", path.display())),
            }
            edges.entry(module.clone()).or_default().insert(target);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let cycle = on_cycles(&edges);
    assert!(cycle.is_empty(), "modules import one another in a circle: {cycle:?}");
}

/// What is left when modules that import nothing that is left are taken away again and again.
fn on_cycles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut left = edges.clone();
    loop {
        let free: Vec<_> = left
            .iter()
            .filter(|(_, targets)| !targets.iter().any(|target| left.contains_key(target)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            return left.into_keys().collect();
        }
        free.iter().for_each(|module| drop(left.remove(module)));
    }
}

/// Every line of the directories' code that a rule forbids.
fn forbidden(directories: &[&str], is_forbidden: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in directories.iter().flat_map(|directory| sources(directory)) {
        let lines = code(&text).filter(|(_, line)| is_forbidden(line));
        found.extend(lines.map(|(n, line)| format!("{}:{n}: {}", path.display(), line.trim())));
    }
    found
}

#[test]
fn the_engine_and_the_program_have_no_unsafe() {
    let found = forbidden(&["src", "cli"], |line| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("the engine has a lib.rs");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn nobody_sleeps() {
    let call = concat!("thread::sl", "eep");
    let found = forbidden(&["src", "frames", "tests"], |line| line.contains(call));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nobody_reads_the_time_of_day() {
    let found = forbidden(&["src", "uring/src", "frames/src"], |line| {
        ["SystemTime", "UNIX_EPOCH"].iter().any(|clock| line.contains(clock))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The words of a text between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_promise_names_tests_that_exist() {
    let table = fs::read_to_string(root().join("tests/README.md")).expect("the table is there");
    let sources: Vec<String> =
        ["src", "uring", "tests"].into_iter().flat_map(sources).map(|(_, text)| text).collect();
    let is_there = |name: &str| {
        sources.iter().any(|text| {
            [format!("fn {name}()"), format!("    {name}: ")].iter().any(|is| text.contains(is))
        })
    };
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    for row in 1..=27 {
        let rows = rows.iter().filter(|line| line.starts_with(&format!("| {row} |"))).count();
        assert_eq!(rows, 1, "row {row} of the matrix");
    }
    let tests = rows.iter().flat_map(|row| quoted(row)).filter(|words| words.contains("::"));
    let names = tests.filter_map(|path| path.rsplit("::").next()).filter(|name| !name.is_empty());
    let missing: Vec<&str> = names.filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let words =
        [concat!("#[ign", "ore"), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("dbg", "!(")];
    let mut found = Vec::new();
    for (path, text) in every_source() {
        for (n, line) in (1..).zip(text.lines()) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{n}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn every_source() -> Vec<(PathBuf, String)> {
    let directories = ["src", "uring", "frames", "cli", "tests", "examples", "benches"];
    directories.into_iter().flat_map(sources).collect()
}

#[test]
fn no_path_of_a_machine_is_in_the_sources() {
    let paths = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    let mut found = Vec::new();
    for (path, text) in every_source() {
        for (n, line) in (1..).zip(text.lines()) {
            if paths.iter().any(|path| line.contains(path)) {
                found.push(format!("{}:{n}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_are_short_enough_to_be_read() {
    let long: Vec<_> = every_source()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}
