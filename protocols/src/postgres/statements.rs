//! The statements of names: prepared statements and portals.

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::message::MAX_NAME;
use crate::sql::{Dialect, Normalized};

/// The last `Parse` of the unnamed statement, normalized.
#[derive(Debug)]
pub(super) struct Unnamed {
    pub(super) body: Box<[u8]>,
    /// `None` if it reads the same in all dialects of PostgreSQL.
    pub(super) dialect: Option<Dialect>,
    pub(super) statement: Arc<Normalized>,
}

/// Prepared statements, or portals, by name. The next unnamed one replaces the unnamed one.
#[derive(Debug, Default)]
pub(super) struct Statements {
    unnamed: Option<Arc<Normalized>>,
    named: HashMap<CompactString, Named>,
    /// Counts uses, to find the least recently used name.
    uses: u64,
    /// The memory of the named ones.
    held_bytes: usize,
    forgotten: usize,
}

#[derive(Debug)]
struct Named {
    /// Its statement for the messages that follow.
    statement: Arc<Normalized>,
    /// Its statement if the server refuses that one.
    confirmed: Option<Arc<Normalized>>,
    used: u64,
}

/// A name that a `Parse` gives, until the answer.
#[derive(Debug)]
pub(super) struct Proposed {
    name: CompactString,
    statement: Arc<Normalized>,
}

/// How many names a connection keeps, and how much memory their statements take. The least recently used one is dropped
/// for the next.
const MAX_NAMES: usize = 1024;
const MAX_HELD_BYTES: usize = 512 * 1024;

impl Statements {
    /// `None`: the statement of the name is unknown.
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

    /// Gives the name this statement. If the server refuses it, the name keeps its earlier statement.
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

    /// The server refused the proposal. A later proposal stays valid.
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

    /// How many names were dropped to make room since the last call.
    pub(super) fn take_forgotten(&mut self) -> usize {
        std::mem::take(&mut self.forgotten)
    }

    /// Drops the least recently used name. This scans all names, each time a program with so many prepares another.
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
        // Usually both are the same.
        let other = self.confirmed.as_ref().filter(|confirmed| !Arc::ptr_eq(confirmed, &self.statement));
        name.len() + self.statement.held_bytes() + other.map_or(0, |other| other.held_bytes())
    }
}
