//! Runs a command with io_uring denied by seccomp, as the default profile of many containers does.
//!
//!     cargo run --release --example without_io_uring -- [--errno=NUMBER] COMMAND [ARGUMENT…]
//!
//! The filter answers `io_uring_setup` with EPERM, or with the error number given, and is inherited
//! by all that the command starts.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::process::CommandExt;

    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut errno = filter::EPERM;
    if let Some(number) = arguments.peek().and_then(|a| a.to_str()?.strip_prefix("--errno=")) {
        errno = number.parse()?;
        arguments.next();
    }
    let command = arguments.next().ok_or("usage: without_io_uring [--errno=NUMBER] COMMAND …")?;
    filter::deny_io_uring(errno)?;
    // Only returns if the command could not be started.
    Err(std::process::Command::new(command).args(arguments).exec().into())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod filter {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    pub const EPERM: u32 = 1;
    /// The number of `io_uring_setup`, the same on both architectures.
    const IO_URING_SETUP: i64 = 425;

    pub fn deny_io_uring(errno: u32) -> Result<(), Box<dyn std::error::Error>> {
        let filter = SeccompFilter::new(
            [(IO_URING_SETUP, vec![])].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno),
            std::env::consts::ARCH.try_into()?,
        )?;
        let program: BpfProgram = filter.try_into()?;
        seccompiler::apply_filter(&program)?;
        Ok(())
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn main() {
    println!("note: seccomp filters are for Linux on x86_64 and aarch64, nothing was run");
}
