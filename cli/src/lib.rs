//! What `ringdb bench` and the comparison with other engines share: how both measure, fail and
//! print numbers. The program itself is `main.rs`.

#![forbid(unsafe_code)]

pub mod exit;
pub mod measure;
pub mod number;
