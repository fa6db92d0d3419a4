//! Every habit of the project as one verb: `cargo xtask <verb>`.

mod build_ebpf;
mod setup;
mod shell;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Every habit of the project as one verb.")]
enum Verb {
    Setup(setup::Options),
    BuildEbpf(build_ebpf::Options),
}

fn main() -> ExitCode {
    let result = match Verb::parse() {
        Verb::Setup(options) => setup::run(&options),
        Verb::BuildEbpf(options) => build_ebpf::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::error(&error);
            ExitCode::FAILURE
        }
    }
}
