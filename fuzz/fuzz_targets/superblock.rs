//! See `hostile::Target::Superblock`.
#![no_main]

use hostile::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| hostile::run(Target::Superblock, input));
