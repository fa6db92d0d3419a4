//! Collects a statement's operations and their targets, in the statement's order.
//!
//! A keyword begins a clause, and the clause determines whether the next name is a table. Each level of parentheses has
//! its own clause: a subquery has its own tables, and the commas of a function's arguments separate no tables.
//!
//! Only what the statement does is summarised. The query of a view and the body of a function do not run, so they are
//! skipped.
//!
//! This file holds the state. [`words`] interprets each word, [`names`] collects the names, and [`definition`] reads
//! `CREATE`, `ALTER` and `DROP`.

mod definition;
mod names;
mod words;

use compact_str::CompactString;

use super::MAX_SUMMARY;
use super::keyword::Keyword;
use super::lexer::{Kind, Token};
use definition::{Definition, Rest};
use names::{Expression, Name, Target};

/// Levels of parentheses that are followed. What is nested deeper adds nothing to the summary.
const MAX_DEPTH: usize = 24;

#[derive(Debug, Default)]
pub(super) struct Summary {
    written: CompactString,
    full: bool,
    /// The number of statements, the first one's operation and collection, and whether the operations differ.
    statements: u32,
    operation: CompactString,
    operations_differ: bool,
    collection: CompactString,
    statement: Statement,
    levels: [Level; MAX_DEPTH],
    depth: usize,
    /// The common table expressions that are in scope, outer ones first.
    expressions: Vec<Expression>,
}

/// The state of a statement, at any level.
#[derive(Debug, Default)]
struct Statement {
    /// The first operation at the outermost level, or else the first of all.
    operation: CompactString,
    outermost: bool,
    /// The newest operation is the statement's, so that the type of an object extends it.
    is_own: bool,
    expects: Expects,
    name: Option<Name>,
    before: Before,
    definition: Definition,
    rest: Rest,
}

/// The state between two parentheses.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    verb: Verb,
    /// Something other than an opening parenthesis was seen. No verb can follow.
    begun: bool,
    /// A `FROM` begins a list of tables. The `FROM` of `EXTRACT(YEAR FROM ...)` does not.
    awaits_from: bool,
    /// A `USING` begins a list of tables. That of a join does not.
    awaits_using: bool,
    /// A query may begin: after `UNION`, and after the target of `INSERT`.
    awaits_query: bool,
    /// A comma is followed by a name.
    lists: Option<Target>,
    /// In the common table expressions of `WITH`: a comma is followed by an expression's name.
    with: bool,
    /// They are `RECURSIVE`, so an expression can name itself.
    recursive: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Verb {
    #[default]
    Other,
    /// `INSERT`, `REPLACE`
    Insert,
    Copy,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expects {
    #[default]
    Nothing,
    Name(Target),
    /// The type of object after `CREATE`.
    ObjectType,
    /// `CLASS` or `FAMILY`, after `OPERATOR`.
    OperatorType,
    /// The name of a common table expression.
    Expression,
    /// The second word of `START TRANSACTION`.
    Transaction,
}

/// The token before, where it gives a keyword another meaning.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Before {
    #[default]
    Other,
    /// `IS DISTINCT FROM` is a comparison.
    Distinct,
    /// A label follows, which may be any keyword.
    As,
    /// A part of a name follows, which may be any keyword.
    Dot,
}

impl Summary {
    pub(super) fn push(&mut self, token: Token<'_>) {
        if self.statement.name.is_some() && self.continue_name(token.kind, token.text) {
            return;
        }
        if self.statement.rest != Rest::Follows {
            return self.skip(token);
        }
        let before = std::mem::take(&mut self.statement.before);
        match token.kind {
            Kind::Word(_) if matches!(before, Before::As | Before::Dot) => self.begin(),
            Kind::Word(keyword) => {
                self.statement.before = match keyword {
                    Keyword::Distinct => Before::Distinct,
                    Keyword::As => Before::As,
                    _ => Before::Other,
                };
                self.word(token.text, keyword, before);
            }
            Kind::Quoted => self.quoted(token.text),
            Kind::Literal | Kind::Placeholder => {
                self.expect_nothing();
                self.begin();
            }
            Kind::Mark(b'(') => self.open(),
            Kind::Mark(b')') => self.close(),
            Kind::Mark(b',') => self.comma(),
            Kind::Mark(b';') => self.end_statement(),
            Kind::Mark(mark) => {
                self.expect_nothing();
                if mark == b'.' {
                    self.statement.before = Before::Dot;
                }
            }
        }
    }

    /// The next token is incomplete. A name that it continues is unknown.
    pub(super) fn cut(&mut self) {
        if self.statement.name.as_ref().is_some_and(Name::awaits_part) {
            self.statement.name = None;
        }
    }

    /// Returns operation, collection and summary.
    pub(super) fn finish(&mut self) -> (CompactString, CompactString, CompactString) {
        self.end_statement();
        let mut operation = std::mem::take(&mut self.operation);
        let mut collection = std::mem::take(&mut self.collection);
        if self.operations_differ {
            operation.clear();
        }
        if self.statements > 1 {
            collection.clear();
        }
        (operation, collection, std::mem::take(&mut self.written))
    }

    fn level(&mut self) -> &mut Level {
        &mut self.levels[self.depth.min(MAX_DEPTH - 1)]
    }

    /// The level around the current one.
    fn outer(&self) -> Option<&Level> {
        self.levels.get(self.depth.checked_sub(1)?)
    }

    /// A verb can no longer follow at this level, except behind common table expressions.
    fn begin(&mut self) {
        let level = self.level();
        level.begun = !level.with;
    }

    fn is_too_deep(&self) -> bool {
        self.depth >= MAX_DEPTH
    }

    fn open(&mut self) {
        // FROM (SELECT ...), or FROM (a JOIN b ON ...), whose first word is a table.
        let is_source = self.statement.expects == Expects::Name(Target::Source);
        if !is_source {
            self.expect_nothing();
        }
        // (SELECT ...) UNION (SELECT ...): no verb follows at this level. One does after EXPLAIN (...).
        if self.statement.operation.is_empty() {
            self.begin();
        }
        self.depth += 1;
        if self.depth < MAX_DEPTH {
            self.levels[self.depth] = Level { lists: is_source.then_some(Target::Source), ..Level::default() };
        }
    }

    fn close(&mut self) {
        self.statement.expects = Expects::Nothing;
        self.depth = self.depth.saturating_sub(1);
        self.leave_expressions();
    }

    fn comma(&mut self) {
        let level = *self.level();
        self.statement.expects = match (level.with, level.lists) {
            (true, _) => Expects::Expression,
            (_, Some(target)) => Expects::Name(target),
            _ => Expects::Nothing,
        };
        if level.with {
            self.complete_expressions();
        }
    }

    fn end_statement(&mut self) {
        self.end_last_name();
        let operation = std::mem::take(&mut self.statement.operation);
        self.statement = Statement::default();
        self.depth = 0;
        self.levels[0] = Level::default();
        self.expressions.clear();
        if operation.is_empty() {
            return;
        }
        self.statements += 1;
        if self.statements == 1 {
            self.operation = operation;
        } else {
            self.operations_differ |= self.operation != operation;
        }
    }

    fn add_operation(&mut self, word: &str) {
        self.write(word);
        let statement = &mut self.statement;
        statement.is_own = statement.operation.is_empty() || (self.depth == 0 && !statement.outermost);
        if statement.is_own {
            statement.operation = word.into();
        }
        statement.outermost |= self.depth == 0;
    }

    /// Makes `CREATE TABLE` of `CREATE`.
    fn extend_operation(&mut self, word: &str) {
        self.write(word);
        if self.statement.is_own {
            self.statement.operation.push(' ');
            self.statement.operation.push_str(word);
        }
    }

    fn write(&mut self, word: &str) {
        let separator = usize::from(!self.written.is_empty());
        self.full |= self.written.len() + separator + word.len() > MAX_SUMMARY;
        if self.full || self.is_too_deep() {
            return;
        }
        if separator > 0 {
            self.written.push(' ');
        }
        self.written.push_str(word);
    }
}
