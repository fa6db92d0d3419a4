//! Writes a statement without its literals and without repeated list elements.
//!
//! `IN (1, 2, 3)`, `ARRAY[1, 2, 3]` and `VALUES (1, 'a'), (2, 'b')` would yield a different text for every length of the list. So an element
//! is removed again if its shape equals that of the element before. A shape is the element's tokens, with all values
//! alike.

use std::sync::Arc;

use super::Extent;
use super::keyword::Keyword;
use super::lexer::{Kind, Token};

/// Stands for the missing end of a truncated statement.
pub(super) const CUT: &str = "...";
/// Bytes of the buffer that are kept for the next statement.
const MAX_IDLE_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Text<'w> {
    written: &'w mut String,
    /// Of parentheses and brackets.
    depth: u32,
    /// The list that the word before this token begins.
    announced: Option<Form>,
    list: Option<List>,
}

/// The lists whose repeated elements are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `IN (element, element)`
    Elements,
    /// `ARRAY[element, element]`
    Array,
    /// `VALUES (row), (row)`
    Rows,
}

#[derive(Debug)]
struct List {
    form: Form,
    /// Depth at which its elements are separated.
    depth: u32,
    /// Length of the text before the comma in front of this element.
    begin: usize,
    shape: Shape,
    before: Option<Shape>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    hash: u64,
    /// Whether it has any value. An element without values is no data, and is kept.
    values: bool,
}

/// Start and factor of the hash FNV-1a.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_FACTOR: u64 = 0x0100_0000_01b3;

impl<'w> Text<'w> {
    /// `written` is empty.
    pub(super) fn new(written: &'w mut String) -> Self {
        Self { written, depth: 0, announced: None, list: None }
    }

    pub(super) fn push(&mut self, token: Token<'_>) {
        let announced = self.announced.take();
        match token.kind {
            Kind::Word(Keyword::In) => self.announced = Some(Form::Elements),
            Kind::Word(Keyword::Array) => self.announced = Some(Form::Array),
            Kind::Word(Keyword::Values) => self.announced = Some(Form::Rows),
            // A query in place of a list. Its commas separate columns, not values.
            Kind::Word(Keyword::Select | Keyword::With) => self.list = None,
            Kind::Mark(b')' | b']') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let taken_back = self.list.is_some() && self.before_writing(token.kind);
        if token.spaced && !taken_back {
            self.space();
        }
        match token.kind {
            Kind::Literal => self.written.push('?'),
            _ => self.written.push_str(token.text),
        }
        if self.list.is_some() {
            self.after_writing(token);
        }
        if let Kind::Mark(mark @ (b'(' | b'[')) = token.kind {
            let begins = announced.filter(|form| (*form == Form::Array) == (mark == b'['));
            if let (Some(form), None) = (begins, &self.list) {
                let depth = if form == Form::Rows { self.depth } else { self.depth + 1 };
                self.list = Some(List { form, depth, begin: self.written.len(), shape: Shape::EMPTY, before: None });
            }
            self.depth += 1;
        }
    }

    /// Writes a blank, except at the beginning.
    pub(super) fn space(&mut self) {
        if !self.written.is_empty() {
            self.written.push(' ');
        }
    }

    /// Returns the text, with [`CUT`] at the end of a truncated statement.
    pub(super) fn finish(self, extent: Extent) -> Arc<str> {
        if extent == Extent::Truncated {
            self.written.push_str(CUT);
        }
        let text = Arc::from(self.written.as_str());
        self.written.clear();
        self.written.shrink_to(MAX_IDLE_BYTES);
        text
    }

    /// Ends the element, and perhaps the list, that `next` ends. Returns whether the element was removed.
    fn before_writing(&mut self, next: Kind) -> bool {
        let Some(list) = &mut self.list else { return false };
        let mut taken_back = false;
        match (list.form, next) {
            (Form::Elements | Form::Array, Kind::Mark(b',')) if self.depth == list.depth => {
                taken_back = self.end_element();
            }
            (Form::Elements | Form::Array, Kind::Mark(b')' | b']')) if self.depth < list.depth => {
                taken_back = self.end_element();
                self.list = None;
            }
            // Only commas are between rows.
            (Form::Rows, Kind::Mark(b',' | b'(')) => {}
            (Form::Rows, Kind::Mark(b')')) if self.depth < list.depth => self.list = None,
            (Form::Rows, next) if self.depth == list.depth && next != Kind::Mark(b')') => self.list = None,
            _ => {}
        }
        if let (Kind::Mark(b','), Some(list)) = (next, &mut self.list)
            && list.depth == self.depth
        {
            list.begin = self.written.len();
        }
        taken_back
    }

    /// Adds `token` to the shape of its element, or begins the next element. A row ends with its parenthesis.
    fn after_writing(&mut self, token: Token<'_>) {
        let Some(list) = &mut self.list else { return };
        let between = self.depth == list.depth;
        match (list.form, token.kind) {
            (Form::Elements | Form::Array, Kind::Mark(b',')) | (Form::Rows, Kind::Mark(b'(')) if between => {
                list.shape = Shape::EMPTY;
            }
            (Form::Rows, Kind::Mark(b')')) if between => {
                self.end_element();
            }
            _ => list.shape.add(token),
        }
    }

    /// Removes the element and the comma before it if it repeats the one before. Returns whether it did.
    fn end_element(&mut self) -> bool {
        let Some(list) = &mut self.list else { return false };
        let repeats = list.shape.values && list.before == Some(list.shape);
        if repeats {
            self.written.truncate(list.begin);
        }
        list.before = Some(list.shape);
        repeats
    }
}

impl Shape {
    const EMPTY: Self = Self { hash: HASH_START, values: false };

    fn add(&mut self, token: Token<'_>) {
        match token.kind {
            // The sign of a number is part of its value.
            Kind::Mark(b'-' | b'+') => {}
            Kind::Literal | Kind::Placeholder | Kind::Word(Keyword::Null | Keyword::Default) => self.add_value(),
            Kind::Word(_) | Kind::Quoted | Kind::Mark(_) => {
                for byte in token.text.bytes() {
                    self.mix(byte);
                }
                self.mix(b' ');
            }
        }
    }

    fn add_value(&mut self) {
        self.values = true;
        self.mix(b'?');
        self.mix(b' ');
    }

    fn mix(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(HASH_FACTOR);
    }
}
