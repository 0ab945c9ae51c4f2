//! Upkeep of an installation: rebuilding read models, backups and restoring them, the daily copy, exports.
//!
//! Each works on a running instance, over routes on the admin listener, and on a stopped one, by opening its log.
//! Not here: the format of copies (`tally-log`), folding (`tally-projector`).

mod backup;
mod command;
mod copying;
mod export;
mod model_folder;
mod rebuild;
mod routes;

pub(crate) use command::run;
pub(crate) use copying::keep_copy;
pub(crate) use model_folder::ModelFolder;
pub(crate) use rebuild::Rebuilder;
pub(crate) use routes::{Upkeep, routes};
