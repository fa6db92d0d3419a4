//! `load_client ADDRESS PREFIX IN_FLIGHT FIRST END`: runs a load in a process that can be watched itself. Prints the
//! measured times of its requests by number, as JSON.

use std::env;
use std::io;

use anyhow::{Context as _, Result};
use onlooker_tests::load::Load;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [address, prefix, numbers @ ..] = &arguments[..] else { anyhow::bail!("no address and prefix") };
    let numbers = numbers.iter().map(|number| number.parse().context("not a number")).collect::<Result<Vec<u64>>>()?;
    let [in_flight, first, end] = numbers[..] else { anyhow::bail!("not three numbers") };
    let sent = Load::on(address, prefix).in_flight(usize::try_from(in_flight)?).run(first..end)?;
    serde_json::to_writer(io::stdout().lock(), &sent.answered)?;
    Ok(())
}
