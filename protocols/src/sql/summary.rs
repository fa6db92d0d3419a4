//! Collects a statement's operations and their targets, in the statement's order.
//!
//! A keyword begins a clause, and the clause determines whether the next name is a table. Each level of parentheses has
//! its own clause: a subquery has its own tables, and the commas of a function's arguments separate no tables.
//!
//! This file holds the state. [`words`] interprets each word.

mod words;

use compact_str::CompactString;

use super::MAX_SUMMARY;
use super::keyword::Keyword;
use super::lexer::{Kind, Token};

/// Levels of parentheses that are followed. What is nested deeper adds nothing to the summary.
const MAX_DEPTH: usize = 24;
/// Names of common table expressions that are remembered. Later ones count as tables.
const MAX_EXPRESSIONS: usize = 32;

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
    expressions: Vec<CompactString>,
}

/// The state of a statement, at any level.
#[derive(Debug, Default)]
struct Statement {
    verb: Verb,
    /// The first operation at the outermost level, or else the first of all.
    operation: CompactString,
    outermost: bool,
    expects: Expects,
    name: Option<Name>,
    after_distinct: bool,
}

/// The state between two parentheses.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    /// Something other than an opening parenthesis was seen. No verb can follow.
    begun: bool,
    /// A `FROM` begins a list of tables. The `FROM` of `EXTRACT(YEAR FROM ...)` does not.
    awaits_from: bool,
    /// A comma is followed by a table.
    lists_tables: bool,
    /// In the common table expressions of `WITH`: a comma is followed by an expression's name.
    with: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Verb {
    #[default]
    Other,
    Select,
    /// `INSERT`, `REPLACE`
    Insert,
    Update,
    /// `DELETE`, `MERGE`: the second table follows `USING`.
    DeleteOrMerge,
    /// `CREATE`, `ALTER`, `DROP`
    Define,
    /// `CREATE` of an index, trigger, policy or rule, which is `ON` a table.
    DefineOn,
    Prepare,
    /// `GRANT` and `REVOKE`: the verbs that follow are privileges.
    Privilege,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expects {
    #[default]
    Nothing,
    Name(Target),
    /// The type of object after `CREATE`.
    ObjectType,
    /// The name of a common table expression.
    Expression,
    /// The second word of `START TRANSACTION`.
    Transaction,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Target {
    #[default]
    Table,
    /// A name in a `FROM` list: a table, or a function that returns one.
    Source,
    /// Any other object: an index, a procedure.
    Other,
}

/// A name in progress, such as `public`, `.`, `users`.
#[derive(Debug)]
struct Name {
    target: Target,
    text: CompactString,
    after_dot: bool,
}

impl Summary {
    pub(super) fn push(&mut self, token: Token<'_>) {
        if self.continue_name(token) {
            return;
        }
        let after_distinct =
            std::mem::replace(&mut self.statement.after_distinct, token.kind == Kind::Word(Keyword::Distinct));
        match token.kind {
            Kind::Word(keyword) => self.word(token.text, keyword, after_distinct),
            Kind::Quoted => self.quoted(token.text),
            Kind::Literal | Kind::Placeholder => {
                self.statement.expects = Expects::Nothing;
                self.begin();
            }
            Kind::Mark(b'(') => self.open(),
            Kind::Mark(b')') => self.close(),
            Kind::Mark(b',') => self.comma(),
            Kind::Mark(b';') => self.end_statement(),
            Kind::Mark(_) => self.statement.expects = Expects::Nothing,
        }
    }

    /// The next token is incomplete. A name that it continues is unknown.
    pub(super) fn cut(&mut self) {
        if self.statement.name.as_ref().is_some_and(|name| name.after_dot) {
            self.statement.name = None;
        }
    }

    /// Returns operation, collection and summary.
    pub(super) fn finish(mut self) -> (CompactString, CompactString, CompactString) {
        self.end_statement();
        let operation = if self.operations_differ { CompactString::default() } else { self.operation };
        let collection = if self.statements > 1 { CompactString::default() } else { self.collection };
        (operation, collection, self.written)
    }

    fn level(&mut self) -> &mut Level {
        &mut self.levels[self.depth.min(MAX_DEPTH - 1)]
    }

    /// A verb can no longer follow at this level, except behind common table expressions.
    fn begin(&mut self) {
        let level = self.level();
        level.begun = !level.with;
    }

    fn is_too_deep(&self) -> bool {
        self.depth >= MAX_DEPTH
    }

    /// Takes the token if it continues a qualified name. Otherwise completes the name.
    fn continue_name(&mut self, token: Token<'_>) -> bool {
        let Some(name) = &mut self.statement.name else { return false };
        match token.kind {
            Kind::Word(_) | Kind::Quoted if name.after_dot => name.text.push_str(token.text),
            Kind::Mark(b'.') if !name.after_dot => name.text.push('.'),
            kind => {
                // A function in place of a table: generate_series(1, 2).
                let calls = kind == Kind::Mark(b'(') && name.target == Target::Source;
                self.end_name(!calls);
                return false;
            }
        }
        name.after_dot = !name.after_dot;
        true
    }

    fn end_name(&mut self, is_target: bool) {
        let Some(name) = self.statement.name.take() else { return };
        let is_expression = name.target == Target::Source
            && self.expressions.iter().any(|expression| expression.eq_ignore_ascii_case(&name.text));
        if !is_target || is_expression {
            return;
        }
        self.write(&name.text);
        if name.target != Target::Other && self.collection.is_empty() {
            self.collection = name.text;
        }
    }

    fn quoted(&mut self, quoted: &str) {
        match std::mem::take(&mut self.statement.expects) {
            Expects::Name(target) => self.begin_name(quoted, target),
            Expects::Expression => self.add_expression(quoted),
            Expects::Nothing | Expects::ObjectType | Expects::Transaction => {}
        }
        self.begin();
    }

    fn open(&mut self) {
        // FROM (SELECT ...), or FROM (a JOIN b ON ...), whose first word is a table.
        let lists_tables = matches!(self.statement.expects, Expects::Name(Target::Source));
        if !lists_tables {
            self.statement.expects = Expects::Nothing;
        }
        // (SELECT ...) UNION (SELECT ...): no verb follows at this level. One does after EXPLAIN (...).
        if self.statement.operation.is_empty() {
            self.begin();
        }
        self.depth += 1;
        if self.depth < MAX_DEPTH {
            self.levels[self.depth] = Level { lists_tables, ..Level::default() };
        }
    }

    fn close(&mut self) {
        self.statement.expects = Expects::Nothing;
        self.depth = self.depth.saturating_sub(1);
    }

    fn comma(&mut self) {
        let level = *self.level();
        self.statement.expects = match (level.with, level.lists_tables) {
            (true, _) => Expects::Expression,
            (_, true) => Expects::Name(Target::Source),
            _ => Expects::Nothing,
        };
    }

    fn end_statement(&mut self) {
        let complete = self.statement.name.as_ref().is_some_and(|name| !name.after_dot);
        self.end_name(complete);
        let ended = std::mem::take(&mut self.statement);
        self.depth = 0;
        self.levels[0] = Level::default();
        self.expressions.clear();
        if ended.operation.is_empty() {
            return;
        }
        self.statements += 1;
        if self.statements == 1 {
            self.operation = ended.operation;
        } else {
            self.operations_differ |= self.operation != ended.operation;
        }
    }

    fn begin_name(&mut self, part: &str, target: Target) {
        self.statement.name = Some(Name { target, text: part.into(), after_dot: false });
    }

    fn add_expression(&mut self, name: &str) {
        if self.expressions.len() < MAX_EXPRESSIONS {
            self.expressions.push(name.into());
        }
    }

    fn add_operation(&mut self, word: &str) {
        self.write(word);
        let statement = &mut self.statement;
        if statement.operation.is_empty() || (self.depth == 0 && !statement.outermost) {
            statement.operation = word.into();
        }
        statement.outermost |= self.depth == 0;
    }

    /// Makes `CREATE TABLE` of `CREATE`.
    fn extend_operation(&mut self, word: &str) {
        self.write(word);
        self.statement.operation.push(' ');
        self.statement.operation.push_str(word);
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
