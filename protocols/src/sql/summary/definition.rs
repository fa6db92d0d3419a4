//! Reads `CREATE`, `ALTER`, `DROP` and `REFRESH`: the type of object, its name, and what follows.
//!
//! The rest of a definition does not run, so its queries add nothing to the summary. Exceptions are the query behind
//! `CREATE TABLE ... AS`, and a table in a fixed place.

use super::names::Target;
use super::{Before, Expects, Summary};
use crate::sql::keyword::Keyword;
use crate::sql::lexer::{Kind, Token};

/// The words of a definition so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Definition {
    /// `CREATE`, `ALTER`, `DROP`, `REFRESH`
    pub(super) verb: Keyword,
    /// The last word of the type.
    object: Keyword,
    /// What follows the name.
    after_name: Rest,
}

/// What follows in a statement, as far as it adds to the summary.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Everything is followed.
    #[default]
    Follows,
    /// Nothing more.
    Skipped,
    /// The query behind this keyword: `CREATE TABLE ... AS`, `PREPARE ... AS`, `DECLARE ... FOR`.
    Query(Keyword),
    /// The table behind this keyword: `CREATE INDEX ... ON`, `CREATE RULE ... TO`.
    Table(Keyword),
    /// Nothing more, but a body may hold several statements: `BEGIN ATOMIC ...; END`. The value counts its open blocks.
    Body(u32),
}

impl Definition {
    pub(super) fn of(verb: Keyword) -> Self {
        Self { verb, ..Self::default() }
    }
}

impl Summary {
    /// Takes a word between `CREATE` and a name.
    pub(super) fn object_type(&mut self, word: &str, keyword: Keyword) {
        let Definition { verb, object, .. } = self.statement.definition;
        let expects = match keyword {
            Keyword::Or
            | Keyword::Replace
            | Keyword::Temp
            | Keyword::Temporary
            | Keyword::Global
            | Keyword::Local
            | Keyword::Unlogged
            | Keyword::Unique
            | Keyword::Recursive
            | Keyword::Constraint
            | Keyword::Trusted
            | Keyword::Procedural => return,
            // MATERIALIZED VIEW, FOREIGN DATA WRAPPER, TEXT SEARCH PARSER: the type has several words.
            Keyword::Materialized
            | Keyword::Foreign
            | Keyword::Event
            | Keyword::Text
            | Keyword::Search
            | Keyword::Data
            | Keyword::Access => Expects::ObjectType,
            Keyword::Operator => Expects::OperatorType,
            Keyword::Table | Keyword::View => Expects::Name(Target::DefinedTable),
            Keyword::System | Keyword::Default => Expects::Nothing,
            _ => Expects::Name(Target::Defined),
        };
        self.extend_operation(word);
        self.statement.expects = expects;
        let definition = &mut self.statement.definition;
        definition.object = keyword;
        definition.after_name = match (verb, keyword) {
            (Keyword::Create, Keyword::Table) => Rest::Query(Keyword::As),
            (Keyword::Create, Keyword::View) if object == Keyword::Materialized => Rest::Query(Keyword::As),
            (Keyword::Create, Keyword::Rule) => Rest::Table(Keyword::To),
            // An event trigger is on no table.
            (_, Keyword::Trigger) if object == Keyword::Event => Rest::Skipped,
            (_, Keyword::Index | Keyword::Trigger | Keyword::Policy | Keyword::Rule) => Rest::Table(Keyword::On),
            (_, Keyword::Function | Keyword::Procedure) => Rest::Body(0),
            _ => Rest::Skipped,
        };
        match expects {
            Expects::Name(target) if verb == Keyword::Drop => self.level().lists = Some(target),
            Expects::Nothing => self.end_definition(),
            _ => {}
        }
    }

    /// Takes `CLASS` or `FAMILY` after `OPERATOR`. Operators themselves have no names.
    pub(super) fn operator_type(&mut self, word: &str, keyword: Keyword) {
        if matches!(keyword, Keyword::Class | Keyword::Family) {
            self.extend_operation(word);
            self.statement.expects = Expects::Name(Target::Defined);
        } else {
            self.end_definition();
        }
    }

    /// The object has its name, or none.
    pub(super) fn end_definition(&mut self) {
        self.statement.expects = Expects::Nothing;
        self.statement.rest = self.statement.definition.after_name;
        if self.statement.rest == Rest::Follows {
            self.statement.rest = Rest::Skipped;
        }
    }

    /// An index without a name: `CREATE INDEX ON t`. Returns whether it is one.
    pub(super) fn is_unnamed_index(&mut self, keyword: Keyword) -> bool {
        let after_name = &mut self.statement.definition.after_name;
        let is_unnamed = keyword == Keyword::On && *after_name == Rest::Table(Keyword::On);
        if is_unnamed {
            *after_name = Rest::Skipped;
        }
        is_unnamed
    }

    /// Takes a token that adds nothing to the summary, unless the rest of the statement says otherwise.
    pub(super) fn skip(&mut self, token: Token<'_>) {
        let rest = self.statement.rest;
        match (rest, token.kind) {
            (_, Kind::Mark(b'(')) => self.depth += 1,
            (_, Kind::Mark(b')')) => self.depth = self.depth.saturating_sub(1),
            (Rest::Body(blocks), Kind::Word(keyword)) => {
                let blocks = match keyword {
                    Keyword::Begin => blocks.max(1),
                    Keyword::Case if blocks > 0 => blocks.saturating_add(1),
                    Keyword::End => blocks.saturating_sub(1),
                    _ => return,
                };
                self.statement.rest = Rest::Body(blocks);
            }
            (Rest::Body(1..), Kind::Mark(b';')) => {}
            // The commands of a rule are in parentheses.
            (Rest::Skipped, Kind::Mark(b';')) if self.depth > 0 => {}
            (_, Kind::Mark(b';')) => self.end_statement(),
            _ if self.depth > 0 => {}
            (Rest::Query(before), Kind::Word(keyword)) if keyword == before || keyword == Keyword::Select => {
                self.statement.rest = Rest::Follows;
                self.statement.before = Before::Other;
                self.level().begun = false;
                if keyword == Keyword::Select {
                    self.push(token);
                }
            }
            (Rest::Table(before), Kind::Word(keyword)) if keyword == before => {
                self.statement.definition.after_name = Rest::Skipped;
                self.expect_defined(Target::Defined);
            }
            (_, Kind::Mark(b',')) => {
                if let Some(target) = self.level().lists {
                    self.expect_defined(target);
                }
            }
            _ => {}
        }
    }

    fn expect_defined(&mut self, target: Target) {
        self.statement.rest = Rest::Follows;
        self.statement.expects = Expects::Name(target);
    }
}
