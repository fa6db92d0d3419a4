//! A YAML document as a tree in which every node knows its line.
//!
//! Scalars keep the text as it was written. What it means is decided by [`Scalar`], after variables were substituted.
//!
//! The tree is bounded in depth and in size. Aliases are copies, and count each time.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::problem::Problem;

/// How deeply collections may be nested. The deepest key has nine levels.
const DEEPEST: usize = 32;
/// How many nodes a file may have, with those that aliases repeat.
const MOST_NODES: usize = 20_000;

/// A value and the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Scalar {
        text: String,
        /// It may be null, a number or true. A quoted one is always text.
        is_plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// What a scalar means by the core schema (YAML 1.2.2, 10.3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

impl Content {
    /// The meaning of a scalar. None for a collection.
    pub(super) fn scalar(&self) -> Option<Scalar<'_>> {
        match self {
            Self::Scalar { text, is_plain: true } => Some(Scalar::plain(text)),
            Self::Scalar { text, is_plain: false } => Some(Scalar::Text(text)),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// What it is, for an error.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Scalar { .. } => "a value",
            Self::List(_) => "a list",
            Self::Map(_) => "a map of keys",
        }
    }
}

impl<'a> Scalar<'a> {
    fn plain(text: &'a str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
            (Some(digits), _) => i64::from_str_radix(digits, 16),
            (None, Some(digits)) => i64::from_str_radix(digits, 8),
            (None, None) => text.parse(),
        };
        if let Ok(integer) = integer {
            return Self::Integer(integer);
        }
        // Rust also accepts words such as `inf`, which YAML writes as `.inf`.
        let has_only_digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
        match text.parse() {
            Ok(float) if has_only_digits => Self::Float(float),
            _ => Self::Text(text),
        }
    }
}

/// Reads the one document of a file.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let mut tree = Tree { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut document = None;
    loop {
        match tree.next()? {
            (Event::StreamEnd, line) => return document.ok_or_else(|| Problem::new(line, "the file is empty")),
            (Event::DocumentStart(_), line) if document.is_some() => {
                return Err(Problem::new(line, "a second document begins; a configuration is one document"));
            }
            (Event::DocumentStart(_), _) => {
                let (event, line) = tree.next()?;
                document = Some(tree.node(event, line, 0)?);
            }
            _ => {}
        }
    }
}

struct Tree<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Tree<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => Err(Problem::new(error.marker().line(), format!("this is not YAML: {}", error.info()))),
            None => Err(Problem::new(1, "the file is empty")),
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, Problem> {
        self.count(1, line)?;
        if depth > DEEPEST {
            return Err(Problem::new(line, format!("collections are nested more than {DEEPEST} deep")));
        }
        let (anchor, content) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| Problem::new(line, "an alias refers to the collection that it is in"))?;
                self.count(size(&node), line)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && !is_text(tag.as_deref(), line)?;
                (anchor, Content::Scalar { text: text.into_owned(), is_plain })
            }
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            other => return Err(Problem::new(line, format!("this is not YAML: unexpected {other:?}"))),
        };
        let node = Node { line, content };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Content::Map(entries)),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(Problem::new(line, "a key is not a single word")),
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                return Err(Problem::new(line, format!("the key {key:?} is already on line {}", first.line)));
            }
            let (event, value_line) = self.next()?;
            let mut value = self.node(event, value_line, depth + 1)?;
            // The parser places a missing value on the line after the key.
            if value.content.scalar() == Some(Scalar::Null) {
                value.line = line;
            }
            entries.push(Entry { key, line, value });
        }
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(Problem::new(line, format!("the file has more than {MOST_NODES} values")));
        }
        Ok(())
    }
}

/// Whether a tag makes a plain scalar text.
fn is_text(tag: Option<&Tag>, line: usize) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) => Err(Problem::new(line, format!("the tag {tag} is unknown"))),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Scalar { .. } => 0,
        Content::List(items) => items.iter().map(size).sum(),
        Content::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::null("~", Scalar::Null)]
    #[case::nothing("", Scalar::Null)]
    #[case::bool("True", Scalar::Bool(true))]
    #[case::no_bool("yes", Scalar::Text("yes"))]
    #[case::integer("-7", Scalar::Integer(-7))]
    #[case::hexadecimal("0xdeadbeef", Scalar::Integer(0xdead_beef))]
    #[case::octal("0o17", Scalar::Integer(15))]
    #[case::float("1.1", Scalar::Float(1.1))]
    #[case::exponent("1e3", Scalar::Float(1000.0))]
    #[case::word("inf", Scalar::Text("inf"))]
    #[case::version("1.2.3", Scalar::Text("1.2.3"))]
    #[case::quoted("'7'", Scalar::Text("7"))]
    #[case::tagged("!!str 7", Scalar::Text("7"))]
    fn a_scalar_is_resolved_by_the_core_schema(#[case] yaml: &str, #[case] scalar: Scalar<'_>) {
        let node = parse(&format!("key: {yaml}\n")).unwrap();
        let Content::Map(entries) = node.content else { panic!("{:?}", node.content) };
        assert_eq!(entries[0].value.content.scalar(), Some(scalar));
    }

    #[test]
    fn every_node_has_its_line() {
        let node = parse("# a comment\na:\n  - b: 1\n    c:\n  - d\ne: {f: 2}\n").unwrap();
        let Content::Map(entries) = &node.content else { panic!() };
        assert_eq!(entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [2, 6]);
        let Content::List(items) = &entries[0].value.content else { panic!() };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [3, 5]);
        let Content::Map(inner) = &items[0].content else { panic!() };
        assert_eq!((inner[1].line, inner[1].value.line), (4, 4));
    }

    #[rstest]
    #[case::empty("", 1, "the file is empty")]
    #[case::only_comments("# nothing\n", 2, "the file is empty")]
    #[case::twice("a: 1\nb: 2\na: 3\n", 3, "the key \"a\" is already on line 1")]
    #[case::documents("a: 1\n---\nb: 2\n", 2, "a second document begins")]
    #[case::tag("a: !vault 7\n", 1, "the tag !vault is unknown")]
    #[case::complex_key("? [a, b]\n: 1\n", 1, "a key is not a single word")]
    #[case::tab("a:\n\tb: 1\n", 2, "this is not YAML: ")]
    #[case::unclosed("a: [1, 2\nb: 3\n", 2, "this is not YAML: ")]
    fn what_is_no_configuration_is_one_problem(#[case] yaml: &str, #[case] line: usize, #[case] beginning: &str) {
        let problem = parse(yaml).unwrap_err();
        assert!(problem.sentence.starts_with(beginning), "{problem:?}");
        assert_eq!(problem.line, line, "{problem:?}");
    }

    #[test]
    fn aliases_cannot_exhaust_the_memory() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let previous = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", [previous.as_str(); 10].join(", "));
        }
        assert!(parse(&bomb).unwrap_err().sentence.contains("more than 20000 values"));
        assert!(parse("a: &a [*a]\n").is_err());
        let nested = "[".repeat(10_000);
        assert!(parse(&nested).is_err());
    }
}
