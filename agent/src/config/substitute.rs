//! Substitutes environment variables in scalars, as the OpenTelemetry specification says ("Environment variable
//! substitution" in its configuration data model).
//!
//! - `${NAME}` and `${env:NAME}` become the variable's value, or nothing if it is unset.
//! - `${NAME:-default}` becomes `default` if the variable is unset or empty.
//! - `$$` becomes `$`, and that `$` begins no reference.
//!
//! What was substituted is not looked at again. Any other `${...}` is an error.

use super::problem::Problem;
use super::yaml::{Content, Node};

/// Reads a variable. None if it is unset.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Substitutes in every scalar of the tree. Keys are left as they are.
pub(super) fn substitute(node: &mut Node, variable: Variable<'_>) -> Result<(), Problem> {
    match &mut node.content {
        Content::Scalar { text, .. } => {
            if text.contains('$') {
                *text = substituted(text, variable).map_err(|sentence| Problem::new(node.line, sentence))?;
            }
            Ok(())
        }
        Content::List(items) => items.iter_mut().try_for_each(|item| substitute(item, variable)),
        Content::Map(entries) => entries.iter_mut().try_for_each(|entry| substitute(&mut entry.value, variable)),
    }
}

fn substituted(text: &str, variable: Variable<'_>) -> Result<String, String> {
    // References are looked for between two escapes only.
    let parts: Result<Vec<_>, _> = text.split("$$").map(|part| resolved(part, variable)).collect();
    Ok(parts?.join("$"))
}

fn resolved(text: &str, variable: Variable<'_>) -> Result<String, String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        resolved.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = end_of_reference(inside) else {
            resolved.push_str("${");
            rest = inside;
            continue;
        };
        let (name, default) = reference(&inside[..end]).ok_or_else(|| {
            format!("${{{}}} is not a reference such as ${{NAME}} or ${{NAME:-default}}", &inside[..end])
        })?;
        let value = variable(name).filter(|value| !value.is_empty());
        resolved.push_str(value.as_deref().or(default).unwrap_or_default());
        rest = &inside[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// Where the reference that begins before `inside` ends. A default may itself contain a reference, which stays text.
fn end_of_reference(inside: &str) -> Option<usize> {
    let first = inside.find('}')?;
    let nested = inside[..first].matches("${").count();
    inside.match_indices('}').nth(nested).map(|(at, _)| at)
}

/// The name and the default in a reference. None if it is no valid one.
fn reference(inside: &str) -> Option<(&str, Option<&str>)> {
    let inside = inside.strip_prefix("env:").unwrap_or(inside);
    let end = inside.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    let begins = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let default = rest.strip_prefix(":-");
    (begins && (rest.is_empty() || default.is_some())).then_some((name, default))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config::yaml::{self, Scalar};

    fn variable(name: &str) -> Option<String> {
        let value = match name {
            "STRING_VALUE" => "value",
            "BOOL_VALUE" => "true",
            "INT_VALUE" => "1",
            "FLOAT_VALUE" => "1.1",
            "HEX_VALUE" => "0xdeadbeef",
            "INVALID_MAP_VALUE" => "value\nkey:value",
            "DO_NOT_REPLACE_ME" => "Never use this value",
            "REPLACE_ME" => "${DO_NOT_REPLACE_ME}",
            "VALUE_WITH_ESCAPE" => "value$$",
            "EMPTY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    /// The table of the specification.
    #[rstest]
    #[case("${STRING_VALUE}", Scalar::Text("value"))]
    #[case("${BOOL_VALUE}", Scalar::Bool(true))]
    #[case("${INT_VALUE}", Scalar::Integer(1))]
    #[case("${FLOAT_VALUE}", Scalar::Float(1.1))]
    #[case("${HEX_VALUE}", Scalar::Integer(0xdead_beef))]
    #[case("\"${BOOL_VALUE}\"", Scalar::Text("true"))]
    #[case("\"${INT_VALUE}\"", Scalar::Text("1"))]
    #[case("${env:STRING_VALUE}", Scalar::Text("value"))]
    #[case("${INVALID_MAP_VALUE}", Scalar::Text("value\nkey:value"))]
    #[case("foo ${STRING_VALUE} ${FLOAT_VALUE}", Scalar::Text("foo value 1.1"))]
    #[case("${UNDEFINED_KEY}", Scalar::Null)]
    #[case("${UNDEFINED_KEY:-fallback}", Scalar::Text("fallback"))]
    #[case("${EMPTY:-fallback}", Scalar::Text("fallback"))]
    #[case("${REPLACE_ME}", Scalar::Text("${DO_NOT_REPLACE_ME}"))]
    #[case("${UNDEFINED_KEY:-${STRING_VALUE}}", Scalar::Text("${STRING_VALUE}"))]
    #[case("$${STRING_VALUE}", Scalar::Text("${STRING_VALUE}"))]
    #[case("$$${STRING_VALUE}", Scalar::Text("$value"))]
    #[case("$$$${STRING_VALUE}", Scalar::Text("$${STRING_VALUE}"))]
    #[case("$${STRING_VALUE:-fallback}", Scalar::Text("${STRING_VALUE:-fallback}"))]
    #[case("$${STRING_VALUE:-${STRING_VALUE}}", Scalar::Text("${STRING_VALUE:-value}"))]
    #[case("${UNDEFINED_KEY:-$${UNDEFINED_KEY}}", Scalar::Text("${UNDEFINED_KEY:-${UNDEFINED_KEY}}"))]
    #[case("${VALUE_WITH_ESCAPE}", Scalar::Text("value$$"))]
    #[case("a $$ b", Scalar::Text("a $ b"))]
    #[case("a $ b", Scalar::Text("a $ b"))]
    fn references_are_replaced_as_the_specification_shows(#[case] yaml: &str, #[case] expected: Scalar<'_>) {
        let mut node = yaml::parse(&format!("key: {yaml}\n")).unwrap();
        substitute(&mut node, &variable).unwrap();
        let Content::Map(entries) = node.content else { panic!() };
        assert_eq!(entries[0].value.content.scalar(), Some(expected));
    }

    #[rstest]
    #[case::error_syntax("${STRING_VALUE:?error}")]
    #[case::begins_with_a_digit("${1API_KEY}")]
    #[case::dollar("${API_$KEY}")]
    #[case::nothing("${}")]
    #[case::other_source("${file:/etc/passwd}")]
    fn an_invalid_reference_is_an_error(#[case] reference: &str) {
        let mut node = yaml::parse(&format!("a: 1\nkey: {reference}\n")).unwrap();
        let problem = substitute(&mut node, &variable).unwrap_err();
        assert_eq!(problem.line, 2);
        assert!(problem.sentence.starts_with(&format!("{reference} is not a reference")), "{problem:?}");
    }

    #[test]
    fn keys_are_not_substituted() {
        let mut node = yaml::parse("${STRING_VALUE}: value\n").unwrap();
        substitute(&mut node, &variable).unwrap();
        let Content::Map(entries) = node.content else { panic!() };
        assert_eq!(entries[0].key, "${STRING_VALUE}");
    }
}
