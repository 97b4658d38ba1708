//! See `hostile::Target::Catalog`.
#![no_main]

use hostile::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| hostile::run(Target::Catalog, input));
