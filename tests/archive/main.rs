//! Closed orders leave the log for the archive: nothing is lost or doubled, wherever that is cut off, and whatever is
//! folded from archive and log is what is folded from the log alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod faults;
mod moving;
mod scene;
