//! Requests of real clients arrive with the same bytes, but for the added line. `cargo xtask same-bytes` makes as many as wanted.

use anyhow::{Result, ensure};
use onlooker_tests::same_bytes::{self, Load};
use onlooker_tests::{agent_binary, record_skip};
use rstest::rstest;

#[rstest]
#[case("curl")]
#[case("Requests")]
#[case("httpx")]
#[case("aiohttp")]
#[case("Node http")]
#[case("Node fetch (undici)")]
#[case("Go net/http")]
#[case("Java HttpURLConnection")]
#[case("Java HttpClient")]
fn requests_arrive_with_the_same_bytes_but_for_one_line(#[case] client: &str) -> Result<()> {
    let client = same_bytes::client(client)?;
    if let Some(reason) = client.skip_reason() {
        record_skip(&reason);
        return Ok(());
    }
    let verdict = client.compare(&Load { requests: 100, most: 1 << 20 }, &agent_binary()?)?;
    println!("{}: {verdict}", client.name);
    ensure!(verdict.added > 0, "nothing was added");
    Ok(())
}
