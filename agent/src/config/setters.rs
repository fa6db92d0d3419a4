//! How a value that was read becomes a setting. Rows of the table of keys name these functions.

use super::row::Given;
use super::settings::{FileExport, OtlpTransport, Settings};
use crate::discover::select::RuleOptions;

/// The levels of the specification's logs data model, which has four of each.
pub(super) fn log_levels() -> Vec<&'static str> {
    LOG_LEVELS.iter().flat_map(|(names, _)| names.iter().copied()).collect()
}

/// The names of levels, and the agent's own level that shows as much.
const LOG_LEVELS: &[(&[&str], &str)] = &[
    (&["trace", "trace2", "trace3", "trace4"], "trace"),
    (&["debug", "debug2", "debug3", "debug4"], "debug"),
    (&["info", "info2", "info3", "info4"], "info"),
    (&["warn", "warn2", "warn3", "warn4"], "warn"),
    (&["error", "error2", "error3", "error4", "fatal", "fatal2", "fatal3", "fatal4"], "error"),
];

pub(super) fn log_level(settings: &mut Settings, given: Given) -> Result<(), String> {
    text(given, |name| {
        let row = LOG_LEVELS.iter().find(|(names, _)| names.contains(&name.as_str()));
        settings.log_level = row.map(|(_, level)| *level);
    })
}

pub(super) fn attribute(settings: &mut Settings, given: Given) -> Result<(), String> {
    if let Given::Attribute(attribute) = given {
        settings.resource.attributes.push(attribute);
    }
    Ok(())
}

pub(super) fn otlp(settings: &mut Settings, transport: OtlpTransport) -> Result<(), String> {
    let before = settings.file.get_or_insert_default().otlp.replace(transport);
    match before {
        None => Ok(()),
        Some(_) => Err("is a second exporter for OTLP, and Onlooker sends spans to one collector".to_owned()),
    }
}

/// A setting that has a variable of the specification.
pub(super) fn variable(settings: &mut Settings, name: &'static str, given: Given) -> Result<(), String> {
    file(settings, |file| drop(file.variables.insert(name, given.show(false))))
}

pub(super) fn propagates(settings: &mut Settings, name: &'static str) -> Result<(), String> {
    file(settings, |file| file.propagators.push(name))
}

pub(super) fn file(settings: &mut Settings, set: impl FnOnce(&mut FileExport)) -> Result<(), String> {
    set(settings.file.get_or_insert_default());
    Ok(())
}

pub(super) fn accept(_: &mut Settings, _: Given) -> Result<(), String> {
    Ok(())
}

pub(super) fn text(given: Given, set: impl FnOnce(String)) -> Result<(), String> {
    if let Given::Text(text) = given {
        set(text);
    }
    Ok(())
}

pub(super) fn number(given: Given, set: impl FnOnce(u64)) -> Result<(), String> {
    if let Given::Number(number) = given {
        set(number);
    }
    Ok(())
}

/// A number that the row limits to 32 bits.
pub(super) fn small(given: Given, set: impl FnOnce(u32)) -> Result<(), String> {
    number(given, |number| set(u32::try_from(number).unwrap_or(u32::MAX)))
}

pub(super) fn texts(given: Given, set: impl FnOnce(Vec<String>)) -> Result<(), String> {
    if let Given::Texts(texts) = given {
        set(texts);
    }
    Ok(())
}

/// Sets something of the rule that is being read.
pub(super) fn rule(settings: &mut Settings, set: impl FnOnce(&mut RuleOptions)) {
    if let Some(rule) = settings.rules.last_mut() {
        set(rule);
    }
}

pub(super) fn flag(given: Given, set: impl FnOnce(bool)) -> Result<(), String> {
    if let Given::Bool(on) = given {
        set(on);
    }
    Ok(())
}
