//! Bounds the templates of one service.
//!
//! User names, titles and the guesses of a scanner look like words. If a position of a path shows too many words, it is a
//! value: known words keep their templates, and new words become `{name}`. A template once given stays, so no caller can
//! change the names of known routes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::template::{Holds, template};
use crate::model::reporting::Reporting;
use crate::model::span::Role;

/// Words that a position may show. Large programs have a few dozen endpoints below one prefix.
const MAX_WORDS: u16 = 64;
/// Words that a position may learn from requests with status 404: enough for frequent misses, and too few for a scanner to
/// use up the position.
const MAX_WORDS_NOT_FOUND: u16 = 8;
/// Templates of one role of a service. Other paths have none, and their spans are named by the method alone. A template has
/// at most 10 segments of 64 bytes, so a service costs 400 KiB at worst, and 10 KiB usually.
const MAX_TEMPLATES: usize = 256;

/// The routes that one service serves, and those that it calls.
#[derive(Debug, Default)]
pub struct Routes {
    /// The routes that the user gives.
    given: Arc<Reporting>,
    served: Learnt,
    called: Learnt,
    /// The last template. Its memory is used for the next.
    last: String,
}

/// The result of [`Routes::learn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'routes> {
    /// `None` for a path that names no resource, or that is one too many.
    pub template: Option<&'routes str>,
    pub holds: Holds,
    /// The user gave the template, so it is the route for certain.
    pub is_given: bool,
}

#[derive(Debug, Default)]
struct Learnt {
    templates: FxHashSet<Box<str>>,
    /// Hashes of the beginnings of templates, up to the end of each segment. A collision makes two share a placeholder.
    prefixes: FxHashSet<u64>,
    /// The number of different words that followed a prefix.
    words: FxHashMap<u64, u16>,
}

impl Routes {
    /// Those of a service with these patterns.
    #[must_use]
    pub fn new(given: Arc<Reporting>) -> Self {
        Self { given, ..Self::default() }
    }

    /// The template of a `path` that was requested from the service (`Role::Server`) or by it (`Role::Client`). `found` is
    /// false if the response says that there is no such resource.
    pub fn learn(&mut self, role: Role, path: &str, found: bool) -> Route<'_> {
        self.last.clear();
        let holds = template(path, &mut self.last);
        if let Some(given) = self.given.route(path) {
            return Route { template: Some(given), holds, is_given: true };
        }
        let side = match role {
            Role::Server => &mut self.served,
            Role::Client => &mut self.called,
        };
        let has_template = !self.last.is_empty() && side.settle(&mut self.last, found);
        Route { template: has_template.then_some(self.last.as_str()), holds, is_given: false }
    }
}

impl Learnt {
    /// Bounds the template. Returns false if there is no room for it.
    fn settle(&mut self, template: &mut String, found: bool) -> bool {
        if self.templates.contains(template.as_str()) {
            return true;
        }
        let room = if found { MAX_TEMPLATES } else { MAX_TEMPLATES / 2 };
        let full = self.templates.len() >= room;
        *template = self.bounded(template, if found { MAX_WORDS } else { MAX_WORDS_NOT_FOUND }, full);
        if self.templates.contains(template.as_str()) {
            return true;
        }
        if !full {
            self.templates.insert(template.as_str().into());
        }
        !full
    }

    /// `template` with `{name}` for each word that its position has no room for. If `frozen`, nothing is learnt.
    fn bounded(&mut self, template: &str, max_words: u16, frozen: bool) -> String {
        let mut bounded = String::with_capacity(template.len());
        for segment in template.split('/').skip(1) {
            let prefix = hash(&bounded);
            let length = bounded.len();
            bounded.push('/');
            bounded.push_str(segment);
            let with_segment = hash(&bounded);
            if is_placeholder(segment) || self.prefixes.contains(&with_segment) {
                continue;
            }
            let seen = self.words.get(&prefix).copied().unwrap_or(0);
            if seen >= max_words {
                bounded.truncate(length);
                bounded.push_str("/{name}");
            } else if !frozen {
                self.words.insert(prefix, seen + 1);
                self.prefixes.insert(with_segment);
            }
        }
        bounded
    }
}

/// Whether the segment is one placeholder. `{id}.png` counts as a word.
fn is_placeholder(segment: &str) -> bool {
    segment.starts_with('{') && segment.find('}') == Some(segment.len() - 1)
}

fn hash(prefix: &str) -> u64 {
    let mut hasher = FxHasher::default();
    prefix.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(routes: &mut Routes, path: &str, found: bool) -> Option<String> {
        routes.learn(Role::Server, path, found).template.map(str::to_owned)
    }

    #[test]
    fn a_position_that_shows_too_many_words_is_a_value() {
        let mut routes = Routes::default();
        assert_eq!(served(&mut routes, "/users/me/posts", true).as_deref(), Some("/users/me/posts"));
        let user = |n: u8| format!("/users/user{}{}", char::from(b'a' + n / 26), char::from(b'a' + n % 26));
        let names: FxHashSet<_> = (0..200).map(|n| served(&mut routes, &user(n), true)).collect();
        assert_eq!(names.len(), usize::from(MAX_WORDS));
        assert!(names.contains(&Some("/users/{name}".to_owned())));
        // Known words keep their names, other positions have their own count, and segments below the value keep theirs.
        assert_eq!(served(&mut routes, "/users/me/posts", true).as_deref(), Some("/users/me/posts"));
        assert_eq!(served(&mut routes, "/health", true).as_deref(), Some("/health"));
        assert_eq!(served(&mut routes, "/users/zoe/posts/7", true).as_deref(), Some("/users/{name}/posts/{id}"));
    }

    #[test]
    fn a_scanner_does_not_use_up_the_words() {
        let mut routes = Routes::default();
        let probe = |n: u8| format!("/wp{}{}", char::from(b'a' + n / 26), char::from(b'a' + n % 26));
        let probes: FxHashSet<_> = (0..200).map(|n| served(&mut routes, &probe(n), false)).collect();
        assert_eq!(probes.len(), usize::from(MAX_WORDS_NOT_FOUND) + 1);
        assert_eq!(served(&mut routes, "/checkout", true).as_deref(), Some("/checkout"));
        // Known routes keep their names even with status 404.
        assert_eq!(served(&mut routes, "/checkout/7", true).as_deref(), Some("/checkout/{id}"));
        assert_eq!(served(&mut routes, "/checkout/8", false).as_deref(), Some("/checkout/{id}"));
    }

    #[test]
    fn the_templates_of_a_service_are_bounded() {
        let mut routes = Routes::default();
        let word = |n: u32| -> String { (0..3).map(|i| char::from(b'a' + ((n >> (4 * i)) & 15) as u8)).collect() };
        let mut names = FxHashSet::default();
        for first in 0..60 {
            for second in 0..60 {
                names.extend(served(&mut routes, &format!("/{}/{}", word(first), word(second)), true));
            }
        }
        assert_eq!(names.len(), MAX_TEMPLATES);
        assert_eq!(served(&mut routes, "/one/more", true), None);
        assert!(routes.served.prefixes.len() <= 2 * MAX_TEMPLATES);
        assert_eq!(served(&mut routes, "/aaa/aaa", true).as_deref(), Some("/aaa/aaa"));
    }

    #[test]
    fn served_and_called_routes_are_learnt_separately() {
        let mut routes = Routes::default();
        for n in 0..26_u8 {
            served(&mut routes, &format!("/{}", char::from(b'a' + n)), false);
        }
        let called = routes.learn(Role::Client, "/zebra", false);
        assert_eq!(called.template, Some("/zebra"));
    }
}
