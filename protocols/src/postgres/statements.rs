//! Which statement a name stands for.

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::message::MAX_NAME;
use crate::sql::Normalized;

/// Prepared statements, or portals, by name. The unnamed one is replaced by each that follows it.
#[derive(Debug, Default)]
pub(super) struct Statements {
    unnamed: Option<Arc<Normalized>>,
    named: HashMap<CompactString, Named>,
    /// Counts uses, to know which name was not used for longest.
    uses: u64,
    /// What the named ones hold.
    held_bytes: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct Named {
    /// What it stands for to the messages that follow.
    statement: Arc<Normalized>,
    /// What it stands for if the server refuses that.
    confirmed: Option<Arc<Normalized>>,
    used: u64,
}

/// A name that a `Parse` gave, until it is answered.
#[derive(Debug)]
pub(super) struct Proposed {
    name: CompactString,
    statement: Arc<Normalized>,
}

/// How many names are remembered of a connection, and how much memory their statements take. The one not used for
/// longest makes room for the next, and what it stood for is not known any more.
const MAX_NAMES: usize = 1024;
const MAX_HELD_BYTES: usize = 512 * 1024;

impl Statements {
    /// `None` says that the name stands for something not known.
    pub(super) fn set(&mut self, name: &[u8], statement: Option<Arc<Normalized>>) {
        if name.is_empty() {
            self.unnamed = statement;
            return;
        }
        let Ok(name) = std::str::from_utf8(name) else { return };
        self.drop_name(name);
        if let Some(statement) = statement {
            self.insert(name, Arc::clone(&statement), Some(statement));
        }
    }

    /// The name stands for this from now on, unless the server says that it can't: then it goes on standing for what it
    /// stood for.
    pub(super) fn propose(&mut self, name: &[u8], statement: &Arc<Normalized>) -> Option<Proposed> {
        if name.is_empty() {
            self.unnamed = Some(Arc::clone(statement));
            return None;
        }
        let name = std::str::from_utf8(name).ok()?;
        let confirmed = self.drop_name(name).and_then(|named| named.confirmed);
        self.insert(name, Arc::clone(statement), confirmed);
        Some(Proposed { name: name.into(), statement: Arc::clone(statement) })
    }

    pub(super) fn confirm(&mut self, Proposed { name, statement }: Proposed) {
        if let Some(mut named) = self.drop_name(&name) {
            named.confirmed = Some(statement);
            self.insert(&name, named.statement, named.confirmed);
        }
    }

    /// The server refused the proposal. Another one may have come since: that stands.
    pub(super) fn withdraw(&mut self, Proposed { name, statement }: &Proposed) {
        let is_newest = self.named.get(name).is_some_and(|named| Arc::ptr_eq(&named.statement, statement));
        if is_newest && let Some(confirmed) = self.drop_name(name).and_then(|named| named.confirmed) {
            self.insert(name, Arc::clone(&confirmed), Some(confirmed));
        }
    }

    fn insert(&mut self, name: &str, statement: Arc<Normalized>, confirmed: Option<Arc<Normalized>>) {
        if name.len() > MAX_NAME {
            return;
        }
        self.uses += 1;
        let named = Named { statement, confirmed, used: self.uses };
        self.held_bytes += named.held_bytes(name);
        while self.named.len() >= MAX_NAMES || (self.held_bytes > MAX_HELD_BYTES && !self.named.is_empty()) {
            self.forget_one();
        }
        self.named.insert(name.into(), named);
    }

    pub(super) fn get(&mut self, name: &[u8]) -> Option<Arc<Normalized>> {
        if name.is_empty() {
            return self.unnamed.clone();
        }
        let named = self.named.get_mut(std::str::from_utf8(name).ok()?)?;
        self.uses += 1;
        named.used = self.uses;
        Some(Arc::clone(&named.statement))
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.set(name, None);
    }

    /// How many names were forgotten to make room.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Looks at all of them: a program that has this many statements in use pays it with each that it prepares.
    fn forget_one(&mut self) {
        let oldest = self.named.iter().min_by_key(|(_, named)| named.used).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.drop_name(&name);
            self.forgotten += 1;
        }
    }

    fn drop_name(&mut self, name: &str) -> Option<Named> {
        let named = self.named.remove(name)?;
        self.held_bytes -= named.held_bytes(name);
        Some(named)
    }
}

impl Named {
    fn held_bytes(&self, name: &str) -> usize {
        // The two are the same as a rule.
        let other = self.confirmed.as_ref().filter(|confirmed| !Arc::ptr_eq(confirmed, &self.statement));
        name.len() + self.statement.held_bytes() + other.map_or(0, |other| other.held_bytes())
    }
}
