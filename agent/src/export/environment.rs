//! Reads `OTEL_*` variables by the rules of the OpenTelemetry specification ("Environment Variable Specification").
//!
//! An invalid value is ignored and reported once.

use std::cell::RefCell;
use std::ffi::OsString;
use std::time::Duration;

use super::error::ConfigError;
use super::settings::Schedule;

/// The variables of a process.
pub(super) struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Variables with invalid values.
    ignored: RefCell<Vec<ConfigError>>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { variable, ignored: RefCell::default() }
    }

    /// The invalid values that were ignored, each once.
    pub(super) fn into_ignored(self) -> Vec<ConfigError> {
        self.ignored.into_inner()
    }

    /// Reports an invalid value, which has no effect.
    pub(super) fn ignore(&self, problem: ConfigError) {
        let mut ignored = self.ignored.borrow_mut();
        if !ignored.contains(&problem) {
            ignored.push(problem);
        }
    }

    /// Whether a variable has a value, be it an invalid one.
    pub(super) fn has(&self, name: &str) -> bool {
        (self.variable)(name).is_some_and(|value| !value.to_string_lossy().trim().is_empty())
    }

    /// A variable's value. None if it is empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        match (self.variable)(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(ConfigError::new(name, "is not valid UTF-8")),
        }
    }

    /// A variable's value, parsed. An invalid one counts as unset, as the specification requires.
    pub(super) fn setting<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let parsed = self.text(name).and_then(|text| {
            text.map(|text| parse(&text).map_err(|problem| ConfigError::new(name, problem))).transpose()
        });
        parsed.unwrap_or_else(|problem| {
            self.ignore(problem);
            None
        })
    }

    /// `OTEL_BSP_*`.
    pub(super) fn schedule(&self) -> Schedule {
        const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
        const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
        let default = Schedule::default();
        let max_queue_size = self.setting(QUEUE, count).unwrap_or(default.max_queue_size);
        let batch_size = self.setting(BATCH, |text| {
            let size = count(text)?;
            if size > max_queue_size { Err(format!("{size} is more than {QUEUE}, {max_queue_size}")) } else { Ok(size) }
        });
        Schedule {
            delay: self.setting("OTEL_BSP_SCHEDULE_DELAY", milliseconds).unwrap_or(default.delay),
            export_timeout: self.setting("OTEL_BSP_EXPORT_TIMEOUT", timeout).unwrap_or(default.export_timeout),
            max_queue_size,
            max_batch_size: batch_size.unwrap_or(default.max_batch_size.min(max_queue_size)),
        }
    }
}

fn number(text: &str, at_least: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number >= at_least);
    number.ok_or_else(|| format!("{text:?} is not a whole number of at least {at_least}"))
}

fn count(text: &str) -> Result<usize, String> {
    number(text, 1).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    number(text, 0).map(Duration::from_millis)
}

/// A timeout. 0 means none.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    /// The specification's proposal for "no limit": seven weeks.
    const NONE: Duration = Duration::from_millis(u32::MAX as u64);
    milliseconds(text).map(|timeout| if timeout.is_zero() { NONE } else { timeout })
}
