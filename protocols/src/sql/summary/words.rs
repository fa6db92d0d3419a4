//! Interprets a word by its place: as a verb, the beginning of a clause, or a name.

use super::definition::{Definition, Rest};
use super::names::{Target, is_reserved};
use super::{Before, Expects, Summary, Verb};
use crate::sql::keyword::Keyword;

impl Summary {
    pub(super) fn word(&mut self, word: &str, keyword: Keyword, before: Before) {
        if self.statement.expects != Expects::Nothing && self.expected(word, keyword) {
            return;
        }
        let may_begin = !self.level().begun;
        self.begin();
        if may_begin && self.verb(word, keyword) {
            return;
        }
        self.clause(word, keyword, before);
    }

    /// Takes the word if it is what is expected. Returns whether it is.
    fn expected(&mut self, word: &str, keyword: Keyword) -> bool {
        match self.statement.expects {
            Expects::Nothing => return false,
            Expects::Expression if keyword == Keyword::Recursive => self.level().recursive = true,
            Expects::Expression => {
                self.statement.expects = Expects::Nothing;
                self.add_expression(word);
            }
            Expects::Transaction => {
                self.statement.expects = Expects::Nothing;
                if keyword == Keyword::Transaction {
                    self.extend_operation(word);
                }
            }
            Expects::ObjectType => self.object_type(word, keyword),
            Expects::OperatorType => self.operator_type(word, keyword),
            Expects::Name(target) => return self.expected_name(word, keyword, target),
        }
        true
    }

    fn expected_name(&mut self, word: &str, keyword: Keyword, target: Target) -> bool {
        match keyword {
            Keyword::Only | Keyword::Lateral | Keyword::Concurrently | Keyword::Into => return true,
            // FROM (VALUES ...), FROM (TABLE t)
            Keyword::Values | Keyword::Table if target == Target::Source && !self.level().begun => {}
            Keyword::Table if target != Target::Source => return true,
            Keyword::Authorization if target.is_defined() => return true,
            _ if target.is_defined() && self.is_unnamed_index(keyword) => return true,
            keyword if is_reserved(keyword) => {}
            _ => {
                self.statement.expects = Expects::Nothing;
                self.begin();
                self.begin_name(word, keyword, target);
                return true;
            }
        }
        self.expect_nothing();
        false
    }

    /// What was expected did not come.
    pub(super) fn expect_nothing(&mut self) {
        match std::mem::take(&mut self.statement.expects) {
            Expects::Name(target) if target.is_defined() => self.end_definition(),
            Expects::ObjectType | Expects::OperatorType => self.end_definition(),
            _ => {}
        }
    }

    /// Takes the first word of a statement or parenthesis if it is a verb. Returns whether it is.
    fn verb(&mut self, word: &str, keyword: Keyword) -> bool {
        // In parentheses, only a common table expression and COPY can change data. Elsewhere the word is a function's name.
        let may_change = self.depth == 0 || self.outer().is_some_and(|outer| outer.with || outer.verb == Verb::Copy);
        let mut verb = Verb::Other;
        let expects = match keyword {
            Keyword::Select | Keyword::Values => Expects::Nothing,
            Keyword::Insert | Keyword::Replace | Keyword::Update | Keyword::Delete | Keyword::Merge if !may_change => {
                return false;
            }
            Keyword::Insert | Keyword::Replace => {
                verb = Verb::Insert;
                Expects::Name(Target::Table)
            }
            Keyword::Update | Keyword::Merge | Keyword::Table => Expects::Name(Target::Table),
            Keyword::Delete => Expects::Nothing,
            Keyword::With => {
                self.begin_expressions();
                return true;
            }
            _ if self.depth > 0 || self.level().with => return false,
            Keyword::Create | Keyword::Alter | Keyword::Drop | Keyword::Refresh => {
                self.statement.definition = Definition::of(keyword);
                Expects::ObjectType
            }
            Keyword::Truncate | Keyword::Lock => Expects::Name(Target::Table),
            Keyword::Copy => {
                verb = Verb::Copy;
                Expects::Name(Target::Table)
            }
            Keyword::Call => Expects::Name(Target::Other),
            Keyword::Start => Expects::Transaction,
            // The options of EXPLAIN. The explained statement follows.
            Keyword::Analyze | Keyword::Analyse | Keyword::Verbose if self.statement.outermost => {
                self.level().begun = false;
                return true;
            }
            _ => Expects::Nothing,
        };
        self.statement.expects = expects;
        self.statement.rest = match keyword {
            Keyword::Prepare => Rest::Query(Keyword::As),
            Keyword::Declare => Rest::Query(Keyword::For),
            // The verbs that follow are privileges.
            Keyword::Grant | Keyword::Revoke => Rest::Skipped,
            _ => Rest::Follows,
        };
        self.add_operation(word);
        if self.level().with {
            self.complete_expressions();
        }
        let level = self.level();
        level.verb = verb;
        level.with = false;
        level.awaits_from = matches!(keyword, Keyword::Select | Keyword::Update | Keyword::Delete);
        level.awaits_using = matches!(keyword, Keyword::Delete | Keyword::Merge);
        level.awaits_query = verb == Verb::Insert;
        level.lists = match keyword {
            Keyword::Update => Some(Target::Source),
            Keyword::Truncate | Keyword::Lock => Some(Target::Table),
            _ => None,
        };
        level.begun = keyword != Keyword::Explain;
        true
    }

    /// A keyword in the middle of a statement.
    fn clause(&mut self, word: &str, keyword: Keyword, before: Before) {
        match keyword {
            // SELECT always begins a query: after UNION, INSERT INTO t (...).
            Keyword::Select => {
                self.verb(word, keyword);
            }
            Keyword::With if self.level().awaits_query => self.begin_expressions(),
            Keyword::Values if self.level().verb == Verb::Insert => self.level().awaits_query = false,
            Keyword::Values | Keyword::Table if self.level().awaits_query => {
                self.verb(word, keyword);
            }
            Keyword::From if self.level().awaits_from && before != Before::Distinct => {
                self.level().awaits_from = false;
                self.list_tables();
            }
            Keyword::Join => self.statement.expects = Expects::Name(Target::Source),
            Keyword::Using if self.level().awaits_using => {
                self.level().awaits_using = false;
                self.list_tables();
            }
            Keyword::Into if self.level().awaits_from => self.statement.expects = Expects::Name(Target::Into),
            Keyword::Union | Keyword::Intersect | Keyword::Except => {
                let level = self.level();
                level.lists = None;
                level.awaits_query = true;
            }
            Keyword::Where
            | Keyword::Group
            | Keyword::Order
            | Keyword::Having
            | Keyword::Limit
            | Keyword::Offset
            | Keyword::Fetch
            | Keyword::Set
            | Keyword::Returning
            | Keyword::Window
            | Keyword::For
            | Keyword::When => self.level().lists = None,
            _ => {}
        }
    }

    /// Begins the common table expressions of a `WITH`. The statement's verb follows them.
    fn begin_expressions(&mut self) {
        let level = self.level();
        level.with = true;
        level.recursive = false;
        level.begun = false;
        self.statement.expects = Expects::Expression;
    }

    fn list_tables(&mut self) {
        self.level().lists = Some(Target::Source);
        self.statement.expects = Expects::Name(Target::Source);
    }
}
