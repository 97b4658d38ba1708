//! See `hostile::Target::Log`.
#![no_main]

use hostile::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| hostile::run(Target::Log, input));
