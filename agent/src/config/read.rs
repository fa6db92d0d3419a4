//! Reads the tree of a file by the table of keys.
//!
//! Reading goes on after a problem, so that one look shows them all.

use opentelemetry::{Array, KeyValue, Value};

use super::keys::KEYS;
use super::problem::{Problem, nearest};
use super::row::{Given, Key, Kind, one_of};
use super::schema::{CONDITIONS, EXTENSIONS, NOT_IMPLEMENTED, ONE_KEY, OURS, POD_CONDITIONS, RULE, SIMPLE, TOGETHER};
use super::settings::Settings;
use super::yaml::{Content, Entry, Node, Scalar};

/// A value of the file.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) key: &'static Key,
    /// The path with the numbers of list items.
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) given: Given,
}

/// Reads files into settings.
pub(super) struct Reader<'a> {
    settings: &'a mut Settings,
    /// Whether the command line has an option, which takes precedence.
    is_flag_given: &'a dyn Fn(&str) -> bool,
    pub(super) found: Vec<Found>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// A place in the file.
#[derive(Debug, Clone, Default)]
struct Place {
    /// As rows have it: `a[].b`.
    row: String,
    /// As the file has it: `a[2].b`.
    shown: String,
}

impl Place {
    fn key(&self, key: &str) -> Self {
        let join = |path: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let (row, shown) = (join(&self.row), join(&self.shown));
        Self { row: if row == SIMPLE.path { SIMPLE.of.to_owned() } else { row }, shown }
    }

    fn item(&self, index: usize) -> Self {
        Self { row: format!("{}[]", self.row), shown: format!("{}[{index}]", self.shown) }
    }

    fn is_simple(&self) -> bool {
        self.row == SIMPLE.of && self.shown.ends_with(".simple")
    }

    /// For sentences about its keys: ` in a[2].b`.
    fn within(&self) -> String {
        if self.shown.is_empty() { String::new() } else { format!(" in {}", self.shown) }
    }

    /// The names of the keys that may be here.
    fn names(&self) -> Vec<&'static str> {
        let begins = if self.row.is_empty() { String::new() } else { format!("{}.", self.row) };
        let paths = KEYS.iter().map(|key| key.path).chain(NOT_IMPLEMENTED.iter().copied());
        let names = paths
            .filter_map(|path| path.strip_prefix(&begins))
            .map(|rest| rest.split_once(['.', '[']).map_or(rest, |(name, _)| name));
        let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        if self.row == "tracer_provider.processors[]" {
            names.push("simple");
        }
        if self.is_simple() {
            names.retain(|name| *name == SIMPLE.only);
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn find(&self) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.path == self.row)
    }

    /// What the table has below: keys, or items of a list.
    fn has_below(&self, mark: char) -> bool {
        KEYS.iter().any(|key| key.path.strip_prefix(&self.row).is_some_and(|rest| rest.starts_with(mark)))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a mut Settings, is_flag_given: &'a dyn Fn(&str) -> bool) -> Self {
        Self { settings, is_flag_given, found: Vec::new(), problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn document(&mut self, node: &Node) {
        match &node.content {
            Content::Map(entries) => self.map(&Place::default(), entries, node.line),
            other => self.problem(node.line, format!("the file must be a map of keys, not {}", other.name())),
        }
    }

    fn problem(&mut self, line: usize, sentence: impl Into<String>) {
        self.problems.push(Problem::new(line, sentence));
    }

    fn map(&mut self, place: &Place, entries: &[Entry], line: usize) {
        for entry in entries {
            self.entry(place, entry);
        }
        let has = |name: &str| entries.iter().any(|entry| entry.key == name);
        let below = |key: &&Key| key.path == place.key(key.name()).row;
        for key in KEYS.iter().filter(|key| key.is_required).filter(below).filter(|key| !has(key.name())) {
            self.problem(line, format!("the key {:?} is missing{}", key.name(), place.within()));
        }
        if ONE_KEY.contains(&&*place.row) && entries.len() != 1 {
            let names = place.names();
            self.problem(line, format!("{} must have one key: {}", place.shown, one_of(&names)));
        }
        if place.row == RULE && !CONDITIONS.iter().any(|name| has(name)) {
            self.problem(line, format!("{} needs a condition: {}", place.shown, one_of(CONDITIONS)));
        }
        if place.row == POD_CONDITIONS && entries.is_empty() {
            let names = place.names();
            self.problem(line, format!("{} needs a condition: {}", place.shown, one_of(&names)));
        }
        let [first, second] = TOGETHER;
        if has(first) != has(second) && place.key(first).find().is_some() {
            let (present, missing) = if has(first) { (first, second) } else { (second, first) };
            self.problem(line, format!("{} needs {missing:?} too", place.key(present).shown));
        }
    }

    fn entry(&mut self, place: &Place, entry: &Entry) {
        let Entry { key, line, value } = entry;
        let below = place.key(key);
        let names = place.names();
        if !names.contains(&key.as_str()) {
            let is_another_vendors = place.shown == EXTENSIONS && strsim::jaro_winkler(key, OURS) < 0.8;
            if !is_another_vendors {
                let nearest = nearest(key, names);
                self.problem(*line, format!("unknown key {key:?}{}{nearest}", place.within()));
            }
        } else if NOT_IMPLEMENTED.contains(&&*below.row) {
            let sentence = format!("Onlooker does not implement {}, so it has no effect", below.shown);
            self.warnings.push(Problem::new(*line, sentence));
        } else {
            self.node(&below, value, *line);
        }
    }

    fn node(&mut self, place: &Place, node: &Node, line: usize) {
        let key = place.find();
        if let Some(key) = key.filter(|key| !matches!(key.kind, Kind::Section)) {
            return self.value(key, place, node);
        }
        if let Some(key) = key {
            self.take(key, place, line, Given::Present);
        }
        match &node.content {
            Content::Map(entries) if place.has_below('.') => self.map(place, entries, line),
            // The schema allows sections without keys.
            Content::Map(entries) if entries.is_empty() => {}
            content if content.scalar() == Some(Scalar::Null) && key.is_some() && !place.has_below('[') => {
                self.map(place, &[], line);
            }
            Content::List(items) if place.has_below('[') && !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    self.node(&place.item(index), item, item.line);
                }
            }
            other => {
                let expected = match (place.has_below('['), key) {
                    (true, _) => "a list with at least one item",
                    (false, Some(_)) if !place.has_below('.') => "empty",
                    (false, _) => "a map of keys",
                };
                self.problem(line, format!("{} must be {expected}, not {}", place.shown, describe(other, false)));
            }
        }
    }

    fn value(&mut self, key: &'static Key, place: &Place, node: &Node) {
        // The schema lets null stand for the default.
        if node.content.scalar() == Some(Scalar::Null) && !key.is_required {
            return;
        }
        match given(key, &node.content) {
            Ok(given) => self.take(key, place, node.line, given),
            Err(sentence) => self.problem(node.line, format!("{} {sentence}", place.shown)),
        }
    }

    fn take(&mut self, key: &'static Key, place: &Place, line: usize, given: Given) {
        let is_of_rule = key.path.starts_with(RULE);
        let is_repeated = is_of_rule || matches!(key.kind, Kind::Section | Kind::Pair | Kind::Attribute);
        let before = self.found.iter().find(|found| found.key.path == key.path && !is_repeated);
        if let Some(before) = before
            && before.given != given
        {
            let sentence =
                format!("{} is the same for all exporters, and line {} has another value", place.shown, before.line);
            return self.problem(line, sentence);
        }
        self.found.push(Found { key, path: place.shown.clone(), line, given: given.clone() });
        // Options that select are rules of their own, beside those of the file.
        if !is_of_rule && key.flag.is_some_and(|flag| (self.is_flag_given)(flag)) {
            return;
        }
        if let Err(sentence) = (key.set)(self.settings, given) {
            self.problem(line, format!("{} {sentence}", place.shown));
        }
    }
}

/// The value of a key, if it is of the key's kind. The error completes `PATH ...`.
pub(super) fn given(key: &Key, content: &Content) -> Result<Given, String> {
    let mismatch = || format!("must be {}, not {}", key.kind.describe(), describe(content, key.is_secret));
    match (key.kind, content.scalar()) {
        (Kind::Bool, Some(Scalar::Bool(value))) => Ok(Given::Bool(value)),
        (Kind::Number { least, most }, Some(Scalar::Integer(number))) => match u64::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(Given::Number(number)),
            _ => Err(mismatch()),
        },
        (Kind::Text(check), Some(Scalar::Text(text))) => check(text).map(|()| Given::Text(text.to_owned())),
        (Kind::Text(_), Some(Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_))) => {
            Err(format!("{}; put it in quotes", mismatch()))
        }
        // A version looks like a number, and a level like nothing else.
        (Kind::Choice(names), Some(_)) => {
            let text = written(content);
            match names().contains(&text) {
                true => Ok(Given::Text(text.to_owned())),
                false => Err(format!("{}{}", mismatch(), suggestion(text, &names()))),
            }
        }
        (Kind::Texts(check), _) => {
            let texts = texts(content).ok_or_else(mismatch)?;
            texts.iter().try_for_each(|text| check(text))?;
            Ok(Given::Texts(texts))
        }
        (Kind::Choices(names), _) => {
            let texts = texts(content).ok_or_else(mismatch)?;
            match texts.iter().find(|text| !names().contains(&text.as_str())) {
                None => Ok(Given::Texts(texts)),
                Some(unknown) => Err(format!("has the unknown name {unknown:?}{}", nearest(unknown, names()))),
            }
        }
        (Kind::Pair, _) => pair(content).ok_or_else(mismatch),
        (Kind::Attribute, _) => attribute(content),
        _ => Err(mismatch()),
    }
}

/// `; did you mean "gzip"?`, if a name is like the text. Numbers are not alike.
fn suggestion(text: &str, names: &[&str]) -> String {
    if !text.contains(char::is_alphabetic) {
        return String::new();
    }
    Some(nearest(text, names.iter().copied())).filter(|nearest| nearest.contains('?')).unwrap_or_default()
}

/// What a wrong value is, for a sentence.
fn describe(content: &Content, is_secret: bool) -> String {
    match content.scalar() {
        None => content.name().to_owned(),
        Some(Scalar::Null) => "nothing".to_owned(),
        Some(_) if is_secret => "this value".to_owned(),
        Some(Scalar::Text(text)) => format!("{text:?}"),
        Some(_) => written(content).to_owned(),
    }
}

/// The text of a scalar. Empty for a collection.
fn written(content: &Content) -> &str {
    match content {
        Content::Scalar { text, .. } => text,
        Content::List(_) | Content::Map(_) => "",
    }
}

/// One scalar, or a list of them that is not empty.
fn texts(content: &Content) -> Option<Vec<String>> {
    let one = |content: &Content| {
        let is_text = !matches!(content.scalar(), None | Some(Scalar::Null));
        is_text.then(|| written(content).to_owned())
    };
    match content {
        Content::List(items) if !items.is_empty() => items.iter().map(|item| one(&item.content)).collect(),
        other => Some(vec![one(other)?]),
    }
}

fn member<'a>(entries: &'a [Entry], name: &str) -> Option<&'a Content> {
    entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value.content)
}

/// `{name: a, value: b}`. With a value of null, the pair is left out, as the schema says.
fn pair(content: &Content) -> Option<Given> {
    let Content::Map(entries) = content else { return None };
    let Some(Scalar::Text(name)) = member(entries, "name")?.scalar() else { return None };
    let value = member(entries, "value")?;
    let scalar = value.scalar().filter(|_| entries.len() == 2)?;
    Some(if scalar == Scalar::Null { Given::Present } else { Given::Pair(name.to_owned(), written(value).to_owned()) })
}

/// An attribute whose value is of its type. Without a value it is left out. The error completes `PATH ...`.
fn attribute(content: &Content) -> Result<Given, String> {
    const MEMBERS: [&str; 3] = ["name", "value", "type"];
    const TYPES: [&str; 8] =
        ["string", "bool", "int", "double", "string_array", "bool_array", "int_array", "double_array"];
    let Content::Map(entries) = content else {
        return Err(format!("must be {}, not {}", Kind::Attribute.describe(), describe(content, false)));
    };
    if let Some(entry) = entries.iter().find(|entry| !MEMBERS.contains(&entry.key.as_str())) {
        return Err(format!("has the unknown key {:?}{}", entry.key, nearest(&entry.key, MEMBERS)));
    }
    let Some(Some(Scalar::Text(name))) = member(entries, "name").map(Content::scalar) else {
        return Err("must have a name, which is text".to_owned());
    };
    let value = member(entries, "value").ok_or("must have a value")?;
    let kind = member(entries, "type").filter(|kind| kind.scalar() != Some(Scalar::Null)).map_or("string", written);
    if !TYPES.contains(&kind) {
        return Err(format!("has the unknown type {kind:?}{}", nearest(kind, TYPES)));
    }
    if value.scalar() == Some(Scalar::Null) {
        return Ok(Given::Present);
    }
    let typed =
        typed(kind, value).ok_or_else(|| format!("must have a {kind} as value, not {}", describe(value, false)))?;
    Ok(Given::Attribute(KeyValue::new(name.to_owned(), typed)))
}

fn typed(kind: &str, content: &Content) -> Option<Value> {
    Some(match (kind, content.scalar()) {
        ("string", Some(Scalar::Text(text))) => text.to_owned().into(),
        ("bool", Some(Scalar::Bool(value))) => value.into(),
        ("int", Some(Scalar::Integer(number))) => number.into(),
        ("double", Some(scalar)) => float(scalar)?.into(),
        ("string_array", None) => Value::Array(Array::String(each(content, |scalar| match scalar {
            Scalar::Text(text) => Some(text.to_owned().into()),
            _ => None,
        })?)),
        ("bool_array", None) => Value::Array(Array::Bool(each(content, |scalar| match scalar {
            Scalar::Bool(value) => Some(value),
            _ => None,
        })?)),
        ("int_array", None) => Value::Array(Array::I64(each(content, |scalar| match scalar {
            Scalar::Integer(number) => Some(number),
            _ => None,
        })?)),
        ("double_array", None) => Value::Array(Array::F64(each(content, float)?)),
        _ => return None,
    })
}

fn float(scalar: Scalar<'_>) -> Option<f64> {
    match scalar {
        Scalar::Float(number) => Some(number),
        Scalar::Integer(number) => Some(number as f64),
        _ => None,
    }
}

/// The items of a list that is not empty.
fn each<T>(content: &Content, one: impl Fn(Scalar<'_>) -> Option<T>) -> Option<Vec<T>> {
    let Content::List(items) = content else { return None };
    let items = items.iter().map(|item| one(item.content.scalar()?)).collect::<Option<Vec<_>>>();
    items.filter(|items| !items.is_empty())
}
