//! The header lines that the kernel programs add to requests: their text, and where the ids go.

use onlooker_common::injection::{FIELD_NAMES, FRAMING_NAMES, LINES, NAME_BYTES, OWN_NAMES, PLACES, place};
use onlooker_protocols::propagation::{FORMATS, Format, Piece};

/// Lines in some formats.
#[derive(Debug, Clone)]
pub struct Lines {
    text: Vec<u8>,
    /// Values of [`place`].
    places: Vec<u32>,
    /// Names of fields by which a request shows that it has a trace context of its own.
    own_names: Vec<&'static str>,
}

impl Lines {
    /// Lines in these formats. `None` if there are none.
    #[must_use]
    pub fn of(formats: &[&'static Format]) -> Option<Self> {
        let mut lines = Self { text: Vec::new(), places: Vec::new(), own_names: Vec::new() };
        formats.iter().flat_map(|format| format.lines).for_each(|piece| lines.add(*piece));
        // Load balancers send a field of X-Ray's that names no span, and proxies pass it on. It is in the way only of another one.
        let is_own = |format: &&&Format| format.name != "xray" || formats.iter().any(|one| one.name == format.name);
        lines.own_names.extend(FORMATS.iter().filter(is_own).map(|format| format.headers[0]));
        (!lines.text.is_empty()).then_some(lines)
    }

    fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) => self.text.extend_from_slice(text.as_bytes()),
            Piece::Trace { first, count } => (first..first + count).for_each(|eight| {
                self.place(place::TRACE + u32::from(eight), 8);
            }),
            Piece::Span => (0..2).for_each(|eight| self.place(place::SPAN + eight, 8)),
            Piece::Flags => self.place(place::FLAGS, 2),
            Piece::Sampled => self.place(place::SAMPLED, 1),
            Piece::IsSampled => self.place(place::IS_SAMPLED, 5),
        }
    }

    fn place(&mut self, what: u32, bytes: usize) {
        let at = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.places.push(place::at(what, at));
        self.text.resize(self.text.len() + bytes, PLACEHOLDER);
    }

    /// Whether a `tracestate` goes with them, if the trace has one.
    pub(super) fn have_state(&self) -> bool {
        self.text.starts_with(b"traceparent: ") || self.text.windows(15).any(|part| part == b"\r\ntraceparent: ")
    }

    /// Bytes of all lines, without a `tracestate`.
    #[must_use]
    pub fn length(&self) -> usize {
        self.text.len()
    }

    /// Whether these are the lines, with characters in all places.
    #[must_use]
    pub fn are(&self, added: &[u8]) -> bool {
        let fits = |(expected, found): (&u8, &u8)| match *expected {
            PLACEHOLDER => found.is_ascii_alphanumeric() || *found == b' ',
            other => other == *found,
        };
        added.len() == self.text.len() && self.text.iter().zip(added).all(fits)
    }

    /// The text as the kernel programs have it.
    pub(super) fn text(&self) -> [u8; LINES] {
        padded(&self.text)
    }

    /// The places as the kernel programs have them.
    pub(super) fn places(&self) -> [u32; PLACES] {
        padded(&self.places)
    }

    /// The names that are looked for, as the kernel programs have them.
    pub(super) fn field_names(&self) -> [u8; NAMES] {
        let own = self.own_names.iter().copied().chain(std::iter::repeat("")).take(OWN_NAMES as usize);
        padded(&own.chain(FRAMING_NAMES).flat_map(field_name).collect::<Vec<u8>>())
    }
}

/// Bytes of all names.
pub(super) const NAMES: usize = FIELD_NAMES as usize * NAME_BYTES;

/// Stands where the ids go.
const PLACEHOLDER: u8 = 0;

fn padded<T: Copy + Default, const N: usize>(items: &[T]) -> [T; N] {
    let mut all = [T::default(); N];
    all[..items.len()].copy_from_slice(items);
    all
}

fn field_name(name: &str) -> [u8; NAME_BYTES] {
    padded(&name.as_bytes()[..name.len().min(NAME_BYTES - 1)])
}

#[cfg(test)]
mod tests {
    use onlooker_protocols::propagation::TraceContext;

    use super::*;

    #[test]
    fn all_formats_together_have_room() {
        let lines = Lines::of(FORMATS).expect("there are formats");
        assert!(lines.length() <= LINES && lines.places.len() < PLACES, "{} {}", lines.length(), lines.places.len());
        assert!(lines.own_names.len() <= OWN_NAMES as usize);
    }

    #[test]
    fn the_lines_are_as_long_as_those_that_the_format_writes() {
        let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::from_fields([&parent[..]], []).expect("it is well-formed");
        for format in FORMATS {
            let lines = Lines::of(&[format]).expect("it has lines");
            let written = format.lines(&context);
            assert!(lines.are(written.as_bytes()), "{written:?}");
            assert!(!lines.are(written.to_uppercase().as_bytes()), "{written:?}");
            assert!(!lines.are(&written.as_bytes()[1..]), "{written:?}");
        }
    }

    #[test]
    fn a_field_of_x_rays_is_in_the_way_only_of_another_one() {
        let has_xray = |names: &[&str]| {
            let formats: Vec<_> = FORMATS.iter().copied().filter(|format| names.contains(&format.name)).collect();
            Lines::of(&formats).expect("there are formats").own_names.contains(&"x-amzn-trace-id")
        };
        assert_eq!([has_xray(&["b3"]), has_xray(&["tracecontext", "xray"])], [false, true]);
    }
}
