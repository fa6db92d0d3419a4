//! The attributes of a span, in encoded form.
//!
//! Each is encoded once, as another element of the field `attributes` of OTLP's `Span`. Exporters copy the bytes. There is no
//! value in between and no allocation per attribute. Keys are constants and setters are inlined, so that everything around a
//! value except its length is known at compile time. That saves 40 % of the cost of describing. The console and tests decode
//! the attributes.
//!
//! ```
//! use onlooker_engine::model::attributes::Attributes;
//!
//! let mut attributes = Attributes::default();
//! attributes.set("url.path", "/cart");
//! attributes.set_count("http.response.status_code", 200);
//! assert_eq!(attributes.text("url.path").as_deref(), Some("/cart"));
//! assert_eq!(attributes.said(), ["url.path=/cart", "http.response.status_code=200"]);
//! ```
//!
//! Field numbers are those of `opentelemetry/proto/{trace,common}/v1`.

use std::fmt;

use opentelemetry::{Array, KeyValue, Value};
use opentelemetry_proto::tonic::common::v1::{self as common, any_value};
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message;

use crate::protobuf::{begin, delimited_length, fixed64, integer, message, string, varint_length};

/// `Span.attributes`.
const ATTRIBUTES: u32 = 9;

/// The tags of the fields that are written here: of `Span`, `KeyValue` and `AnyValue`.
const ATTRIBUTE: u8 = (ATTRIBUTES << 3 | 2) as u8;
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;
const TEXT: u8 = 1 << 3 | 2;
const INTEGER: u8 = 3 << 3;

/// A length below this is encoded as one byte.
const SHORT: usize = 0x80;

/// Attributes in the order in which they were set. No key may be set twice.
#[derive(Default, Clone)]
pub struct Attributes {
    /// The encoded attributes, then room for more. An attribute is written into a slice of its size, so that its place is
    /// found once and not for each of its parts.
    buffer: Vec<u8>,
    length: usize,
}

impl Attributes {
    /// Sets a text.
    #[inline(always)]
    pub fn set(&mut self, key: &'static str, text: &str) {
        let value = 2 + text.len();
        let attribute = delimited_length(key.len()) + 2 + value;
        if attribute >= SHORT {
            return self.set_joined(key, &[text]);
        }
        let out = put(self.room(2 + attribute), &[ATTRIBUTE, attribute as u8, KEY, key.len() as u8]);
        let out = put(put(out, key.as_bytes()), &[VALUE, value as u8, TEXT, text.len() as u8]);
        out.copy_from_slice(text.as_bytes());
    }

    /// Sets a text unless it is empty. Empty means unknown.
    #[inline(always)]
    pub fn set_known(&mut self, key: &'static str, text: &str) {
        if !text.is_empty() {
            self.set(key, text);
        }
    }

    /// Sets the concatenation of `parts`.
    pub fn set_joined(&mut self, key: &'static str, parts: &[&str]) {
        let text = parts.iter().map(|part| part.len()).sum();
        let value = delimited_length(text);
        let attribute = delimited_length(key.len()) + delimited_length(value);
        let out = put_begin(self.room(delimited_length(attribute)), ATTRIBUTE, attribute);
        let out = put(put_begin(out, KEY, key.len()), key.as_bytes());
        let mut out = put_begin(put_begin(out, VALUE, value), TEXT, text);
        for part in parts {
            out = put(out, part.as_bytes());
        }
    }

    /// Sets a number. OTLP's largest number stands for larger ones.
    #[inline(always)]
    pub fn set_count(&mut self, key: &'static str, count: u64) {
        let count = count.min(i64::MAX.cast_unsigned());
        let value = 1 + varint_length(count);
        let attribute = delimited_length(key.len()) + 2 + value;
        let out = put_begin(self.room(delimited_length(attribute)), ATTRIBUTE, attribute);
        let out = put(put_begin(out, KEY, key.len()), key.as_bytes());
        put_varint(put(out, &[VALUE, value as u8, INTEGER]), count);
    }

    /// Sets a truth value.
    pub fn set_flag(&mut self, key: &'static str, flag: bool) {
        self.append(|out| any(out, ATTRIBUTES, key, &Value::Bool(flag)));
    }

    /// Sets a list of texts.
    pub fn set_texts<T: AsRef<str>>(&mut self, key: &'static str, texts: &[T]) {
        let texts = texts.iter().map(|text| text.as_ref().to_owned().into()).collect();
        self.append(|out| any(out, ATTRIBUTES, key, &Value::Array(Array::String(texts))));
    }

    /// Appends `others`.
    pub fn extend(&mut self, others: &Self) {
        self.room(others.length).copy_from_slice(others.encoded());
    }

    /// Frees unused memory. For attributes that are kept.
    pub fn shrink(&mut self) {
        self.buffer.truncate(self.length);
        self.buffer.shrink_to_fit();
    }

    /// Removes all, and keeps the memory.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// The encoded fields `Span.attributes`.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// Makes the next `size` bytes a part of the attributes.
    #[inline(always)]
    fn room(&mut self, size: usize) -> &mut [u8] {
        let begin = self.length;
        self.length += size;
        if self.buffer.len() < self.length {
            self.grow();
        }
        &mut self.buffer[begin..self.length]
    }

    #[cold]
    fn grow(&mut self) {
        self.buffer.resize(self.length.next_power_of_two(), 0);
    }

    /// Appends what `write` appends.
    #[inline(never)]
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.truncate(self.length);
        write(&mut self.buffer);
        self.length = self.buffer.len();
    }

    /// The text of `key`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        let attribute = self.decode().into_iter().find(|attribute| attribute.key == key)?;
        match attribute.value?.value? {
            any_value::Value::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// Each as `key=value`.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.decode().iter().map(|attribute| format!("{}={}", attribute.key, shown(attribute.value.as_ref()))).collect()
    }

    fn decode(&self) -> Vec<common::KeyValue> {
        // The bytes are those of a span that has nothing else.
        trace::Span::decode(self.encoded()).expect("we encoded it").attributes
    }
}

impl FromIterator<KeyValue> for Attributes {
    fn from_iter<I: IntoIterator<Item = KeyValue>>(attributes: I) -> Self {
        let mut buffer = Vec::new();
        for attribute in attributes {
            any(&mut buffer, ATTRIBUTES, attribute.key.as_str(), &attribute.value);
        }
        let length = buffer.len();
        Self { buffer, length }
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.encoded() == other.encoded()
    }
}

impl Eq for Attributes {}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.said()).finish()
    }
}

fn shown(value: Option<&common::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        Some(any_value::Value::ArrayValue(array)) => {
            let elements: Vec<_> = array.values.iter().map(|value| shown(Some(value))).collect();
            format!("[{}]", elements.join(","))
        }
        other => format!("{other:?}"),
    }
}

/// Writes `bytes` at the beginning of `out`. Returns what is behind them.
#[inline(always)]
fn put<'out>(out: &'out mut [u8], bytes: &[u8]) -> &'out mut [u8] {
    let (begin, rest) = out.split_at_mut(bytes.len());
    begin.copy_from_slice(bytes);
    rest
}

/// Writes a tag and a length at the beginning of `out`. Returns what is behind them.
#[inline(always)]
fn put_begin(out: &mut [u8], tag: u8, length: usize) -> &mut [u8] {
    let (begin, rest) = out.split_at_mut(1 + varint_length(length as u64));
    begin[0] = tag;
    put_varint(&mut begin[1..], length as u64);
    rest
}

/// Writes a number that has exactly the length of `out`.
#[inline(always)]
fn put_varint(out: &mut [u8], mut number: u64) {
    for byte in &mut *out {
        *byte = number as u8 | 0x80;
        number >>= 7;
    }
    if let Some(last) = out.last_mut() {
        *last &= 0x7f;
    }
}

/// Writes an attribute as `field`, except its value, a text of `length` bytes.
#[inline]
pub fn begin_text(out: &mut Vec<u8>, field: u32, key: &'static str, length: usize) {
    let text = delimited_length(length);
    begin(out, field, delimited_length(key.len()) + delimited_length(text));
    string(out, 1, key);
    begin(out, 2, text);
    begin(out, 1, length);
}

/// Writes an attribute of any type as `field`.
pub fn any(out: &mut Vec<u8>, field: u32, key: &str, value: &Value) {
    /// A guess: most attributes are a word or two.
    const LENGTH: usize = 64;
    message(out, field, LENGTH, |out| {
        string(out, 1, key);
        message(out, 2, LENGTH, |out| any_value(out, value));
    });
}

/// Writes the content of an `AnyValue`.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => string(out, 1, text.as_str()),
        Value::Bool(truth) => integer(out, 2, u64::from(*truth)),
        Value::I64(number) => integer(out, 3, number.cast_unsigned()),
        Value::F64(number) => fixed64(out, 4, number.to_bits()),
        Value::Array(array) => message(out, 5, 0, |out| match array {
            Array::Bool(all) => all.iter().for_each(|v| message(out, 1, 0, |out| integer(out, 2, u64::from(*v)))),
            Array::I64(all) => all.iter().for_each(|v| message(out, 1, 0, |out| integer(out, 3, v.cast_unsigned()))),
            Array::F64(all) => all.iter().for_each(|v| message(out, 1, 0, |out| fixed64(out, 4, v.to_bits()))),
            Array::String(all) => all.iter().for_each(|v| message(out, 1, 0, |out| string(out, 1, v.as_str()))),
            // The enum is non-exhaustive. An unknown variant becomes an empty value.
            _ => {}
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Lengths around the limits of one, two and three bytes, for the text and for the messages around it.
    #[rstest]
    fn a_text_is_written_as_the_generated_types_do(
        #[values(0, 1, 100, 110, 126, 127, 128, 129, 16_383, 16_384, 16_390, 2_097_151, 2_097_152)] length: usize,
        #[values("k", "network.peer.address")] key: &'static str,
    ) {
        let text = "x".repeat(length);
        let mut attributes = Attributes::default();
        attributes.set(key, &text);
        let theirs = trace::Span {
            attributes: vec![common::KeyValue {
                key: key.to_owned(),
                value: Some(common::AnyValue { value: Some(any_value::Value::StringValue(text.clone())) }),
                ..common::KeyValue::default()
            }],
            ..trace::Span::default()
        };
        assert!(attributes.encoded() == theirs.encode_to_vec());
        assert!(attributes == Attributes::from_iter([KeyValue::new(key, text.clone())]));
        let (left, right) = text.split_at(length / 3);
        let mut joined = Attributes::default();
        joined.set_joined(key, &[left, "", right]);
        assert!(joined == attributes);
        assert!(attributes.text(key) == Some(text));
    }

    #[rstest]
    #[case(0, 0)]
    #[case(127, 127)]
    #[case(128, 128)]
    #[case(i64::MAX.cast_unsigned(), i64::MAX)]
    #[case(u64::MAX, i64::MAX)]
    fn a_count_is_written_as_the_generated_types_do(#[case] count: u64, #[case] number: i64) {
        let mut attributes = Attributes::default();
        attributes.set_count("count", count);
        assert_eq!(attributes, Attributes::from_iter([KeyValue::new("count", number)]));
        assert_eq!(attributes.said(), [format!("count={number}")]);
        assert_eq!(attributes.text("count"), None);
    }

    #[test]
    fn attributes_keep_their_order() {
        let mut others = Attributes::default();
        others.set("b", "2");
        let mut attributes = Attributes::default();
        attributes.set("a", "1");
        attributes.extend(&others);
        attributes.set_known("nothing", "");
        attributes.set_count("c", 3);
        assert_eq!(attributes.said(), ["a=1", "b=2", "c=3"]);
        assert_eq!(attributes.text("b").as_deref(), Some("2"));
        assert_eq!(attributes.text("nothing"), None);
        attributes.clear();
        assert_eq!(attributes, Attributes::default());
    }
}
