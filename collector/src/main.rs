//! The collector's program.

use std::process::ExitCode;

use clap::Parser;
use watchbell_collector::cli::{Cli, Command};
use watchbell_collector::{check, convert, explain, query, replay, ruletest, run};

/// The system's allocator takes two thirds more time to decode protobuf.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages hold a multiple of the memory that is in use. Kernels without the switch go on with them.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if query::is_asked(std::env::args_os()) => return query::refuse(&error, std::env::args_os()),
        Err(error) => error.exit(),
    };
    match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Test(arguments) => ruletest::test(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Convert(arguments) => convert::convert(&arguments),
        Command::Query(arguments) => query::query(&arguments),
    }
}
