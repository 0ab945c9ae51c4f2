//! The projector over a log and a store in memory.

mod answers;
mod archiver;
mod duties;
mod folding;
mod rules;
mod scene;
