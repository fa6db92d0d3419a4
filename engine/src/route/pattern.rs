//! Patterns of paths that the user gives.
//!
//! A pattern is a path whose segments may have placeholders:
//!
//! - `{name}` or `:name` is one segment that is not empty;
//! - `*` is any part of a segment;
//! - `**` as the last segment is everything below, and nothing.
//!
//! A slash at the end of the path makes no difference.

use std::sync::Arc;

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Arc<str>,
    segments: Box<[Segment]>,
    /// It ends with `**`.
    has_rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Any,
    /// The parts between stars.
    Parts(Box<[Box<str>]>),
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a pattern begins with a slash")]
    NoSlash,
    #[error("`**` is only allowed as the last segment")]
    RestWithin,
}

impl PathPattern {
    /// # Errors
    /// When the text is no pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        let (path, has_rest) = match path.strip_suffix("**") {
            Some(before) if before.is_empty() || before.ends_with('/') => (before, true),
            Some(_) => return Err(PatternError::RestWithin),
            None => (path, false),
        };
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.contains("**") {
            return Err(PatternError::RestWithin);
        }
        let segments = if path.is_empty() { Vec::new() } else { path.split('/').map(Segment::parse).collect() };
        Ok(Self { text: text.into(), segments: segments.into(), has_rest })
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut given = path.strip_suffix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            match given.next() {
                Some(text) if segment.matches(text) => {}
                _ => return false,
            }
        }
        self.has_rest || given.next().is_none_or(|rest| self.segments.is_empty() && rest.is_empty())
    }
}

impl Segment {
    fn parse(text: &str) -> Self {
        if text.starts_with(':') || text.starts_with('{') && text.ends_with('}') {
            Self::Any
        } else {
            Self::Parts(text.split('*').map(Box::from).collect())
        }
    }

    fn matches(&self, text: &str) -> bool {
        let Self::Parts(parts) = self else { return !text.is_empty() };
        let [first, rest @ ..] = &**parts else { return text.is_empty() };
        let Some(mut text) = text.strip_prefix(&**first) else { return false };
        let [middle @ .., last] = rest else { return text.is_empty() };
        for part in middle {
            match text.split_once(&**part) {
                Some((_, after)) => text = after,
                None => return false,
            }
        }
        text.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::literal("/healthz", "/healthz", true)]
    #[case::slash_at_the_end("/healthz", "/healthz/", true)]
    #[case::case_matters("/healthz", "/Healthz", false)]
    #[case::longer("/healthz", "/healthz/db", false)]
    #[case::root("/", "/", true)]
    #[case::root_is_not_all("/", "/a", false)]
    #[case::placeholder("/users/{id}/orders", "/users/7/orders", true)]
    #[case::colon("/users/:id", "/users/7", true)]
    #[case::placeholder_is_not_empty("/users/{id}/orders", "/users//orders", false)]
    #[case::placeholder_is_one_segment("/users/{id}", "/users/7/orders", false)]
    #[case::star("/*/health", "/shop/health", true)]
    #[case::star_in_a_segment("/static/*.js", "/static/app.min.js", true)]
    #[case::several_stars("/a*b*c", "/aXbYc", true)]
    #[case::stars_in_order("/a*b*c", "/acb", false)]
    #[case::star_is_one_segment("/static/*", "/static/css/a.css", false)]
    #[case::overlap("/ab*ba", "/aba", false)]
    #[case::rest("/actuator/**", "/actuator/health/db", true)]
    #[case::rest_may_be_nothing("/actuator/**", "/actuator", true)]
    #[case::rest_is_below("/actuator/**", "/actuators", false)]
    #[case::everything("/**", "/a/b", true)]
    #[case::no_path("/**", "*", false)]
    fn a_pattern_matches_paths(#[case] pattern: &str, #[case] path: &str, #[case] matches: bool) {
        assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), matches);
    }

    #[rstest]
    #[case::relative("healthz", PatternError::NoSlash)]
    #[case::empty("", PatternError::NoSlash)]
    #[case::within("/a/**/b", PatternError::RestWithin)]
    #[case::part("/a**", PatternError::RestWithin)]
    fn an_invalid_pattern_is_an_error(#[case] pattern: &str, #[case] error: PatternError) {
        assert_eq!(PathPattern::parse(pattern), Err(error));
    }
}
