//! Prints the effective values, and where each comes from.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use super::Configuration;
use super::keys::KEYS;
use super::read::{Found, given};
use super::row::{Given, Key, Kind};
use super::schema::RULE;
use super::yaml::Content;
use crate::export::{self, Protocol};

/// A line of the output.
struct Line {
    path: String,
    value: String,
    origin: String,
}

/// Every key that has a value, one a line: `PATH: VALUE  # ORIGIN`. `export` is what the configuration leads to.
#[must_use]
pub fn print(configuration: &Configuration, export: &export::Config) -> String {
    let in_use = KEYS.iter().filter(|key| is_in_use(key, export));
    let lines: Vec<_> = in_use.flat_map(|key| lines(key, configuration)).collect();
    let width = |line: &Line| line.path.len() + 2 + line.value.len();
    let widest = lines.iter().map(width).filter(|width| *width <= 100).max().unwrap_or(0);
    lines.iter().fold(String::new(), |mut text, line| {
        let pad = " ".repeat(widest.saturating_sub(width(line)));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {}{pad}  # {}", line.path, line.value, line.origin);
        text
    })
}

/// Whether a key matters: those of an exporter only if it is used.
fn is_in_use(key: &Key, export: &export::Config) -> bool {
    let protocol = export.otlp.as_ref().map(|otlp| otlp.protocol);
    let below = |name: &str| key.path.split('.').any(|part| part == name);
    if below("otlp_grpc") {
        protocol == Some(Protocol::Grpc)
    } else if below("otlp_http") {
        protocol.is_some_and(|protocol| protocol != Protocol::Grpc)
    } else if below("otlp_file/development") {
        export.file.is_some()
    } else if below("console") {
        export.console
    } else {
        true
    }
}

fn lines(key: &Key, configuration: &Configuration) -> Vec<Line> {
    let line =
        |path: &str, value: String, origin: String| Line { path: path.to_owned(), value: shown(key, value), origin };
    let flag = key.flag.and_then(|flag| configuration.given.iter().find(|(id, _)| id == flag));
    let mut lines = Vec::new();
    if let Some((id, text)) = flag {
        let value = if text.is_empty() { "true" } else { text };
        lines.push(line(key.path, hidden(key, value), format!("--{}", id.replace('_', "-"))));
        // Options that select are rules beside those of the file.
        if !key.path.starts_with(RULE) {
            return lines;
        }
    }
    if let Some(file) = &configuration.file {
        let found: Vec<_> = configuration.found.iter().filter(|found| found.key.path == key.path).collect();
        if !found.is_empty() {
            let found = found.into_iter().filter(|found| !matches!(found.given, Given::Present));
            let of_file = |found: &Found| {
                let value = found.given.show(key.is_secret && key.name() != "endpoint");
                line(&found.path, value, format!("{}:{}", name(file), found.line))
            };
            lines.extend(found.map(of_file));
            return lines;
        }
    } else if let Some((variable, value)) = by_variable(key, configuration) {
        return vec![line(key.path, hidden(key, &value), variable.to_owned())];
    }
    if !key.default.is_empty() && !key.path.starts_with(RULE) {
        lines.push(line(key.path, key.default.to_owned(), "default".to_owned()));
    }
    lines
}

/// The first variable with a valid value. An invalid one has no effect.
fn by_variable(key: &Key, configuration: &Configuration) -> Option<(&'static str, String)> {
    key.variables.iter().find_map(|name| {
        let value = configuration.settings.variable(name).map(OsString::into_string)?.ok()?;
        let value = value.trim().to_owned();
        (!value.is_empty() && is_valid(key, &value)).then_some((*name, value))
    })
}

fn is_valid(key: &Key, value: &str) -> bool {
    if matches!(key.kind, Kind::Section) {
        return true;
    }
    // Variables accept names in any case. That of the protocol has the encoding in it.
    let lower = value.to_lowercase();
    let text = match key.kind {
        Kind::Choice(_) | Kind::Bool => lower.strip_prefix("http/").unwrap_or(&lower),
        _ => value,
    };
    let is_plain = matches!(key.kind, Kind::Bool | Kind::Number { .. });
    given(key, &Content::Scalar { text: text.to_owned(), is_plain }).is_ok()
}

fn hidden(key: &Key, value: &str) -> String {
    if key.is_secret && key.name() != "endpoint" { "[hidden]".to_owned() } else { value.to_owned() }
}

/// Of an endpoint only scheme, host and port are shown.
fn shown(key: &Key, value: String) -> String {
    if key.name() == "endpoint" { export::endpoint_origin(&value) } else { value }
}

fn name(file: &Path) -> String {
    file.display().to_string()
}
