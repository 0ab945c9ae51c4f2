//! The binary: command line, configuration, and the one place where adapters meet services.

mod admin_client;
mod cli;
mod clock;
mod compose;
mod config;
mod dev;
mod listen;
mod rescan;
mod run;
mod sign;
mod telemetry;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::config::ConfigError;

/// The read model is many small allocations: the system's allocator takes a third more time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for bad usage or configuration (EX_USAGE of sysexits.h).
const BAD_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; everything else is bad usage.
            let code = if error.use_stderr() { BAD_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<ConfigError>() {
            // What was to be done with the configuration does not matter.
            Some(fault) => {
                eprintln!("tally: {fault}");
                ExitCode::from(BAD_USAGE)
            }
            None => {
                eprintln!("tally: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
