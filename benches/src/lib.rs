//! What the benches share: orders as facts, and a line of JSON at the end.

#![allow(clippy::expect_used, clippy::float_arithmetic, reason = "for benches")]

mod facts;
mod measure;

pub use facts::{MERCHANT, Mix, small_facts};
pub use measure::{Usage, dir_bytes, environment, finish};
