//! See `hostile::Target::OpenWrite`.
#![no_main]

use hostile::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| hostile::run(Target::OpenWrite, input));
