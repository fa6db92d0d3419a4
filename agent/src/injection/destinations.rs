//! Which destinations get a trace context: `--inject-allow` and `--inject-deny`.

use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use onlooker_common::injection::{DESTINATIONS, Destination as Rule, destination};

use crate::kernel::SharedKernel;

/// How often the addresses of names are looked up.
const INTERVAL: Duration = Duration::from_secs(30);

/// What requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// Address of IPv6, and the length of the prefix.
    Network(Ipv6Addr, u32),
    Name(String),
}

/// The destinations that are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    pub allowed: Vec<Destination>,
    pub denied: Vec<Destination>,
}

impl FromStr for Destination {
    type Err = String;

    /// `ADDRESS`, `ADDRESS/PREFIX`, `NAME` or nothing, and perhaps `:PORT` or `:FIRST-LAST`. An address of IPv6 with a port is in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, ports) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("has an opening bracket only")?;
                let port = if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or("needs a colon behind the bracket")?)
                };
                (host, port)
            }
            // Several colons are an address of IPv6.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let ports = ports.map_or(Ok(0..=u16::MAX), |ports| {
            parsed_ports(ports).ok_or_else(|| format!("has the wrong port {ports:?}"))
        })?;
        let host = parsed_host(host)?;
        if host == Host::Any && ports == (0..=u16::MAX) {
            return Err("needs an address, a name or a port".to_owned());
        }
        Ok(Self { host, ports })
    }
}

fn parsed_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

fn parsed_host(text: &str) -> Result<Host, String> {
    if text.is_empty() {
        return Ok(Host::Any);
    }
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        return match prefix {
            None if text.bytes().all(is_name) => Ok(Host::Name(text.to_owned())),
            _ => Err(format!("has {text:?}, which is neither an address nor a name")),
        };
    };
    let (mapped, most, before) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 32, 96),
        IpAddr::V6(address) => (address, 128, 0),
    };
    let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse::<u32>().map_err(|_| ()));
    match prefix {
        Ok(prefix) if prefix <= most => Ok(Host::Network(mapped, before + prefix)),
        _ => Err(format!("has the wrong prefix in {text:?}: it must be 0 to {most}")),
    }
}

/// Says what is wrong with a destination that is allowed. It completes the sentence `PATH ...`.
pub fn check_allowed(text: &str) -> Result<(), String> {
    text.parse::<Destination>().map(drop)
}

/// The same of one that is denied.
pub fn check_denied(text: &str) -> Result<(), String> {
    match text.parse::<Destination>()?.host {
        Host::Name(name) => Err(format!(
            "has the name {name:?}, whose addresses can change unnoticed: deny addresses, or allow only what you mean"
        )),
        _ => Ok(()),
    }
}

impl Destinations {
    /// Reads both lists.
    ///
    /// # Errors
    /// What is wrong. It completes the sentence `--inject-...`.
    pub fn parse(allowed: &[String], denied: &[String]) -> Result<Self, String> {
        let of = |what: &str, texts: &[String], check: fn(&str) -> Result<(), String>| -> Result<Vec<_>, String> {
            let one = |text: &String| check(text).and_then(|()| text.parse());
            texts.iter().map(one).collect::<Result<_, _>>().map_err(|why| format!("{what} {why}"))
        };
        let parsed = Self { allowed: of("allow", allowed, check_allowed)?, denied: of("deny", denied, check_denied)? };
        let rules = parsed.rules(|_| Vec::new()).len();
        if rules > DESTINATIONS - 1 {
            return Err(format!("allow and deny have {rules} destinations, and {} are possible", DESTINATIONS - 1));
        }
        Ok(parsed)
    }

    fn have_names(&self) -> bool {
        self.allowed.iter().any(|allowed| matches!(allowed.host, Host::Name(_)))
    }

    /// The rules for the kernel: what is denied, what is allowed, and then nothing else if something is allowed.
    fn rules(&self, resolve: impl Fn(&str) -> Vec<Ipv6Addr>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (destinations, verdict) in [(&self.denied, destination::DENIED), (&self.allowed, destination::ALLOWED)] {
            for Destination { host, ports } in destinations {
                let networks = match host {
                    Host::Any => vec![(Ipv6Addr::UNSPECIFIED, 0)],
                    Host::Network(address, prefix) => vec![(*address, *prefix)],
                    Host::Name(name) => resolve(name).into_iter().map(|address| (address, 128)).collect(),
                };
                rules.extend(networks.into_iter().map(|network| rule(network, ports, verdict)));
            }
        }
        if !self.allowed.is_empty() {
            rules.push(rule((Ipv6Addr::UNSPECIFIED, 0), &(0..=u16::MAX), destination::DENIED));
        }
        rules
    }

    /// Puts the rules into the kernel.
    fn apply(&self, kernel: &SharedKernel) -> anyhow::Result<bool> {
        let mut rules = self.rules(addresses);
        if rules.len() > DESTINATIONS {
            tracing::warn!("the allowed names have more addresses than there is room for: the last are left out");
            let last = rules.pop();
            rules.truncate(DESTINATIONS - 1);
            rules.extend(last);
        }
        let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kernel) = kernel.as_mut() else { return Ok(false) };
        kernel.set_destinations(&rules)?;
        Ok(true)
    }

    /// Puts the rules into the kernel, and does so again as long as the agent runs if names must be looked up.
    ///
    /// # Errors
    /// If the kernel does not take them.
    pub fn follow(self, kernel: &SharedKernel) -> anyhow::Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        self.apply(kernel)?;
        if self.have_names() {
            let kernel = SharedKernel::clone(kernel);
            thread::Builder::new().name("destinations".to_owned()).spawn(move || {
                loop {
                    thread::sleep(INTERVAL);
                    match self.apply(&kernel) {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(error) => tracing::warn!("cannot change where a trace context is added: {error:#}"),
                    }
                }
            })?;
        }
        Ok(())
    }
}

/// The addresses of a name. None if it has none, or cannot be looked up: then its requests get no trace context.
fn addresses(name: &str) -> Vec<Ipv6Addr> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => found
            .map(|address| match address.ip() {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            })
            .collect(),
        Err(error) => {
            tracing::warn!("cannot find the addresses of {name}, so nothing is added to requests for it: {error}");
            Vec::new()
        }
    }
}

fn rule((address, prefix): (Ipv6Addr, u32), ports: &RangeInclusive<u16>, verdict: u32) -> Rule {
    let mask = if prefix == 0 { 0 } else { u128::MAX << (128 - prefix) };
    let words = |bits: u128| {
        let bytes = bits.to_be_bytes();
        [0, 8].map(|at| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("it has 8 bytes")))
    };
    let network = words(address.to_bits() & mask);
    Rule { network, mask: words(mask), first_port: *ports.start(), last_port: *ports.end(), verdict }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    /// As the kernel program decides.
    fn is_allowed(rules: &[Rule], address: &str, port: u16) -> bool {
        let bits = match address.parse().expect("it is an address") {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let of = |bits: u128| rule((Ipv6Addr::from_bits(bits), 128), &(0..=0), 0).network;
        let [high, low] = of(bits);
        let hit = rules.iter().find(|rule| {
            high & rule.mask[0] == rule.network[0]
                && low & rule.mask[1] == rule.network[1]
                && (rule.first_port..=rule.last_port).contains(&port)
        });
        hit.is_none_or(|rule| rule.verdict == destination::ALLOWED)
    }

    #[rstest]
    #[case::everything_by_default(&[], &[], "192.0.2.1", 80, true)]
    #[case::denied_address(&[], &["192.0.2.1"], "192.0.2.1", 80, false)]
    #[case::another_address(&[], &["192.0.2.1"], "192.0.2.2", 80, true)]
    #[case::denied_network(&[], &["192.0.2.0/24"], "192.0.2.255", 80, false)]
    #[case::beside_a_network(&[], &["192.0.2.0/25"], "192.0.2.128", 80, true)]
    #[case::all_of_ipv4(&[], &["0.0.0.0/0"], "198.51.100.7", 80, false)]
    #[case::ipv4_is_not_ipv6(&[], &["0.0.0.0/0"], "2001:db8::1", 80, true)]
    #[case::denied_port(&[], &[":9000-9100"], "192.0.2.1", 9100, false)]
    #[case::another_port(&[], &[":9000-9100"], "192.0.2.1", 9101, true)]
    #[case::address_and_port(&[], &["192.0.2.1:80"], "192.0.2.1", 81, true)]
    #[case::ipv6(&[], &["2001:db8::/32"], "2001:db8:7::1", 80, false)]
    #[case::ipv6_with_a_port(&[], &["[2001:db8::1]:80"], "2001:db8::1", 80, false)]
    #[case::only_what_is_allowed(&["10.0.0.0/8"], &[], "10.9.9.9", 80, true)]
    #[case::nothing_else(&["10.0.0.0/8"], &[], "192.0.2.1", 80, false)]
    #[case::denied_within_allowed(&["10.0.0.0/8"], &["10.1.0.0/16:80"], "10.1.2.3", 80, false)]
    #[case::name(&["shop.test:80"], &[], "192.0.2.7", 80, true)]
    #[case::name_with_another_port(&["shop.test:80"], &[], "192.0.2.7", 81, false)]
    fn rules_decide(
        #[case] allow: &[&str],
        #[case] deny: &[&str],
        #[case] address: &str,
        #[case] port: u16,
        #[case] expected: bool,
    ) {
        let destinations = Destinations::parse(&texts(allow), &texts(deny)).expect("they are right");
        let rules = destinations.rules(|_| vec![Ipv6Addr::from_bits(0xffff_c000_0207)]);
        assert_eq!(is_allowed(&rules, address, port), expected, "{rules:?}");
    }

    #[rstest]
    #[case::empty("", "needs an address, a name or a port")]
    #[case::port("192.0.2.1:x", "has the wrong port \"x\"")]
    #[case::ports_backwards(":9-8", "has the wrong port \"9-8\"")]
    #[case::prefix("192.0.2.1/33", "has the wrong prefix in \"192.0.2.1/33\": it must be 0 to 32")]
    #[case::bracket("[::1", "has an opening bracket only")]
    #[case::glob("*.shop.test", "has \"*.shop.test\", which is neither an address nor a name")]
    fn mistakes_are_named(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(check_allowed(text), Err(expected.to_owned()));
    }

    #[test]
    fn a_name_cannot_be_denied() {
        assert!(check_denied("shop.test").expect_err("it is a name").contains("addresses can change"));
        assert_eq!(check_denied("192.0.2.1:80"), Ok(()));
    }
}
