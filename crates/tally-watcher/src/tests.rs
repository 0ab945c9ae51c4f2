//! Stories of a watcher over fakes: a chain, a log, a lease, a store and a clock that tests move.

mod follow;
mod restart;
mod rules;
mod scale;
mod scene;
mod trouble;
