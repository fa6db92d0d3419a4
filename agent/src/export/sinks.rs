//! The table of sinks.

use super::starter::SinkRow;
use super::{console, file, otlp};

/// All sinks. A new sink is a row here and a file with the row in it.
pub(super) const SINKS: &[&SinkRow] = &[&otlp::OTLP, &file::FILE, &console::CONSOLE];

/// The sink that is used where nothing chooses one.
pub(super) const DEFAULT: &SinkRow = &console::CONSOLE;
