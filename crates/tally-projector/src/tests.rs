//! The projector over a log and a store in memory.

mod answers;
mod archiver;
mod bulk;
mod duties;
mod folding;
mod rules;
mod scene;
