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
    statement: Arc<Normalized>,
    used: u64,
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
        let Some(statement) = statement.filter(|_| name.len() <= MAX_NAME) else { return };
        self.held_bytes += held_bytes(name, &statement);
        while self.named.len() >= MAX_NAMES || (self.held_bytes > MAX_HELD_BYTES && !self.named.is_empty()) {
            self.forget_one();
        }
        self.uses += 1;
        self.named.insert(name.into(), Named { statement, used: self.uses });
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

    fn drop_name(&mut self, name: &str) {
        if let Some(named) = self.named.remove(name) {
            self.held_bytes -= held_bytes(name, &named.statement);
        }
    }
}

fn held_bytes(name: &str, statement: &Normalized) -> usize {
    name.len() + statement.held_bytes()
}
