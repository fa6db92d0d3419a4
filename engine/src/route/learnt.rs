//! Keeps the templates of one service few.
//!
//! Usernames, titles and what a scanner tries look like words. A position in the path that has shown too many words is
//! a value: words seen there before keep their names, new ones become `{name}`. A name once given stays, so nothing a
//! caller sends changes how the known routes are called.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::{Holds, template};
use crate::model::span::Role;

/// Words a position may show. Large programs have a few dozen endpoints below one prefix.
const MAX_WORDS: u16 = 64;
/// Words a position may learn from requests that were answered with 404: enough to name what is often missed, too few
/// for a scanner to use up the position.
const MAX_WORDS_NOT_FOUND: u16 = 8;
/// Templates of one side of a service; what comes after has none, and its span is named by the method alone. A
/// template is at most 10 segments of 64 bytes, so a service costs 400 KiB at the very worst, 10 KiB commonly.
const MAX_TEMPLATES: usize = 256;

/// The routes of one service: those it serves and those it calls.
#[derive(Debug, Default)]
pub struct Routes {
    served: Learnt,
    called: Learnt,
    /// Where templates are put together.
    scratch: String,
}

/// What [`Routes::learn`] says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The template; `None` for a path that names no resource, or one too many.
    pub template: Option<Arc<str>>,
    pub holds: Holds,
}

#[derive(Debug, Default)]
struct Learnt {
    templates: FxHashSet<Arc<str>>,
    /// Hashes of the templates' beginnings, each up to the end of a segment. Two that collide only share their fate.
    prefixes: FxHashSet<u64>,
    /// How many different words followed a prefix.
    words: FxHashMap<u64, u16>,
}

impl Routes {
    /// The template of `path`, requested from (`Role::Server`) or by (`Role::Client`) the service; `found` is false
    /// if the answer was that there is no such resource.
    pub fn learn(&mut self, role: Role, path: &str, found: bool) -> Route {
        self.scratch.clear();
        let holds = template(path, &mut self.scratch);
        let side = match role {
            Role::Server => &mut self.served,
            Role::Client => &mut self.called,
        };
        let template = if self.scratch.is_empty() { None } else { side.settle(&self.scratch, found) };
        Route { template, holds }
    }
}

impl Learnt {
    fn settle(&mut self, template: &str, found: bool) -> Option<Arc<str>> {
        if let Some(known) = self.templates.get(template) {
            return Some(Arc::clone(known));
        }
        let room = if found { MAX_TEMPLATES } else { MAX_TEMPLATES / 2 };
        let full = self.templates.len() >= room;
        let settled = self.bounded(template, if found { MAX_WORDS } else { MAX_WORDS_NOT_FOUND }, full);
        if let Some(known) = self.templates.get(settled.as_str()) {
            return Some(Arc::clone(known));
        }
        if full {
            return None;
        }
        let settled: Arc<str> = settled.into();
        self.templates.insert(Arc::clone(&settled));
        Some(settled)
    }

    /// `template` with `{name}` for each word that its position has no room for; `frozen`: learns nothing.
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

/// Whether all of the segment is one placeholder; `{id}.png` counts as a word.
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
        routes.learn(Role::Server, path, found).template.map(|t| t.to_string())
    }

    #[test]
    fn a_position_that_shows_too_many_words_is_a_value() {
        let mut routes = Routes::default();
        assert_eq!(served(&mut routes, "/users/me/posts", true).as_deref(), Some("/users/me/posts"));
        let user = |n: u8| format!("/users/user{}{}", char::from(b'a' + n / 26), char::from(b'a' + n % 26));
        let names: FxHashSet<_> = (0..200).map(|n| served(&mut routes, &user(n), true)).collect();
        assert_eq!(names.len(), usize::from(MAX_WORDS));
        assert!(names.contains(&Some("/users/{name}".to_owned())));
        // What was known keeps its name, what is beside it has its own count, and what is below the value is told.
        assert_eq!(served(&mut routes, "/users/me/posts", true).as_deref(), Some("/users/me/posts"));
        assert_eq!(served(&mut routes, "/health", true).as_deref(), Some("/health"));
        assert_eq!(served(&mut routes, "/users/zoe/posts/7", true).as_deref(), Some("/users/{name}/posts/{id}"));
    }

    #[test]
    fn a_scanner_uses_up_no_names() {
        let mut routes = Routes::default();
        let probe = |n: u8| format!("/wp{}{}", char::from(b'a' + n / 26), char::from(b'a' + n % 26));
        let probes: FxHashSet<_> = (0..200).map(|n| served(&mut routes, &probe(n), false)).collect();
        assert_eq!(probes.len(), usize::from(MAX_WORDS_NOT_FOUND) + 1);
        assert_eq!(served(&mut routes, "/checkout", true).as_deref(), Some("/checkout"));
        // Known routes are named also where this one thing was not found.
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
    fn what_is_served_and_what_is_called_are_learnt_apart() {
        let mut routes = Routes::default();
        for n in 0..26_u8 {
            served(&mut routes, &format!("/{}", char::from(b'a' + n)), false);
        }
        let called = routes.learn(Role::Client, "/zebra", false);
        assert_eq!(called.template.as_deref(), Some("/zebra"));
    }
}
