//! Collects names, which may be qualified, and the names of common table expressions.
//!
//! Many keywords are also legal names: `temp`, `if`, `rows`. Where such a keyword may precede a name, it is taken for the
//! name until the next token shows that it is not.

use compact_str::CompactString;

use super::{Expects, Summary};
use crate::sql::keyword::Keyword;
use crate::sql::lexer::Kind;

/// Names of common table expressions that are remembered. Later ones count as tables.
const MAX_EXPRESSIONS: usize = 32;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    #[default]
    Table,
    /// A name in a `FROM` list: a table, or a function that returns one.
    Source,
    /// The table that `SELECT INTO` creates.
    Into,
    /// An object that a statement defines, as a table or view.
    DefinedTable,
    /// Any other object that a statement defines: an index, a role.
    Defined,
    /// Any other object.
    Other,
}

/// A name in progress, such as `public`, `.`, `users`.
#[derive(Debug)]
pub(super) struct Name {
    target: Target,
    text: CompactString,
    after_dot: bool,
    /// The keyword that it is unless another name follows.
    keyword: Keyword,
}

/// A common table expression.
#[derive(Debug)]
pub(super) struct Expression {
    name: CompactString,
    /// The level of parentheses of its `WITH`.
    depth: usize,
    /// Its own query has ended, or it is `RECURSIVE`. Before, the name is that of a table.
    is_visible: bool,
}

impl Name {
    /// Whether it ends in a dot.
    pub(super) fn awaits_part(&self) -> bool {
        self.after_dot
    }
}

impl Target {
    pub(super) fn is_defined(self) -> bool {
        matches!(self, Self::Defined | Self::DefinedTable)
    }
}

impl Summary {
    /// Takes the token if it continues a qualified name. Otherwise completes the name.
    pub(super) fn continue_name(&mut self, kind: Kind, text: &str) -> bool {
        let Some(name) = &mut self.statement.name else { return false };
        match kind {
            Kind::Word(_) | Kind::Quoted if name.after_dot => name.text.push_str(text),
            Kind::Mark(b'.') if !name.after_dot => {
                name.text.push('.');
                name.keyword = Keyword::None;
            }
            _ => {
                if name.keyword != Keyword::None
                    && let Some(is_taken) = self.continue_keyword(kind)
                {
                    return is_taken;
                }
                self.end_name(kind);
                return false;
            }
        }
        name.after_dot = !name.after_dot;
        true
    }

    /// Decides whether the name in progress is a keyword, by the token behind it. If it is, returns whether the token is
    /// another one. `None` if it is a name.
    fn continue_keyword(&mut self, next: Kind) -> Option<bool> {
        let Name { target, keyword, .. } = *self.statement.name.as_ref()?;
        let is_name = match next {
            Kind::Word(word) => !is_reserved(word),
            kind => kind == Kind::Quoted,
        };
        let (is_keyword, is_taken) = match (keyword, next) {
            (Keyword::If, Kind::Word(Keyword::Exists)) if target.is_defined() => (true, true),
            (Keyword::If, Kind::Word(Keyword::Not)) if target.is_defined() => {
                // EXISTS follows.
                self.statement.name.as_mut()?.keyword = Keyword::Not;
                return Some(true);
            }
            (Keyword::Not, _) => (true, next == Kind::Word(Keyword::Exists)),
            (Keyword::Temp | Keyword::Temporary | Keyword::Unlogged, next) if target == Target::Into => {
                (is_name || next == Kind::Word(Keyword::Table), false)
            }
            (Keyword::Ignore | Keyword::LowPriority, next) => {
                let begins_clause = matches!(next, Kind::Word(Keyword::Set | Keyword::As | Keyword::Values));
                (is_name && !begins_clause || next == Kind::Word(Keyword::Into), false)
            }
            // ROWS FROM (...), INTO OUTFILE '...'
            (Keyword::Rows, Kind::Word(Keyword::From)) if target == Target::Source => {
                self.statement.name = None;
                return Some(true);
            }
            (Keyword::Outfile | Keyword::Dumpfile, Kind::Literal) => {
                self.statement.name = None;
                return Some(false);
            }
            // CREATE USER MAPPING FOR ...
            (Keyword::Mapping, Kind::Word(Keyword::For | Keyword::If)) if target.is_defined() => {
                if let Some(name) = self.statement.name.take() {
                    self.extend_operation(&name.text);
                }
                self.end_definition();
                return Some(false);
            }
            _ => (false, false),
        };
        if !is_keyword {
            return None;
        }
        self.statement.name = None;
        self.statement.expects = Expects::Name(target);
        Some(is_taken)
    }

    /// `next` is the token behind the name.
    fn end_name(&mut self, next: Kind) {
        let Some(name) = self.statement.name.take() else { return };
        if name.target.is_defined() {
            self.end_definition();
        }
        if name.target == Target::Source {
            // A function in place of a table: generate_series(1, 2).
            let is_function = next == Kind::Mark(b'(');
            if is_function || self.is_expression(&name.text) {
                return;
            }
        }
        self.write(&name.text);
        if !matches!(name.target, Target::Other | Target::Defined) && self.collection.is_empty() {
            self.collection = name.text;
        }
    }

    /// Ends the name at the end of its statement.
    pub(super) fn end_last_name(&mut self) {
        if self.statement.name.as_ref().is_some_and(|name| !name.after_dot) {
            self.end_name(Kind::Mark(b';'));
        }
    }

    pub(super) fn begin_name(&mut self, part: &str, keyword: Keyword, target: Target) {
        self.statement.name = Some(Name { target, text: part.into(), after_dot: false, keyword });
    }

    pub(super) fn quoted(&mut self, quoted: &str) {
        match std::mem::take(&mut self.statement.expects) {
            Expects::Name(target) => self.begin_name(quoted, Keyword::None, target),
            Expects::Expression => self.add_expression(quoted),
            Expects::Nothing | Expects::ObjectType | Expects::OperatorType | Expects::Transaction => {}
        }
        self.begin();
    }

    pub(super) fn add_expression(&mut self, name: &str) {
        if self.expressions.len() < MAX_EXPRESSIONS {
            let (depth, is_visible) = (self.depth, self.level().recursive);
            self.expressions.push(Expression { name: name.into(), depth, is_visible });
        }
    }

    /// The expressions of this level have ended up to here.
    pub(super) fn complete_expressions(&mut self) {
        let depth = self.depth;
        for expression in self.expressions.iter_mut().rev().take_while(|expression| expression.depth == depth) {
            expression.is_visible = true;
        }
    }

    /// Forgets the expressions of the levels that have ended.
    pub(super) fn leave_expressions(&mut self) {
        while self.expressions.last().is_some_and(|expression| expression.depth > self.depth) {
            self.expressions.pop();
        }
    }

    fn is_expression(&self, name: &str) -> bool {
        self.expressions.iter().any(|expression| expression.is_visible && is_same(&expression.name, name))
    }
}

/// Whether two names are the same, if quotes only keep their case.
fn is_same(one: &str, other: &str) -> bool {
    let unquoted = |name: &'_ str| name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).map_or(0, |_| 1);
    let (one_quote, other_quote) = (unquoted(one), unquoted(other));
    one[one_quote..one.len() - one_quote].eq_ignore_ascii_case(&other[other_quote..other.len() - other_quote])
}

/// Whether PostgreSQL reserves the word, so that it is never a table's name (its documentation, "SQL Key Words").
pub(super) fn is_reserved(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::All
            | Keyword::And
            | Keyword::As
            | Keyword::Create
            | Keyword::Default
            | Keyword::Distinct
            | Keyword::Except
            | Keyword::Fetch
            | Keyword::For
            | Keyword::From
            | Keyword::Grant
            | Keyword::Group
            | Keyword::Having
            | Keyword::In
            | Keyword::Intersect
            | Keyword::Into
            | Keyword::Join
            | Keyword::Limit
            | Keyword::Not
            | Keyword::Null
            | Keyword::Offset
            | Keyword::On
            | Keyword::Or
            | Keyword::Order
            | Keyword::Returning
            | Keyword::Select
            | Keyword::To
            | Keyword::Union
            | Keyword::Unique
            | Keyword::Using
            | Keyword::When
            | Keyword::Where
            | Keyword::Window
            | Keyword::With
    )
}
