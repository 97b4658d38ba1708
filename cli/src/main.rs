//! The `ringdb` program: a bench that proves what it prints, and the everyday commands on a
//! database file.
//!
//! Every command is a function in `commands` that returns `Result<(), Failure>`; `exit` alone turns
//! that into an exit code and one line on stderr. What can be pure is pure (`text`, the formatting
//! half of `bench`) and is tested with plain bytes. No unsafe code.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod commands;
mod progress;
mod text;

use std::process::ExitCode;

use clap::Parser;
use ringdb_cli::{exit, number};

fn main() -> ExitCode {
    match args::Cli::try_parse() {
        Ok(cli) => exit::code(commands::run(cli.command)),
        Err(error) => exit::usage(&error),
    }
}
