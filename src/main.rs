//! `ftap`: replays card transactions through Kafka into an exactly-once Parquet lake.
//!
//! This file only strings the parts together: command line, settings, logs, command, exit code.

mod cli;
mod config;
mod exit;
#[allow(dead_code)]
mod topology;
mod verify;

use config::Config;

fn main() {
    let (command, flags) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    let code = match Config::load(flags) {
        Err(error) => exit::report(&error.into()),
        Ok(config) => {
            let _ = (command.name(), config);
            exit::DONE
        }
    };
    std::process::exit(code.into());
}
