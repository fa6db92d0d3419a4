//! Interprets a word by its place: as a verb, the beginning of a clause, or a name.

use super::{Expects, Summary, Target, Verb};
use crate::sql::keyword::Keyword;

impl Summary {
    pub(super) fn word(&mut self, word: &str, keyword: Keyword, after_distinct: bool) {
        if self.expected(word, keyword) {
            return;
        }
        let may_begin = !self.level().begun;
        self.begin();
        if may_begin && self.verb(word, keyword) {
            return;
        }
        self.clause(word, keyword, after_distinct);
    }

    /// Takes the word if it is what is expected. Returns whether it is.
    fn expected(&mut self, word: &str, keyword: Keyword) -> bool {
        match self.statement.expects {
            Expects::Nothing => false,
            Expects::Expression if keyword == Keyword::Recursive => true,
            Expects::Expression => {
                self.statement.expects = Expects::Nothing;
                self.add_expression(word);
                true
            }
            Expects::Transaction => {
                self.statement.expects = Expects::Nothing;
                if keyword == Keyword::Transaction {
                    self.extend_operation(word);
                }
                true
            }
            Expects::ObjectType => {
                self.object_type(word, keyword);
                true
            }
            Expects::Name(_) if is_noise_before_name(keyword) => true,
            Expects::Name(_) if matches!(keyword, Keyword::Select | Keyword::Values | Keyword::With) => {
                self.statement.expects = Expects::Nothing;
                false
            }
            // FROM ROWS FROM (...), INTO OUTFILE '...'
            Expects::Name(_)
                if matches!(
                    keyword,
                    Keyword::Rows | Keyword::Outfile | Keyword::Dumpfile | Keyword::Set | Keyword::Where
                ) =>
            {
                self.statement.expects = Expects::Nothing;
                false
            }
            Expects::Name(target) => {
                self.statement.expects = Expects::Nothing;
                self.begin();
                self.begin_name(word, target);
                true
            }
        }
    }

    /// Takes the first word of a statement or parenthesis if it is a verb. Returns whether it is.
    fn verb(&mut self, word: &str, keyword: Keyword) -> bool {
        // In parentheses, only a common table expression can change data. Elsewhere the word is a function's name.
        let may_change = self.depth == 0 || self.levels.get(self.depth - 1).is_some_and(|outer| outer.with);
        let (verb, expects) = match keyword {
            Keyword::Select => (Verb::Select, Expects::Nothing),
            Keyword::Insert | Keyword::Replace | Keyword::Update | Keyword::Delete | Keyword::Merge if !may_change => {
                return false;
            }
            Keyword::Insert | Keyword::Replace => (Verb::Insert, Expects::Name(Target::Table)),
            Keyword::Update => (Verb::Update, Expects::Name(Target::Table)),
            Keyword::Delete => (Verb::DeleteOrMerge, Expects::Nothing),
            Keyword::Merge => (Verb::DeleteOrMerge, Expects::Name(Target::Table)),
            Keyword::Values => (Verb::Other, Expects::Nothing),
            Keyword::With => {
                let level = self.level();
                level.with = true;
                // The statement's verb follows the expressions.
                level.begun = false;
                self.statement.expects = Expects::Expression;
                return true;
            }
            _ if self.depth > 0 || self.level().with => return false,
            Keyword::Create | Keyword::Alter | Keyword::Drop => (Verb::Define, Expects::ObjectType),
            Keyword::Truncate | Keyword::Lock | Keyword::Table | Keyword::Copy => {
                (Verb::Other, Expects::Name(Target::Table))
            }
            Keyword::Call => (Verb::Other, Expects::Name(Target::Other)),
            Keyword::Grant | Keyword::Revoke => (Verb::Privilege, Expects::Nothing),
            Keyword::Prepare => (Verb::Prepare, Expects::Nothing),
            Keyword::Start => (Verb::Other, Expects::Transaction),
            // The options of EXPLAIN. The explained statement follows.
            Keyword::Analyze | Keyword::Analyse | Keyword::Verbose if self.statement.outermost => {
                self.level().begun = false;
                return true;
            }
            _ => (Verb::Other, Expects::Nothing),
        };
        self.statement.verb = verb;
        self.statement.expects = expects;
        self.add_operation(word);
        let level = self.level();
        level.with = false;
        level.awaits_from =
            matches!(verb, Verb::Select | Verb::Update | Verb::DeleteOrMerge) && keyword != Keyword::Merge;
        level.lists_tables = verb == Verb::Update || matches!(keyword, Keyword::Truncate | Keyword::Lock);
        level.begun = keyword != Keyword::Explain;
        true
    }

    /// A keyword in the middle of a statement.
    fn clause(&mut self, word: &str, keyword: Keyword, after_distinct: bool) {
        let verb = self.statement.verb;
        if verb == Verb::Privilege {
            return;
        }
        match keyword {
            // SELECT always begins a query: after UNION, AS, INSERT INTO t (...).
            Keyword::Select => {
                self.verb(word, keyword);
            }
            // IS DISTINCT FROM is a comparison.
            Keyword::From if self.level().awaits_from && !after_distinct => {
                self.level().awaits_from = false;
                self.list_tables();
            }
            Keyword::Join => self.statement.expects = Expects::Name(Target::Source),
            Keyword::Using if verb == Verb::DeleteOrMerge && self.depth == 0 => self.list_tables(),
            Keyword::Into if self.level().awaits_from => self.statement.expects = Expects::Name(Target::Table),
            Keyword::On if verb == Verb::DefineOn => {
                self.statement.verb = Verb::Define;
                self.statement.expects = Expects::Name(Target::Other);
            }
            Keyword::As if verb == Verb::Prepare => self.level().begun = false,
            Keyword::Where
            | Keyword::Group
            | Keyword::Order
            | Keyword::Having
            | Keyword::Limit
            | Keyword::Offset
            | Keyword::Fetch
            | Keyword::Set
            | Keyword::Returning
            | Keyword::Union
            | Keyword::Intersect
            | Keyword::Except
            | Keyword::Window
            | Keyword::For
            | Keyword::Values
            | Keyword::When => {
                self.level().lists_tables = false;
            }
            _ => {}
        }
    }

    fn list_tables(&mut self) {
        self.level().lists_tables = true;
        self.statement.expects = Expects::Name(Target::Source);
    }

    /// The words between `CREATE` and a name.
    fn object_type(&mut self, word: &str, keyword: Keyword) {
        self.statement.expects = match keyword {
            Keyword::Or
            | Keyword::Replace
            | Keyword::Temp
            | Keyword::Temporary
            | Keyword::Global
            | Keyword::Local
            | Keyword::Unlogged
            | Keyword::Unique
            | Keyword::Recursive
            | Keyword::Constraint => Expects::ObjectType,
            // MATERIALIZED VIEW, FOREIGN TABLE, EVENT TRIGGER: the type has two words.
            Keyword::Materialized | Keyword::Foreign | Keyword::Event => {
                self.extend_operation(word);
                Expects::ObjectType
            }
            Keyword::Table | Keyword::View => {
                self.extend_operation(word);
                self.level().lists_tables = self.statement.operation.eq_ignore_ascii_case("DROP TABLE");
                Expects::Name(Target::Table)
            }
            // Users and settings are no targets.
            Keyword::User | Keyword::Role | Keyword::Group | Keyword::System | Keyword::Default => {
                self.extend_operation(word);
                Expects::Nothing
            }
            _ => {
                if matches!(keyword, Keyword::Index | Keyword::Trigger | Keyword::Policy | Keyword::Rule) {
                    self.statement.verb = Verb::DefineOn;
                }
                self.extend_operation(word);
                Expects::Name(Target::Other)
            }
        };
    }
}

/// Whether the keyword can precede a name that is expected.
fn is_noise_before_name(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::Only
            | Keyword::Lateral
            | Keyword::Table
            | Keyword::Into
            | Keyword::If
            | Keyword::Not
            | Keyword::Exists
            | Keyword::Concurrently
            | Keyword::Ignore
            | Keyword::LowPriority
            | Keyword::Temp
            | Keyword::Temporary
            | Keyword::Unlogged
            | Keyword::On
    )
}
