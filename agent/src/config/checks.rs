//! Checks of texts, and the choices that come from tables. Rows of the table of keys name these functions.

use glob::Pattern;
use onlooker_engine::route::PathPattern;
use onlooker_protocols::PROTOCOLS;

use crate::discover::select::PortRange;
use crate::export;
use crate::health::HealthAddress;
use crate::runtimes::RUNTIMES;

/// How an `output_stream` begins that is a file.
pub(super) const FILE_SCHEME: &str = "file://";

pub(super) fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
}

pub(super) fn glob(text: &str) -> Result<(), String> {
    not_empty(text)?;
    Pattern::new(text).map(drop).map_err(|why| format!("has the wrong glob {text:?}: {why}"))
}

pub(super) fn port(text: &str) -> Result<(), String> {
    text.parse::<PortRange>().map(drop).map_err(|why| format!("has the wrong port {text:?}: {why}"))
}

pub(super) fn pid(text: &str) -> Result<(), String> {
    text.parse::<u32>().map(drop).map_err(|_| format!("has {text:?}, which is not the id of a process"))
}

/// `NAME=GLOB`, or only the name.
pub(super) fn pod_pair(text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, "*"));
    not_empty(name)?;
    Pattern::new(value).map(drop).map_err(|why| format!("has the wrong glob {value:?}: {why}"))
}

pub(super) fn health_address(text: &str) -> Result<(), String> {
    text.parse::<HealthAddress>().map(drop).map_err(|why| format!("must be {why}, not {text:?}"))
}

pub(super) fn path_pattern(text: &str) -> Result<(), String> {
    PathPattern::parse(text).map(drop).map_err(|why| format!("has the wrong pattern {text:?}: {why}"))
}

/// The protocols that are parsed.
pub(super) fn protocols() -> Vec<&'static str> {
    PROTOCOLS.iter().filter(|protocol| protocol.parser.is_some()).map(|protocol| protocol.name).collect()
}

pub(super) fn languages() -> Vec<&'static str> {
    let mut languages: Vec<_> = RUNTIMES.iter().filter_map(|runtime| runtime.sdk_language).collect();
    languages.sort_unstable();
    languages.dedup();
    languages
}

pub(super) const fn any(_: &str) -> Result<(), String> {
    Ok(())
}

pub(super) fn url(text: &str) -> Result<(), String> {
    export::checked_url(text).map(drop)
}

pub(super) fn host_or_url(text: &str) -> Result<(), String> {
    if text.contains("://") { url(text) } else { url(&format!("http://{text}")) }
}

pub(super) fn file_url(text: &str) -> Result<(), String> {
    match text.strip_prefix(FILE_SCHEME) {
        Some(path) if path.starts_with('/') => Ok(()),
        _ => Err("must be file:/// and an absolute path; console prints traces".to_owned()),
    }
}
