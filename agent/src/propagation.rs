//! `onlooker propagation`: checks whether the services behind a URL pass a trace context on.
//!
//! A request with a known trace id is sent for each format. Each hop is then asked whether a request with that trace id arrived. A hop on
//! this host is watched by an agent that selects only its process. So no other process of the chain can have told the agent the trace:
//! the id of the hop's span is the one that arrived in the header. Other hops are believed if their answers repeat the trace id.

mod mark;
mod report;
mod watched;

use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onlooker_protocols::propagation::Format;
use reqwest::Url;

use crate::cli::Propagation;
use mark::{Mark, Sender};
pub use report::{Finding, Report};
use report::{Hop, Witness};
use watched::Watched;

/// How long spans of the marked requests are awaited after the answers. Spans are settled after 50 ms, and written after 200 ms more.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);

/// Sends marked requests and asks each hop about them.
///
/// # Errors
/// If the URL cannot be reached, or a hop cannot be watched.
pub async fn check(options: &Propagation) -> Result<Report> {
    let url = parsed(&options.url)?;
    let hops = match &options.hops[..] {
        [] => vec![url.clone()],
        hops => hops.iter().map(|hop| parsed(hop)).collect::<Result<_>>()?,
    };
    let formats = options.chosen_formats().map_err(|why| anyhow::anyhow!("--format {why}"))?;
    let sender = Sender::new(Duration::from_secs(options.timeout))?;
    let mut report = Report::new(&options.url, &formats);
    for hop in &hops {
        let found = if is_local(hop)? {
            (Witness::Agent, watch(&sender, &url, hop, &formats).await?)
        } else {
            (Witness::Answer, ask(&sender, &url, hop, &formats).await?)
        };
        let (witness, findings) = found;
        report.add(Hop { hop: hop.to_string(), witness, findings });
    }
    Ok(report)
}

fn parsed(text: &str) -> Result<Url> {
    let url = Url::parse(text).with_context(|| format!("{text} is no URL"))?;
    ensure!(url.scheme() == "http" && url.host().is_some(), "{text} must begin with http:// and a host");
    Ok(url)
}

/// Whether the host of a URL is this one.
fn is_local(url: &Url) -> Result<bool> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let addresses = (host, 0).to_socket_addrs().with_context(|| format!("cannot find the address of {host}"))?;
    // A socket can be bound only to an address of this host.
    let mut addresses = addresses.map(|address| address.ip());
    Ok(addresses.any(|address: IpAddr| !address.is_unspecified() && UdpSocket::bind((address, 0)).is_ok()))
}

/// Asks an agent that watches the hop what it has received.
async fn watch(sender: &Sender, url: &Url, hop: &Url, formats: &[&'static Format]) -> Result<Vec<Finding>> {
    let port = hop.port_or_known_default().context("a URL with http:// has a port")?;
    let mut watched = Watched::start(port).await.with_context(|| format!("cannot watch {hop}"))?;
    let mut marks = Vec::new();
    for format in formats {
        let mark = Mark::new();
        sender.send(url, Some((format, &mark))).await?;
        marks.push(mark);
    }
    let findings = watched.wait_for(&marks, SETTLED_WITHIN).await;
    watched.stop().await;
    findings
}

/// Looks for the trace id in the answer of the hop, after a marked request to the URL.
async fn ask(sender: &Sender, url: &Url, hop: &Url, formats: &[&'static Format]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for format in formats {
        let mark = Mark::new();
        let mut answer = sender.send(url, Some((format, &mark))).await?;
        if hop != url {
            answer = sender.send(hop, None).await?;
        }
        findings.push(if mark.is_in(&answer) { Finding::Survived } else { Finding::Lost });
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::loopback("http://127.0.0.1:8080/a", true)]
    #[case::loopback_of_version_6("http://[::1]/", true)]
    #[case::documentation("http://192.0.2.1/", false)]
    fn hosts_with_an_address_of_this_one_are_local(#[case] url: &str, #[case] expected: bool) {
        if url.contains("::1") && UdpSocket::bind("[::1]:0").is_err() {
            return onlooker_tests::record_skip("IPv6 is off");
        }
        assert_eq!(is_local(&parsed(url).expect("it is a URL")).expect("it has an address"), expected);
    }

    #[rstest]
    #[case::encrypted("https://127.0.0.1/")]
    #[case::no_scheme("127.0.0.1:80")]
    #[case::empty("")]
    fn other_urls_are_errors(#[case] url: &str) {
        assert!(parsed(url).is_err());
    }
}
