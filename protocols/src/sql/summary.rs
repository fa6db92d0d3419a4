//! Collects what a statement does, and to what, in the order in which it says so.
//!
//! A keyword opens a clause, and the clause says whether the next name is a table. Clauses are kept per level of
//! parentheses, so that a subquery has its own, and the comma of a function's arguments is not that of a `FROM` list.

use compact_str::CompactString;

use super::MAX_SUMMARY;
use super::lexer::{Kind, Token};

/// Levels of parentheses with clauses of their own; what is nested deeper adds nothing to the summary.
const MAX_DEPTH: usize = 24;
/// Names of common table expressions that are told from tables; later ones are taken for tables.
const MAX_EXPRESSIONS: usize = 32;
/// Longest keyword that means anything here (`MATERIALIZED`, `CONCURRENTLY`).
const MAX_KEYWORD: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Summary {
    written: CompactString,
    full: bool,
    /// Statements begun; the first one's operation and collection, and whether they all have the same.
    statements: u32,
    operation: CompactString,
    operations_differ: bool,
    collection: CompactString,
    statement: Statement,
    levels: [Level; MAX_DEPTH],
    depth: usize,
    expressions: Vec<CompactString>,
}

/// What holds for a statement, whatever the level.
#[derive(Debug, Default)]
struct Statement {
    verb: Verb,
    /// Its operation: the first at the outermost level, else the first of all.
    operation: CompactString,
    outermost: bool,
    expects: Expects,
    name: Option<Name>,
    after_distinct: bool,
}

/// What holds between two parentheses.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    /// Something other than an opening parenthesis was seen: no verb can begin here any more.
    begun: bool,
    /// A `FROM` here begins a list of tables (and is not that of `EXTRACT(YEAR FROM ...)`).
    awaits_from: bool,
    /// A comma is followed by a table.
    lists_tables: bool,
    /// In `WITH`, before the statement proper: a comma is followed by the name of an expression.
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
    /// `DELETE`, `MERGE`: their second table comes after `USING`.
    DeleteOrMerge,
    /// `CREATE`, `ALTER`, `DROP`
    Define,
    /// An index, trigger, policy or rule is defined `ON` a table.
    DefineOn,
    Prepare,
    /// `GRANT` and `REVOKE`, whose verbs are privileges.
    Privilege,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expects {
    #[default]
    Nothing,
    Name(Target),
    /// `CREATE` what?
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
    /// In a `FROM` list, where a function's result may stand for a table.
    Source,
    /// Anything else that is named: an index, a procedure.
    Other,
}

/// A name in progress: `public`, `.`, `users`.
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
        if token.kind != Kind::Word {
            self.statement.after_distinct = false;
        }
        match token.kind {
            Kind::Space => {}
            Kind::Word => self.word(token.text),
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

    /// The next token is only half there: a name that it would have continued is not known.
    pub(super) fn cut(&mut self) {
        if self.statement.name.as_ref().is_some_and(|name| name.after_dot) {
            self.statement.name = None;
        }
    }

    /// Operation, collection and summary.
    pub(super) fn finish(mut self) -> (CompactString, CompactString, CompactString) {
        self.end_statement();
        let operation = if self.operations_differ { CompactString::default() } else { self.operation };
        let collection = if self.statements > 1 { CompactString::default() } else { self.collection };
        (operation, collection, self.written)
    }

    fn level(&mut self) -> &mut Level {
        &mut self.levels[self.depth.min(MAX_DEPTH - 1)]
    }

    /// Something stands here; in `WITH` the statement proper is still to come.
    fn begin(&mut self) {
        let level = self.level();
        level.begun = !level.with;
    }

    fn is_too_deep(&self) -> bool {
        self.depth >= MAX_DEPTH
    }

    /// Takes the token if it continues a qualified name; if not, the name is complete.
    fn continue_name(&mut self, token: Token<'_>) -> bool {
        let Some(name) = &mut self.statement.name else { return false };
        match token.kind {
            Kind::Word | Kind::Quoted if name.after_dot => push_lossy(&mut name.text, token.text),
            Kind::Mark(b'.') if !name.after_dot => name.text.push('.'),
            kind => {
                // A function in the place of a table: generate_series(1, 2).
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

    fn word(&mut self, word: &[u8]) {
        let mut upper = [0; MAX_KEYWORD];
        let keyword = match upper.get_mut(..word.len()) {
            Some(upper) => {
                upper.copy_from_slice(word);
                upper.make_ascii_uppercase();
                &*upper
            }
            None => b"",
        };
        let after_distinct = std::mem::replace(&mut self.statement.after_distinct, keyword == b"DISTINCT");
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

    fn quoted(&mut self, quoted: &[u8]) {
        match std::mem::take(&mut self.statement.expects) {
            Expects::Name(target) => self.begin_name(quoted, target),
            Expects::Expression => self.add_expression(quoted),
            Expects::Nothing | Expects::ObjectType | Expects::Transaction => {}
        }
        self.begin();
    }

    /// Takes the word if something was expected here that it can be.
    fn expected(&mut self, word: &[u8], keyword: &[u8]) -> bool {
        match self.statement.expects {
            Expects::Nothing => false,
            Expects::Expression if keyword == b"RECURSIVE" => true,
            Expects::Expression => {
                self.statement.expects = Expects::Nothing;
                self.add_expression(word);
                true
            }
            Expects::Transaction => {
                self.statement.expects = Expects::Nothing;
                if keyword == b"TRANSACTION" {
                    self.extend_operation(word);
                }
                true
            }
            Expects::ObjectType => {
                self.object_type(word, keyword);
                true
            }
            Expects::Name(_) if is_noise_before_name(keyword) => true,
            Expects::Name(_) if matches!(keyword, b"SELECT" | b"VALUES" | b"WITH") => {
                self.statement.expects = Expects::Nothing;
                false
            }
            // FROM ROWS FROM (...), INTO OUTFILE '...'
            Expects::Name(_) if matches!(keyword, b"ROWS" | b"OUTFILE" | b"DUMPFILE" | b"SET" | b"WHERE") => {
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

    /// Takes the word if it is the first of a statement or of a parenthesis, and a verb there.
    fn verb(&mut self, word: &[u8], keyword: &[u8]) -> bool {
        // What changes data stands in parentheses only as a common table expression; elsewhere it names a function.
        let may_change = self.depth == 0 || self.levels.get(self.depth - 1).is_some_and(|outer| outer.with);
        let (verb, expects) = match keyword {
            b"SELECT" => (Verb::Select, Expects::Nothing),
            b"INSERT" | b"REPLACE" | b"UPDATE" | b"DELETE" | b"MERGE" if !may_change => return false,
            b"INSERT" | b"REPLACE" => (Verb::Insert, Expects::Name(Target::Table)),
            b"UPDATE" => (Verb::Update, Expects::Name(Target::Table)),
            b"DELETE" => (Verb::DeleteOrMerge, Expects::Nothing),
            b"MERGE" => (Verb::DeleteOrMerge, Expects::Name(Target::Table)),
            b"VALUES" => (Verb::Other, Expects::Nothing),
            b"WITH" => {
                let level = self.level();
                level.with = true;
                // What follows the expressions is the statement proper.
                level.begun = false;
                self.statement.expects = Expects::Expression;
                return true;
            }
            _ if self.depth > 0 || self.level().with => return false,
            b"CREATE" | b"ALTER" | b"DROP" => (Verb::Define, Expects::ObjectType),
            b"TRUNCATE" | b"LOCK" | b"TABLE" | b"COPY" => (Verb::Other, Expects::Name(Target::Table)),
            b"CALL" => (Verb::Other, Expects::Name(Target::Other)),
            b"GRANT" | b"REVOKE" => (Verb::Privilege, Expects::Nothing),
            b"PREPARE" => (Verb::Prepare, Expects::Nothing),
            b"START" => (Verb::Other, Expects::Transaction),
            // The options of EXPLAIN, and then what it explains.
            b"ANALYZE" | b"ANALYSE" | b"VERBOSE" if self.statement.outermost => {
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
        level.awaits_from = matches!(verb, Verb::Select | Verb::Update | Verb::DeleteOrMerge) && keyword != b"MERGE";
        level.lists_tables = verb == Verb::Update || matches!(keyword, b"TRUNCATE" | b"LOCK");
        level.begun = keyword != b"EXPLAIN";
        true
    }

    /// A keyword in the middle of a statement.
    fn clause(&mut self, word: &[u8], keyword: &[u8], after_distinct: bool) {
        let verb = self.statement.verb;
        if verb == Verb::Privilege {
            return;
        }
        match keyword {
            // Nothing but a query begins with SELECT, wherever it stands: after UNION, AS, INSERT INTO t (...).
            b"SELECT" => {
                self.verb(word, keyword);
            }
            // IS DISTINCT FROM is a comparison.
            b"FROM" if self.level().awaits_from && !after_distinct => {
                self.level().awaits_from = false;
                self.list_tables();
            }
            b"JOIN" => self.statement.expects = Expects::Name(Target::Source),
            b"USING" if verb == Verb::DeleteOrMerge && self.depth == 0 => self.list_tables(),
            b"INTO" if self.level().awaits_from => self.statement.expects = Expects::Name(Target::Table),
            b"ON" if verb == Verb::DefineOn => {
                self.statement.verb = Verb::Define;
                self.statement.expects = Expects::Name(Target::Other);
            }
            b"AS" if verb == Verb::Prepare => self.level().begun = false,
            b"WHERE" | b"GROUP" | b"ORDER" | b"HAVING" | b"LIMIT" | b"OFFSET" | b"FETCH" | b"SET" | b"RETURNING"
            | b"UNION" | b"INTERSECT" | b"EXCEPT" | b"WINDOW" | b"FOR" | b"VALUES" | b"WHEN" => {
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
    fn object_type(&mut self, word: &[u8], keyword: &[u8]) {
        self.statement.expects = match keyword {
            b"OR" | b"REPLACE" | b"TEMP" | b"TEMPORARY" | b"GLOBAL" | b"LOCAL" | b"UNLOGGED" | b"UNIQUE"
            | b"RECURSIVE" | b"CONSTRAINT" => Expects::ObjectType,
            // MATERIALIZED VIEW, FOREIGN TABLE, EVENT TRIGGER: the type has two words.
            b"MATERIALIZED" | b"FOREIGN" | b"EVENT" => {
                self.extend_operation(word);
                Expects::ObjectType
            }
            b"TABLE" | b"VIEW" => {
                self.extend_operation(word);
                self.level().lists_tables = self.statement.operation.as_bytes().eq_ignore_ascii_case(b"DROP TABLE");
                Expects::Name(Target::Table)
            }
            // Who may log in, and what the server is set to, is no target.
            b"USER" | b"ROLE" | b"GROUP" | b"SYSTEM" | b"DEFAULT" => {
                self.extend_operation(word);
                Expects::Nothing
            }
            _ => {
                if matches!(keyword, b"INDEX" | b"TRIGGER" | b"POLICY" | b"RULE") {
                    self.statement.verb = Verb::DefineOn;
                }
                self.extend_operation(word);
                Expects::Name(Target::Other)
            }
        };
    }

    fn open(&mut self) {
        // FROM (SELECT ...), but also FROM (a JOIN b ON ...), whose first word is a table.
        let lists_tables = matches!(self.statement.expects, Expects::Name(Target::Source));
        if !lists_tables {
            self.statement.expects = Expects::Nothing;
        }
        // (SELECT ...) UNION (SELECT ...): no verb follows at this level. After EXPLAIN (...) one does.
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

    fn begin_name(&mut self, part: &[u8], target: Target) {
        let mut text = CompactString::default();
        push_lossy(&mut text, part);
        self.statement.name = Some(Name { target, text, after_dot: false });
    }

    fn add_expression(&mut self, name: &[u8]) {
        if self.expressions.len() < MAX_EXPRESSIONS {
            self.expressions.push(CompactString::from_utf8_lossy(name));
        }
    }

    fn add_operation(&mut self, word: &[u8]) {
        let word = CompactString::from_utf8_lossy(word);
        self.write(&word);
        let statement = &mut self.statement;
        if statement.operation.is_empty() || (self.depth == 0 && !statement.outermost) {
            statement.operation = word;
        }
        statement.outermost |= self.depth == 0;
    }

    /// `CREATE` becomes `CREATE TABLE`.
    fn extend_operation(&mut self, word: &[u8]) {
        let word = CompactString::from_utf8_lossy(word);
        self.write(&word);
        self.statement.operation.push(' ');
        self.statement.operation.push_str(&word);
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

/// What may stand between the keyword that announces a name and the name.
fn is_noise_before_name(keyword: &[u8]) -> bool {
    matches!(
        keyword,
        b"ONLY"
            | b"LATERAL"
            | b"TABLE"
            | b"INTO"
            | b"IF"
            | b"NOT"
            | b"EXISTS"
            | b"CONCURRENTLY"
            | b"IGNORE"
            | b"LOW_PRIORITY"
            | b"TEMP"
            | b"TEMPORARY"
            | b"UNLOGGED"
            | b"ON"
    )
}

fn push_lossy(text: &mut CompactString, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(part) => text.push_str(part),
        Err(_) => text.push_str(&String::from_utf8_lossy(bytes)),
    }
}
