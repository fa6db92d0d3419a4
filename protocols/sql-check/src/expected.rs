//! What a summary must be, from the tree of PostgreSQL's parser.
//!
//! The tree is read as JSON: only a few of its kinds of nodes matter, and everything else is walked through.

use pg_query::protobuf::ObjectType;
use serde_json::{Map, Value};

/// The summary that is expected.
#[derive(Debug)]
pub enum Expected {
    /// These words.
    Whole(Vec<String>),
    /// Words of an operation such as `CREATE TABLE`, which the tree does not have as words, and then these.
    Definition(Vec<String>),
    NotCompared,
}

/// Words of the operations that define something.
pub fn is_of_operation(word: &str) -> bool {
    const WORDS: &str = "create alter drop refresh table view materialized foreign index sequence rule trigger policy role \
                         user group type domain schema extension database tablespace server statistics collation \
                         conversion truncate lock explain prepare data wrapper language publication subscription text \
                         search configuration dictionary parser template access method operator class family event";
    WORDS.split_whitespace().any(|known| known == word)
}

/// `None` if the parser rejects the statement. `forwards`: an expression of `WITH RECURSIVE` can name a later one.
pub fn expected(statement: &str, forwards: bool) -> Option<Expected> {
    let tree = pg_query::parse(statement).ok()?.protobuf;
    let [statement] = &tree.stmts[..] else { return Some(Expected::NotCompared) };
    let statement = serde_json::to_value(statement.stmt.as_ref()?).ok()?;
    Some(of_statement(&statement, forwards))
}

fn of_statement(statement: &Value, forwards: bool) -> Expected {
    let Some((kind, fields)) = node(statement) else { return Expected::NotCompared };
    let named = |names: Vec<Option<String>>| match names.into_iter().collect::<Option<Vec<_>>>() {
        Some(names) => Expected::Definition(names),
        None => Expected::NotCompared,
    };
    let table = |field: &str| fields.get(field).and_then(name);
    let text =
        |field: &str| fields.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let list = |field: &str| fields.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    match kind {
        "SelectStmt" | "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => {
            Expected::Whole(words(statement, forwards))
        }
        "ExplainStmt" => prefixed("explain", &of_statement(&fields["query"], forwards)),
        "PrepareStmt" => prefixed("prepare", &of_statement(&fields["query"], forwards)),
        "DeclareCursorStmt" => prefixed("declare", &of_statement(&fields["query"], forwards)),
        "ExecuteStmt" => Expected::Whole(vec!["execute".to_owned()]),
        "CopyStmt" if fields["query"].is_null() => {
            Expected::Whole(vec!["copy".to_owned(), table("relation").unwrap_or_default()])
        }
        "CopyStmt" => prefixed("copy", &of_statement(&fields["query"], forwards)),
        "CreateTableAsStmt" => {
            let Expected::Whole(query) = of_statement(&fields["query"], forwards) else { return Expected::NotCompared };
            let table = fields["into"].get("rel").and_then(name);
            named(std::iter::once(table).chain(query.into_iter().map(Some)).collect())
        }
        "CreateStmt" => named(vec![table("relation")]),
        "CreateForeignTableStmt" => named(vec![fields["base_stmt"].get("relation").and_then(name)]),
        "ViewStmt" => named(vec![table("view")]),
        "CreateSeqStmt" | "AlterSeqStmt" => named(vec![table("sequence")]),
        "AlterTableStmt" | "RefreshMatViewStmt" => named(vec![table("relation")]),
        "IndexStmt" => named(text("idxname").into_iter().map(Some).chain([table("relation")]).collect()),
        "CreateTrigStmt" => named(vec![text("trigname"), table("relation")]),
        "CreateEventTrigStmt" => named(vec![text("trigname")]),
        "RuleStmt" => named(vec![text("rulename"), table("relation")]),
        "CreatePolicyStmt" | "AlterPolicyStmt" => named(vec![text("policy_name"), table("table")]),
        "CreateRoleStmt" => named(vec![text("role")]),
        "AlterRoleStmt" => {
            named(vec![fields["role"]["rolename"].as_str().filter(|role| !role.is_empty()).map(str::to_owned)])
        }
        "DropRoleStmt" => {
            named(list("roles").iter().map(|role| Some(node(role)?.1["rolename"].as_str()?.to_owned())).collect())
        }
        "TruncateStmt" | "LockStmt" => named(list("relations").iter().map(|table| name(node(table)?.1)).collect()),
        "CreateDomainStmt" => named(vec![qualified(&list("domainname"))]),
        "CreateEnumStmt" | "CreateRangeStmt" => named(vec![qualified(&list("type_name"))]),
        "CompositeTypeStmt" => named(vec![table("typevar")]),
        "CreateSchemaStmt" if text("schemaname").is_some() => named(vec![text("schemaname")]),
        "CreatedbStmt" | "DropdbStmt" => named(vec![text("dbname")]),
        "CreateExtensionStmt" => named(vec![text("extname")]),
        "DropStmt" => {
            let kind =
                fields["remove_type"].as_i64().and_then(|kind| ObjectType::try_from(i32::try_from(kind).ok()?).ok());
            named(list("objects").iter().flat_map(|object| dropped(kind, object)).collect())
        }
        _ => Expected::NotCompared,
    }
}

/// The names of one object that is dropped.
fn dropped(kind: Option<ObjectType>, object: &Value) -> Vec<Option<String>> {
    let parts = match node(object) {
        Some(("List", list)) => list["items"].as_array().cloned().unwrap_or_default(),
        Some(("TypeName", of_type)) => of_type["names"].as_array().cloned().unwrap_or_default(),
        Some(("String", _)) => vec![object.clone()],
        _ => return vec![None],
    };
    match (kind, parts.split_first(), parts.split_last()) {
        // DROP TRIGGER name ON table: the table comes first in the tree.
        (
            Some(ObjectType::ObjectTrigger | ObjectType::ObjectRule | ObjectType::ObjectPolicy),
            _,
            Some((last, table)),
        ) => {
            vec![qualified(std::slice::from_ref(last)), qualified(table)]
        }
        // DROP OPERATOR CLASS name USING method.
        (Some(ObjectType::ObjectOpclass | ObjectType::ObjectOpfamily), Some((_, name)), _) => vec![qualified(name)],
        _ => vec![qualified(&parts)],
    }
}

fn prefixed(operation: &str, rest: &Expected) -> Expected {
    match rest {
        Expected::Whole(words) => {
            Expected::Whole(std::iter::once(operation.to_owned()).chain(words.iter().cloned()).collect())
        }
        Expected::Definition(words) => Expected::Definition(words.clone()),
        Expected::NotCompared => Expected::NotCompared,
    }
}

/// The kind and the fields of a node.
fn node(value: &Value) -> Option<(&str, &Value)> {
    let (kind, fields) = value.get("node")?.as_object()?.iter().next()?;
    Some((kind, fields))
}

/// The name of a table.
fn name(table: &Value) -> Option<String> {
    let part = |field: &str| table.get(field).and_then(Value::as_str).filter(|part| !part.is_empty());
    let parts = [part("catalogname"), part("schemaname"), Some(part("relname")?)];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join("."))
}

fn qualified(parts: &[Value]) -> Option<String> {
    let parts: Option<Vec<_>> = parts.iter().map(|part| node(part)?.1["sval"].as_str()).collect();
    Some(parts?.join("."))
}

/// A word with its place: its position in the statement, names behind operations, outer queries before inner ones.
type Placed = (i64, u8, u32, String);

fn words(statement: &Value, forwards: bool) -> Vec<String> {
    let mut walk = Walk { forwards, ..Walk::default() };
    walk.value(statement, 0, false);
    walk.found.sort();
    walk.found.into_iter().map(|(.., word)| word).collect()
}

#[derive(Default)]
struct Walk {
    forwards: bool,
    /// The common table expressions in scope.
    expressions: Vec<String>,
    found: Vec<Placed>,
}

impl Walk {
    /// `is_inserted`: the rows of an `INSERT`, which are no query of their own.
    fn value(&mut self, value: &Value, depth: u32, is_inserted: bool) {
        match value {
            Value::Object(fields) if fields.contains_key("with_clause") => self.query(fields, depth, is_inserted),
            Value::Object(fields) if fields.contains_key("relname") => self.table(value),
            Value::Object(fields) => {
                // FOR UPDATE OF names tables again. SET (a, b) = (SELECT ...) has the query once for each column.
                let is_repeated = fields.get("colno").and_then(Value::as_i64).is_some_and(|column| column > 1);
                let others =
                    fields.iter().filter(|(name, _)| *name != "locking_clause" && !(is_repeated && *name == "source"));
                others.for_each(|(_, value)| self.value(value, depth, is_inserted));
            }
            Value::Array(values) => values.iter().for_each(|value| self.value(value, depth, is_inserted)),
            _ => {}
        }
    }

    fn table(&mut self, table: &Value) {
        let Some(name) = name(table) else { return };
        if table["schemaname"] == "" && self.expressions.contains(&name) {
            return;
        }
        self.found.push((table["location"].as_i64().unwrap_or(-1), 1, 0, name));
    }

    fn query(&mut self, fields: &Map<String, Value>, depth: u32, is_inserted: bool) {
        let outer = self.expressions.len();
        let with = &fields["with_clause"];
        let expressions = with["ctes"].as_array().cloned().unwrap_or_default();
        let named =
            |expression: &Value| node(expression).and_then(|(_, fields)| fields["ctename"].as_str().map(str::to_owned));
        let is_recursive = with["recursive"] == true;
        if is_recursive && self.forwards {
            self.expressions.extend(expressions.iter().filter_map(named));
        }
        for expression in &expressions {
            if is_recursive && !self.forwards {
                self.expressions.extend(named(expression));
            }
            self.value(expression, depth + 1, false);
            if !is_recursive {
                self.expressions.extend(named(expression));
            }
        }
        let is_select = fields.contains_key("values_lists");
        let is_insert = fields.contains_key("on_conflict_clause");
        if is_select {
            let is_values = fields["values_lists"].as_array().is_some_and(|rows| !rows.is_empty());
            let operation = if is_values {
                "values"
            } else if is_whole_table(fields) {
                "table"
            } else {
                "select"
            };
            if fields["larg"].is_null() && !(is_values && is_inserted) {
                self.found.push((place(fields), 0, depth, operation.to_owned()));
            }
        } else {
            let operation = match () {
                () if is_insert => "insert",
                () if fields.contains_key("merge_when_clauses") => "merge",
                () if fields.contains_key("using_clause") => "delete",
                () => "update",
            };
            let target = &fields["relation"];
            let at = target["location"].as_i64().unwrap_or(-1);
            self.found.push((at, 0, depth, operation.to_owned()));
            self.found.push((at, 1, 0, name(target).unwrap_or_default()));
        }
        for (field, value) in fields {
            match field.as_str() {
                "with_clause" | "locking_clause" => {}
                "relation" if !is_select => {}
                "larg" | "rarg" => self.value(value, depth, false),
                "select_stmt" => self.value(value, depth + 1, true),
                _ => self.value(value, depth + 1, false),
            }
        }
        self.expressions.truncate(outer);
    }
}

/// Whether it is `TABLE name`.
fn is_whole_table(select: &Map<String, Value>) -> bool {
    match select["target_list"].as_array().map(Vec::as_slice) {
        Some([target]) => node(target).is_some_and(|(_, target)| target["location"] == -1),
        _ => false,
    }
}

/// The first position in a query, without that of its common table expressions.
fn place(query: &Map<String, Value>) -> i64 {
    fn first(value: &Value) -> i64 {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| match value.as_i64() {
                    Some(at) if name == "location" && at >= 0 => at,
                    _ => first(value),
                })
                .min()
                .unwrap_or(i64::MAX),
            Value::Array(values) => values.iter().map(first).min().unwrap_or(i64::MAX),
            _ => i64::MAX,
        }
    }
    query.iter().filter(|(name, _)| *name != "with_clause").map(|(_, value)| first(value)).min().unwrap_or(i64::MAX)
}
