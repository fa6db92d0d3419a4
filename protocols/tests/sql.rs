//! SQL without its literals, and its summary.

mod chance;

use onlooker_protocols::sql::{Dialect, Extent, MAX_SUMMARY, Normalized, normalize};
use proptest::prelude::*;
use rstest::rstest;

fn postgres(sql: &str) -> Normalized {
    normalize(sql.as_bytes(), Extent::Whole, Dialect::Postgres)
}

fn mysql(sql: &str) -> Normalized {
    normalize(sql.as_bytes(), Extent::Whole, Dialect::MySql)
}

#[rstest]
#[case::numbers("SELECT 1, -2, 3.5, .5, 1e10, 1.5E-3, 0xFF, 1_000", "SELECT ?, -?, ?, ?, ?, ?, ?, ?")]
#[case::numbers_in_names("SELECT t1.c2 FROM t1", "SELECT t1.c2 FROM t1")]
#[case::keyword_behind_a_number(
    "WHERE id=1AND b=1.5or c=2e5IS NULL ORDER BY 1desc LIMIT 1OFFSET 2",
    "WHERE id=?AND b=?or c=?IS NULL ORDER BY ?desc LIMIT ?OFFSET ?"
)]
#[case::exponent_or_keyword(
    "SELECT CASE WHEN a THEN 1else 2end, 0xAND, 1secret",
    "SELECT CASE WHEN a THEN ?else ?end, ?, ?"
)]
#[case::expression("SELECT 1+2, a-1, b/3", "SELECT ?+?, a-?, b/?")]
#[case::string("WHERE name = 'O''Brien'", "WHERE name = ?")]
#[case::backslash_is_no_escape(r"WHERE path = 'C:\' AND b = 'x'", "WHERE path = ? AND b = ?")]
#[case::escape_string(r"SELECT E'it\'s', e'a\\', n'x', B'01', X'AF', U&'\0041'", "SELECT ?, ?, ?, ?, ?, ?")]
#[case::bytes_of_cockroachdb(r"SELECT b'it\'s secret', c", "SELECT ?...")]
#[case::string_continued("SELECT 'a'\n'b', 'a' \t\r\n 'b''c' 'd'", "SELECT ?, ? ?")]
#[case::string_not_continued_in_a_line("SELECT 'a' 'b'", "SELECT ? ?")]
#[case::escape_string_continued("SELECT E'a'\n'b\\' secret', c", "SELECT ?, c")]
#[case::escape_string_continued_twice("SELECT e'a\\''\r\r'b'\n \x0c'c\\'secret' , c", "SELECT ? , c")]
#[case::escape_string_continued_after_a_comment("SELECT E'a' -- it's\n -- 'x\n 'b\\' secret', c", "SELECT ?, c")]
#[case::escape_string_not_continued_after_a_comment("SELECT E'a' /* \n */ 'b\\', c", "SELECT ? ?, c")]
#[case::unicode_string_continued("SELECT U&'a'\n'b\\', c", "SELECT ?, c")]
#[case::bits_continued("SELECT B'01'\n'10', X'A'\n'F', N'a'\n'b\\', c", "SELECT ?, ?, ?, c")]
#[case::dollar_quotes("SELECT $$it's$$, $f$ $$ $g$ $f$, $1", "SELECT ?, ?, $1")]
#[case::dollar_in_name("SELECT a$b FROM t$1", "SELECT a$b FROM t$1")]
#[case::dollar_quote_behind_a_number("SELECT 1$$a secret$$, 1$1", "SELECT ??, ?$1")]
#[case::function_body(
    "CREATE FUNCTION f() AS $fn$ SELECT 'x'; $fn$ LANGUAGE sql",
    "CREATE FUNCTION f() AS ? LANGUAGE sql"
)]
#[case::booleans("WHERE a = TRUE AND b IS NOT false AND c IS NULL", "WHERE a = ? AND b IS NOT ? AND c IS NULL")]
#[case::placeholders("WHERE a = $1 AND b = $23 AND c = ?", "WHERE a = $1 AND b = $23 AND c = ?")]
#[case::quoted_names(r#"SELECT "User Name" FROM "public"."Users""#, r#"SELECT "User Name" FROM "public"."Users""#)]
#[case::quoted_unicode_name(r#"SELECT U&"d\0061t" FROM t"#, r#"SELECT U&"d\0061t" FROM t"#)]
#[case::casts("SELECT '2024-01-01'::date, x::int", "SELECT ?::date, x::int")]
#[case::typed_literal("WHERE t > INTERVAL '1 day'", "WHERE t > INTERVAL ?")]
#[case::white_space("  SELECT\n\t a ,\r\n b  FROM t ;  ", "SELECT a , b FROM t ;")]
#[case::line_comment("SELECT a -- 'secret'\nFROM t -- end", "SELECT a FROM t")]
#[case::line_comment_to_a_carriage_return("SELECT a -- b\r'c\nsecret'", "SELECT a ?")]
#[case::block_comment("SELECT/* 'a' /* nested */ still */a FROM t", "SELECT a FROM t")]
#[case::commenter("SELECT 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/", "SELECT ?")]
#[case::comment_without_end("SELECT a /* 'secret'", "SELECT a")]
#[case::string_without_end("WHERE name = 'secret", "WHERE name = ?")]
#[case::name_without_end("WHERE \"name = 'secret'", "WHERE ?")]
#[case::dollar_quote_without_end("SELECT $tag$ secret $other$", "SELECT ?")]
#[case::password("ALTER USER bob WITH PASSWORD 'secret'", "ALTER USER bob WITH PASSWORD ?")]
#[case::password_and_more(
    "ALTER USER bob PASSWORD 'secret' VALID UNTIL 'x'",
    "ALTER USER bob PASSWORD ? VALID UNTIL ?"
)]
#[case::password_in_no_quotes("ALTER USER bob WITH PASSWORD secret LOGIN", "ALTER USER bob WITH PASSWORD ? LOGIN")]
#[case::password_in_quotes_of_names(
    r#"create role bob password "secret"; SELECT password AS a FROM t"#,
    "create role bob password ?; SELECT password AS a FROM t"
)]
#[case::no_password("ALTER GROUP bob PASSWORD NULL", "ALTER GROUP bob PASSWORD NULL")]
#[case::column_named_password("ALTER TABLE t DROP password CASCADE", "ALTER TABLE t DROP password CASCADE")]
#[case::parameter("SET app.token = secret", "SET app.token = ?")]
#[case::parameter_in_quotes_of_names(r#"SET LOCAL "app".jwt TO "secret", on"#, r#"SET LOCAL "app".jwt TO ?, ?"#)]
#[case::parameter_by_default(
    "SET SESSION app.token TO DEFAULT; SELECT a",
    "SET SESSION app.token TO DEFAULT; SELECT a"
)]
#[case::parameter_of_a_role(
    "ALTER ROLE bob IN DATABASE d SET a.b TO secret",
    "ALTER ROLE bob IN DATABASE d SET a.b TO ?"
)]
#[case::parameter_of_a_system("ALTER SYSTEM SET a = secret", "ALTER SYSTEM SET a = ?")]
#[case::other_settings("SET SESSION AUTHORIZATION bob; SET ROLE to", "SET SESSION AUTHORIZATION bob; SET ROLE to")]
#[case::columns_are_set("UPDATE t SET a = b, c = d", "UPDATE t SET a = b, c = d")]
#[case::not_null(
    "ALTER TABLE t ALTER a SET NOT NULL, ALTER b SET DEFAULT c",
    "ALTER TABLE t ALTER a SET NOT NULL, ALTER b SET DEFAULT c"
)]
#[case::json_operators("WHERE a ? 'k' AND b ->> 'x' = 'y'", "WHERE a ? ? AND b ->> ? = ?")]
#[case::not_utf8_is_a_name("SELECT naïve FROM café", "SELECT naïve FROM café")]
fn no_literal_is_left(#[case] sql: &str, #[case] text: &str) {
    assert_eq!(&*postgres(sql).text, text);
}

#[rstest]
#[case::double_quotes_are_strings(r#"WHERE a = "it\"s" AND b = 'c'"#, "WHERE a = ? AND b = ?")]
#[case::backslash_escapes(r"WHERE a = 'it\'s' AND b = 1", "WHERE a = ? AND b = ?")]
#[case::backticks("SELECT `a b` FROM `t`.`u`", "SELECT `a b` FROM `t`.`u`")]
#[case::comment_through_a_carriage_return("SELECT 1 -- b\r'c\n, 'secret'", "SELECT ? , ?")]
#[case::hash_comment("SELECT 1 # 'secret'\nFROM t", "SELECT ? FROM t")]
#[case::dashes_without_space("SELECT 1--1", "SELECT ?--?")]
#[case::dashes_with_space("SELECT 1-- 1", "SELECT ?")]
#[case::comments_do_not_nest("SELECT /* /* */ a", "SELECT a")]
#[case::introducer("SELECT _utf8mb4'x', N'y', x'AF', 0xAF", "SELECT ?, ?, ?, ?")]
#[case::user("CREATE USER 'bob'@'%' IDENTIFIED BY 'secret'", "CREATE USER ?@? IDENTIFIED BY ?")]
fn mysql_has_its_own_quotes(#[case] sql: &str, #[case] text: &str) {
    assert_eq!(&*mysql(sql).text, text);
}

#[test]
fn backslashes_escape_where_strings_do_not_conform() {
    let sql = br"WHERE a = 'it\'s secret' AND b = 1";
    assert_eq!(&*normalize(sql, Extent::Whole, Dialect::PostgresEscaping).text, "WHERE a = ? AND b = ?");
}

/// A backslash escapes in one of two readings. Each text is what both have outside of literals.
#[rstest]
#[case::issue_7(r"select 'it\'s hunter2', 'x'", "select ?...")]
#[case::next_statement(r"SET a.b = off; select 'it\'s hunter2'", "SET a.b = ?; select ?...")]
#[case::end_of_a_path(r"SELECT a FROM t WHERE b = 'C:\' AND c = 'secret'", "SELECT a FROM t WHERE b = ?...")]
#[case::doubled_quote(r"SELECT 'a\'' , secret, '''", "SELECT ?...")]
#[case::doubled_backslash(r"SELECT 'a\\', b", "SELECT ?, b")]
#[case::three_backslashes(r"SELECT 'a\\\', secret, '", "SELECT ?...")]
#[case::other_escapes(r"SELECT 'a\nb\x', b", "SELECT ?, b")]
#[case::continued("SELECT 'a'\n'b\\', secret, '", "SELECT ?...")]
#[case::national(r"SELECT N'it\'s secret', n'x'", "SELECT ?...")]
#[case::bits(r"SELECT B'\', secret, X'', '", "SELECT ?...")]
#[case::unicode(r"SELECT U&'\', secret, '", "SELECT ?...")]
#[case::escape_clause(r"SELECT a LIKE 'c' ESCAPE '\' OR d = 'secret'", "SELECT a LIKE ? ESCAPE ?...")]
#[case::escape_string(r"SELECT E'it\'s', e'\\', b", "SELECT ?, ?, b")]
#[case::dollar_quotes(r"SELECT $$it\'s$$, $a$\'$a$, b", "SELECT ?, ?, b")]
#[case::string_in_dollar_quotes(r"SELECT $$ 'it\'s' $$, 'x', b", "SELECT ?, ?, b")]
#[case::dollar_quotes_in_a_string(r"SELECT 'a\' $$ ', secret, $$', b", "SELECT ?...")]
#[case::quoted_name(r#"SELECT "it\'s", 'x', b"#, r#"SELECT "it\'s", ?, b"#)]
#[case::comments("SELECT a /* it\\'s */, b -- it\\'s\n, 'x'", "SELECT a , b , ?")]
#[case::string_in_a_comment(r"SELECT 'a\' /* ', secret */", "SELECT ?...")]
#[case::no_backslash("SELECT 'it''s', a FROM t", "SELECT ?, a FROM t")]
#[case::backslash_at_the_end(r"SELECT 'a\", "SELECT ?")]
fn what_depends_on_an_unknown_setting_is_hidden(#[case] sql: &str, #[case] text: &str) {
    let normalized = normalize(sql.as_bytes(), Extent::Whole, Dialect::PostgresUnknown);
    assert_eq!(&*normalized.text, text);
    assert!(!normalized.summary.contains("secret"), "{}", normalized.summary);
}

#[rstest]
#[case::escaping(Dialect::PostgresEscaping)]
#[case::unknown(Dialect::PostgresUnknown)]
fn an_escape_that_the_server_rejects_hides_what_follows(#[case] dialect: Dialect) {
    for sql in [r"SELECT U&'it\'s secret'", r"SELECT B'\' secret'", r"SELECT x'\' secret'", r"SELECT b'\' secret'"] {
        assert_eq!(&*normalize(sql.as_bytes(), Extent::Whole, dialect).text, "SELECT ?...", "{sql}");
    }
}

#[rstest]
#[case::numbers("WHERE id IN (1, 2, 3)", "WHERE id IN (?)")]
#[case::tight("WHERE id IN(1,2,3)AND b", "WHERE id IN(?)AND b")]
#[case::signs("WHERE id in (1, -2, +3)", "WHERE id in (?)")]
#[case::placeholders("WHERE id IN ($1, $2, $3)", "WHERE id IN ($1)")]
#[case::nulls("WHERE id IN (1, NULL, 3)", "WHERE id IN (?)")]
#[case::casts("WHERE id IN ('a'::text, 'b'::text)", "WHERE id IN (?::text)")]
#[case::one("WHERE id IN (1)", "WHERE id IN (?)")]
#[case::tuples("WHERE (a, b) IN ((1, 2), (3, 4))", "WHERE (a, b) IN ((?, ?))")]
#[case::names_stay("WHERE 1 IN (a, b, b)", "WHERE ? IN (a, b, b)")]
#[case::queries_stay("WHERE a IN (SELECT 1, 1, 1)", "WHERE a IN (SELECT ?, ?, ?)")]
#[case::nested("WHERE a IN (SELECT b FROM t WHERE c IN (1, 2))", "WHERE a IN (SELECT b FROM t WHERE c IN (?))")]
#[case::rows("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "INSERT INTO t VALUES (?, ?)")]
#[case::rows_of_one("INSERT INTO t VALUES (1),(2)", "INSERT INTO t VALUES (?)")]
#[case::rows_of_placeholders("VALUES ($1, $2), ($3, $4) RETURNING id", "VALUES ($1, $2) RETURNING id")]
#[case::rows_with_functions("VALUES (1, now()), (2, now())", "VALUES (?, now())")]
#[case::rows_with_defaults("VALUES (1, DEFAULT), (2, 3)", "VALUES (?, DEFAULT)")]
#[case::rows_unlike("VALUES (1, now()), (2, a), (3, a)", "VALUES (?, now()), (?, a)")]
#[case::values_in_parentheses("SELECT * FROM (VALUES (1),(2)) AS v(a), u", "SELECT * FROM (VALUES (?)) AS v(a), u")]
#[case::after_rows(
    "VALUES (1), (2) ON CONFLICT (a) DO UPDATE SET b = 1, c = 1",
    "VALUES (?) ON CONFLICT (a) DO UPDATE SET b = ?, c = ?"
)]
#[case::functions_stay("SELECT f(1, 1), (1), (1)", "SELECT f(?, ?), (?), (?)")]
#[case::any_of_an_array("WHERE id = ANY(ARRAY[1,2,3]) AND a[1] = 2", "WHERE id = ANY(ARRAY[?]) AND a[?] = ?")]
#[case::arrays_of_any_length("WHERE id = ANY (ARRAY ['a', 'b']::text[])", "WHERE id = ANY (ARRAY [?]::text[])")]
#[case::array_of_placeholders("SELECT array[$1, $2], array[a, b]", "SELECT array[$1], array[a, b]")]
#[case::array_of_arrays("SELECT ARRAY[[1, 2], [3, 4]], 5", "SELECT ARRAY[[?, ?]], ?")]
#[case::array_of_a_query("SELECT ARRAY(SELECT 1, 1)", "SELECT ARRAY(SELECT ?, ?)")]
fn lists_are_folded(#[case] sql: &str, #[case] text: &str) {
    assert_eq!(&*postgres(sql).text, text);
}

/// The first five are the examples of OpenTelemetry's database conventions.
#[rstest]
#[case::select("SELECT *\nFROM   wuser_table\nWHERE  username = ?", "SELECT wuser_table", "wuser_table")]
#[case::insert_select(
    "INSERT INTO shipping_details\n (order_id,\n address)\nSELECT order_id,\n address\nFROM   orders\nWHERE  order_id = ?",
    "INSERT shipping_details SELECT orders",
    "shipping_details"
)]
#[case::list("SELECT * FROM songs, artists WHERE songs.artist_id = artists.id", "SELECT songs artists", "songs")]
#[case::anonymous_table(
    "SELECT order_date FROM (SELECT * FROM orders o JOIN customers c ON o.customer_id = c.customer_id)",
    "SELECT SELECT orders customers",
    "orders"
)]
#[case::quoted("SELECT * FROM \"song list\", artists", "SELECT \"song list\" artists", "\"song list\"")]
#[case::joins("SELECT a, b FROM t1 x LEFT JOIN t2 y ON f(x.a, y.b) = 1, t3 WHERE a IN (1)", "SELECT t1 t2 t3", "t1")]
#[case::join_in_parentheses("SELECT * FROM (a JOIN b ON a.x = b.x) JOIN c USING (x)", "SELECT a b c", "a")]
#[case::schema("SELECT * FROM app . \"Users\" u, db.s.t", "SELECT app.\"Users\" db.s.t", "app.\"Users\"")]
#[case::case_is_kept("select * from Users", "select Users", "Users")]
#[case::no_table("SELECT 1", "SELECT", "")]
#[case::subquery("SELECT * FROM t WHERE id IN (SELECT id FROM u) ORDER BY a, b", "SELECT t SELECT u", "t")]
#[case::scalar_subquery("SELECT (SELECT max(a) FROM u), b FROM t", "SELECT SELECT u t", "u")]
#[case::from_that_is_no_clause(
    "SELECT extract(year FROM d), trim(both 'x' from y), a IS DISTINCT FROM b, count(*) FROM t",
    "SELECT t",
    "t"
)]
#[case::distinct("SELECT DISTINCT * FROM t", "SELECT t", "t")]
#[case::functions_are_no_tables("SELECT * FROM generate_series(1, 2) g, t, LATERAL unnest(t.a) u", "SELECT t", "t")]
#[case::union("SELECT a FROM t UNION ALL SELECT b FROM u", "SELECT t SELECT u", "t")]
#[case::for_update("SELECT a FROM t FOR UPDATE OF t", "SELECT t", "t")]
#[case::insert(
    "INSERT INTO t (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = 2, c = 3 RETURNING a, b",
    "INSERT t",
    "t"
)]
#[case::update(
    "UPDATE ONLY t AS x SET a = 1, b = (SELECT c FROM u) FROM v, w WHERE x.a = v.a",
    "UPDATE t SELECT u v w",
    "t"
)]
#[case::delete("DELETE FROM t USING u, v WHERE t.a = u.a", "DELETE t u v", "t")]
#[case::merge(
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 1, c = 2 WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "MERGE t s",
    "t"
)]
#[case::with(
    "WITH x AS (SELECT * FROM t), y(a) AS MATERIALIZED (SELECT * FROM x) SELECT * FROM y, u",
    "SELECT t SELECT SELECT u",
    "t"
)]
#[case::with_recursive(
    "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT a + 1 FROM x) SELECT * FROM x",
    "SELECT SELECT SELECT",
    ""
)]
#[case::with_change(
    "WITH gone AS (DELETE FROM t RETURNING *) INSERT INTO log SELECT * FROM gone",
    "DELETE t INSERT log SELECT",
    "t"
)]
#[case::create_table("CREATE TABLE IF NOT EXISTS s.t (id int PRIMARY KEY, name text)", "CREATE TABLE s.t", "s.t")]
#[case::create_table_as("CREATE TEMP TABLE t AS SELECT * FROM u", "CREATE TABLE t SELECT u", "t")]
#[case::view_is_not_run("CREATE OR REPLACE TEMP VIEW v (a) AS SELECT * FROM t", "CREATE VIEW v", "v")]
#[case::view_with("CREATE VIEW v AS WITH x AS (SELECT * FROM t) SELECT * FROM x; SELECT 1", "CREATE VIEW v SELECT", "")]
#[case::materialized_view_is_run(
    "CREATE MATERIALIZED VIEW v AS SELECT * FROM t",
    "CREATE MATERIALIZED VIEW v SELECT t",
    "v"
)]
#[case::refresh("REFRESH MATERIALIZED VIEW CONCURRENTLY mv", "REFRESH MATERIALIZED VIEW mv", "mv")]
#[case::insert_with("INSERT INTO t (a) WITH x AS (SELECT * FROM u) SELECT * FROM x", "INSERT t SELECT u SELECT", "t")]
#[case::cursor_with("DECLARE c CURSOR FOR WITH x AS (SELECT * FROM t) SELECT * FROM x", "DECLARE SELECT t SELECT", "t")]
#[case::prepare_with("PREPARE p AS WITH x AS (SELECT * FROM t) SELECT * FROM x", "PREPARE SELECT t SELECT", "t")]
#[case::table_as_with(
    "CREATE TABLE c AS WITH x AS (SELECT * FROM t) SELECT * FROM x",
    "CREATE TABLE c SELECT t SELECT",
    "c"
)]
#[case::with_of_its_own_name("WITH t AS (SELECT * FROM t) SELECT * FROM t", "SELECT t SELECT", "t")]
#[case::with_in_a_subquery("SELECT * FROM (WITH x AS (SELECT 1) SELECT * FROM x) y, x", "SELECT SELECT SELECT x", "x")]
#[case::quoted_with("WITH \"x\" AS (SELECT 1) SELECT * FROM x", "SELECT SELECT", "")]
#[case::merge_within(
    "WITH f AS (MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE RETURNING a) SELECT * FROM f",
    "MERGE t s SELECT",
    "t"
)]
#[case::copy_delete("COPY (DELETE FROM t USING u WHERE a = 1 RETURNING a) TO STDOUT", "COPY DELETE t u", "t")]
#[case::named_as_keywords(
    "SELECT * FROM temp, rows r, set s JOIN if ON true JOIN exists e ON true, unlogged",
    "SELECT temp rows set if exists unlogged",
    "temp"
)]
#[case::table_named_temp("INSERT INTO temp SELECT * FROM temporary", "INSERT temp SELECT temporary", "temp")]
#[case::table_named_set("UPDATE set SET a = 1", "UPDATE set", "set")]
#[case::table_named_values("INSERT INTO values VALUES (1)", "INSERT values", "values")]
#[case::tables_named_if("DROP TABLE if, exists; DROP TABLE IF EXISTS t", "DROP TABLE if exists DROP TABLE t", "")]
#[case::table_named_exists("ALTER TABLE exists ADD COLUMN a int", "ALTER TABLE exists", "exists")]
#[case::select_into("SELECT a INTO TEMP t FROM u", "SELECT t u", "t")]
#[case::select_into_table("SELECT a INTO UNLOGGED TABLE t FROM u", "SELECT t u", "t")]
#[case::select_into_temp("SELECT a INTO temp FROM u", "SELECT temp u", "temp")]
#[case::rows_from("SELECT * FROM ROWS FROM (f(), g()) x, t", "SELECT t", "t")]
#[case::keyword_as_label("SELECT 1 AS from, a AS select, t.from, t.order FROM t", "SELECT t", "t")]
#[case::join_using("DELETE FROM t USING a JOIN b USING (id) WHERE t.x = a.x", "DELETE t a b", "t")]
#[case::table_statement("SELECT * FROM (TABLE t) x UNION TABLE u", "SELECT TABLE t TABLE u", "t")]
#[case::create_user("CREATE USER x WITH PASSWORD 'secret'", "CREATE USER x", "")]
#[case::create_role("CREATE ROLE x LOGIN IN ROLE y", "CREATE ROLE x", "")]
#[case::alter_user("ALTER USER x VALID UNTIL 'y'", "ALTER USER x", "")]
#[case::drop_users("DROP USER IF EXISTS x, \"Y\"", "DROP USER x \"Y\"", "")]
#[case::user_mapping("CREATE USER MAPPING IF NOT EXISTS FOR x SERVER y", "CREATE USER MAPPING", "")]
#[case::user_named_mapping("CREATE USER mapping", "CREATE USER mapping", "")]
#[case::create_rule(
    "CREATE RULE r AS ON UPDATE TO t DO INSTEAD (DELETE FROM u; SELECT * FROM v)",
    "CREATE RULE r t",
    ""
)]
#[case::create_trigger(
    "CREATE TRIGGER g BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE TRIGGER g t",
    ""
)]
#[case::create_event_trigger(
    "CREATE EVENT TRIGGER g ON ddl_command_start EXECUTE FUNCTION f()",
    "CREATE EVENT TRIGGER g",
    ""
)]
#[case::create_policy("CREATE POLICY p ON t USING (a IN (SELECT b FROM u))", "CREATE POLICY p t", "")]
#[case::create_unnamed_index("CREATE INDEX ON ONLY t (a)", "CREATE INDEX t", "")]
#[case::create_function(
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END FROM t; SELECT 2; END; SELECT 3",
    "CREATE FUNCTION f SELECT",
    ""
)]
#[case::text_search("CREATE TEXT SEARCH CONFIGURATION c (PARSER = p)", "CREATE TEXT SEARCH CONFIGURATION c", "")]
#[case::operator_class("CREATE OPERATOR CLASS o FOR TYPE t USING btree AS STORAGE u", "CREATE OPERATOR CLASS o", "")]
#[case::operator("CREATE OPERATOR === (LEFTARG = a, FUNCTION = f)", "CREATE OPERATOR", "")]
#[case::explain_create("EXPLAIN CREATE TABLE c AS SELECT * FROM t", "EXPLAIN CREATE TABLE c SELECT t", "c")]
#[case::create_index("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a, b)", "CREATE INDEX i t", "")]
#[case::drop("DROP TABLE IF EXISTS a, b CASCADE", "DROP TABLE a b", "a")]
#[case::alter("ALTER TABLE t ADD COLUMN a int DEFAULT 1", "ALTER TABLE t", "t")]
#[case::truncate("TRUNCATE TABLE a, b", "TRUNCATE a b", "a")]
#[case::copy_in("COPY t (a, b) FROM STDIN", "COPY t", "t")]
#[case::copy_out("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t", "t")]
#[case::call("CALL do_it(1, 'x')", "CALL do_it", "")]
#[case::explain("EXPLAIN (ANALYZE, BUFFERS) UPDATE t SET a = 1", "EXPLAIN UPDATE t", "t")]
#[case::explain_words("EXPLAIN ANALYZE VERBOSE SELECT * FROM t", "EXPLAIN SELECT t", "t")]
#[case::grant("GRANT SELECT, UPDATE ON t TO bob", "GRANT", "")]
#[case::begin("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN", "")]
#[case::start("START TRANSACTION READ ONLY", "START TRANSACTION", "")]
#[case::set("SET search_path TO 'app'", "SET", "")]
#[case::cursor("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE SELECT t", "t")]
#[case::several("BEGIN; UPDATE t SET a = 1; COMMIT", "BEGIN UPDATE t COMMIT", "")]
#[case::replace_is_a_function("SELECT (replace(a, 'x', 'y')) FROM t", "SELECT t", "t")]
#[case::empty("  ; ", "", "")]
fn the_summary_names_operations_and_targets(#[case] sql: &str, #[case] summary: &str, #[case] collection: &str) {
    let normalized = postgres(sql);
    assert_eq!((&*normalized.summary, &*normalized.collection), (summary, collection));
}

#[rstest]
#[case("SELECT 1", "SELECT")]
#[case("(SELECT 1) UNION (SELECT 2)", "SELECT")]
#[case("WITH x AS (SELECT 1) DELETE FROM t", "DELETE")]
#[case("create table t (a int)", "create table")]
#[case("DROP MATERIALIZED VIEW v", "DROP MATERIALIZED VIEW")]
#[case("INSERT INTO t SELECT 1", "INSERT")]
#[case("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)", "INSERT")]
#[case("BEGIN; SELECT 1", "")]
#[case("-- nothing", "")]
fn the_operation_is_the_outermost_one(#[case] sql: &str, #[case] operation: &str) {
    assert_eq!(postgres(sql).operation, operation);
}

#[rstest]
#[case::name("SELECT * FROM use", "SELECT * FROM ...", "SELECT")]
#[case::qualified_name("SELECT * FROM app.use", "SELECT * FROM app....", "SELECT")]
#[case::name_before("SELECT * FROM users u", "SELECT * FROM users ...", "SELECT users")]
#[case::string("SELECT * FROM t WHERE a = 'sec", "SELECT * FROM t WHERE a = ?...", "SELECT t")]
#[case::number("SELECT * FROM t WHERE a = 12", "SELECT * FROM t WHERE a = ?...", "SELECT t")]
#[case::prefix("SELECT * FROM t WHERE a = E", "SELECT * FROM t WHERE a = ...", "SELECT t")]
#[case::dollar_quote("SELECT * FROM t WHERE a = $ta", "SELECT * FROM t WHERE a = ?...", "SELECT t")]
#[case::comment("SELECT * FROM t /* sec", "SELECT * FROM t...", "SELECT t")]
#[case::verb("SEL", "...", "")]
#[case::list("SELECT * FROM t WHERE a IN (1, 2, 3", "SELECT * FROM t WHERE a IN (?, ?...", "SELECT t")]
fn an_incomplete_word_is_dropped(#[case] sql: &str, #[case] text: &str, #[case] summary: &str) {
    let normalized = normalize(sql.as_bytes(), Extent::Truncated, Dialect::Postgres);
    assert_eq!((&*normalized.text, &*normalized.summary), (text, summary));
}

#[test]
fn a_long_summary_ends_between_words() {
    let tables: Vec<_> = (0..100).map(|n| format!("table_{n}")).collect();
    let summary = postgres(&format!("SELECT * FROM {}", tables.join(", "))).summary;
    assert!(summary.len() <= MAX_SUMMARY, "{summary}");
    assert!(summary.starts_with("SELECT table_0 table_1 ") && summary.ends_with(" table_27"), "{summary}");
}

#[test]
fn a_long_list_has_the_text_of_a_short_one() {
    let ids: Vec<_> = (0..10_000).map(|id| id.to_string()).collect();
    assert_eq!(
        &*postgres(&format!("SELECT a FROM t WHERE id IN ({})", ids.join(", "))).text,
        "SELECT a FROM t WHERE id IN (?)"
    );
}

/// A secret in every kind of literal.
fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("'secret'".to_owned()),
        Just("'it''s secret'".to_owned()),
        Just("E'\\'secret'".to_owned()),
        Just("E'a'\n'\\' secret'".to_owned()),
        Just("'a' -- it's\n'secret'".to_owned()),
        Just("$$secret$$".to_owned()),
        Just("$a$secret' $$ $a$".to_owned()),
        Just("/* secret */".to_owned()),
        Just("-- secret\n".to_owned()),
        Just("X'5ec4e7'".to_owned()),
    ]
}

fn statement() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("SELECT"),
        Just("a"),
        Just("FROM"),
        Just("\"T\""),
        Just("("),
        Just(")"),
        Just(","),
        Just("IN"),
        Just("VALUES"),
        Just("WITH"),
        Just("AS"),
        Just(";"),
        Just("INSERT INTO"),
        Just("x.y"),
        Just("="),
        Just("UPDATE"),
        Just("$1"),
        Just(" "),
    ];
    prop::collection::vec(prop_oneof![literal(), word.prop_map(str::to_owned)], 0..40).prop_map(|words| words.join(" "))
}

/// What distinguishes the two readings of a backslash, and a word of its own after each piece.
fn ambiguous_statement() -> impl Strategy<Value = String> {
    let other = ["''", "\n", "E'", "N'", "U&'", "b'", "X'", "$$", "$a$", "\"", "--", "/*", "*/"];
    let piece = prop_oneof![
        3 => Just("'"),
        3 => Just("\\"),
        2 => Just("\\'"),
        1 => prop::sample::select(other.to_vec()),
        1 => prop::sample::select(vec![",", "(", ")", ";", "SELECT", "FROM", "INSERT INTO", "JOIN", "IN ("]),
    ];
    let word = |(place, (piece, tight)): (usize, &(&str, bool))| {
        if *tight { (*piece).to_owned() } else { format!("{piece} w{place}x ") }
    };
    prop::collection::vec((piece, any::<bool>()), 0..24)
        .prop_map(move |pieces| format!("SELECT {}", pieces.iter().enumerate().map(word).collect::<String>()))
}

/// The words of [`ambiguous_statement`] in a text.
fn words(text: &str) -> Vec<&str> {
    let is_word = |word: &&str| word.starts_with('w') && word.ends_with('x');
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(is_word).collect()
}

proptest! {
    #![proptest_config(chance::config(chance::regressions!("sql")))]

    /// A word that the text or the summary shows is in no literal of either reading.
    #[test]
    fn no_literal_of_either_reading_is_shown(sql in ambiguous_statement(), truncated: bool) {
        let extent = if truncated { Extent::Truncated } else { Extent::Whole };
        let [conforming, escaping, unknown] = [Dialect::Postgres, Dialect::PostgresEscaping, Dialect::PostgresUnknown]
            .map(|dialect| normalize(sql.as_bytes(), extent, dialect));
        for word in words(&unknown.text).into_iter().chain(words(&unknown.summary)) {
            for reading in [&conforming, &escaping] {
                prop_assert!(words(&reading.text).contains(&word), "{word} of {sql}: {unknown:?}, {reading:?}");
            }
        }
        if !sql.contains("\\'") {
            prop_assert_eq!(&unknown, &conforming);
        }
    }

    #[test]
    fn no_secret_is_left_at_any_cut(sql in statement(), cut in 0_usize..400) {
        let whole = postgres(&sql);
        prop_assert!(!format!("{whole:?}").contains("secret"), "{whole:?}");
        let cut = normalize(&sql.as_bytes()[..cut.min(sql.len())], Extent::Truncated, Dialect::Postgres);
        prop_assert!(!format!("{cut:?}").contains("sec"), "{cut:?}");
    }

    #[test]
    fn normalising_twice_changes_nothing(sql in statement()) {
        let once = postgres(&sql);
        let twice = postgres(&once.text);
        prop_assert_eq!(&once.text, &twice.text);
    }

    #[test]
    fn any_bytes_are_survived(sql in prop::collection::vec(any::<u8>(), 0..200), truncated: bool) {
        let extent = if truncated { Extent::Truncated } else { Extent::Whole };
        for dialect in [Dialect::Postgres, Dialect::PostgresEscaping, Dialect::PostgresUnknown, Dialect::MySql] {
            let normalized = normalize(&sql, extent, dialect);
            prop_assert!(normalized.summary.len() <= MAX_SUMMARY);
        }
    }
}
