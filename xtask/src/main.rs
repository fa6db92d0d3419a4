//! Every habit of the project as one verb: `cargo xtask <verb>`.

mod bench;
mod build_ebpf;
mod demo;
mod fuzz;
mod lint;
mod run;
mod setup;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Every habit of the project as one verb.")]
enum Verb {
    Setup(setup::Options),
    BuildEbpf(build_ebpf::Options),
    Run(run::Options),
    Demo(demo::Options),
    Test(test::Options),
    Lint(lint::Options),
    Fuzz(fuzz::Options),
    Bench(bench::Options),
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Verb::parse() {
        Verb::Setup(options) => setup::run(&options).map(done),
        Verb::BuildEbpf(options) => build_ebpf::run(&options).map(done),
        Verb::Run(options) => run::run(&options).map(done),
        Verb::Demo(options) => demo::run(&options).map(done),
        Verb::Test(options) => test::run(&options),
        Verb::Lint(options) => lint::run(&options).map(done),
        Verb::Fuzz(options) => fuzz::run(&options).map(done),
        Verb::Bench(options) => bench::run(&options).map(done),
        Verb::Vm(options) => vm::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            shell::error(&error);
            ExitCode::FAILURE
        }
    }
}
