//! The globs of rules.

use glob::{MatchOptions, Pattern, PatternError};

use super::options::SelectError;

/// A star stands for everything.
pub(super) const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: false, require_literal_leading_dot: false };

/// Whether one of the globs matches the text, if there is one.
pub(super) fn matches_text(globs: &[Pattern], text: Option<&str>) -> bool {
    text.is_some_and(|text| globs.iter().any(|glob| glob.matches_with(text, OPTIONS)))
}

/// Reads a glob of a rule. `what` names the condition for the error.
pub(super) fn pattern(what: &'static str, glob: &str) -> Result<Pattern, SelectError> {
    Pattern::new(glob).map_err(|why| rule_glob(what, glob, why))
}

pub(super) fn rule_glob(what: &'static str, glob: &str, why: PatternError) -> SelectError {
    SelectError::RuleGlob { what, glob: glob.to_owned(), why }
}
