//! Finds the ends of the lines of a head in one pass.

use std::ops::ControlFlow;

use crate::kit::positions::each_position;

/// More lines than servers accept: Apache stops at 100 fields, Node at 2000.
const MAX_LINES: usize = 4096;

/// The ends of the lines found so far. Heads are shorter than 4 GiB.
#[derive(Debug, Default)]
pub(super) struct Lines {
    ends: Vec<u32>,
    /// How many bytes were searched.
    searched: usize,
}

impl Lines {
    /// The complete lines of an incomplete head.
    pub(super) fn of(head: &[u8]) -> Self {
        let mut lines = Self::default();
        lines.find_end(head);
        lines
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.searched = 0;
    }

    /// Searches the bytes added to `head`. Returns the length of the head with its empty line, once that is found.
    pub(super) fn find_end(&mut self, head: &[u8]) -> Option<usize> {
        let mut begin = self.ends.last().map(|&end| end as usize + 1);
        let searched = std::mem::replace(&mut self.searched, head.len());
        let found = each_position(b'\n', head.get(searched..)?, |at| {
            let end = searched + at;
            if begin.is_some_and(|begin| matches!(head[begin..end], [] | [b'\r'])) {
                return ControlFlow::Break(end + 1);
            }
            self.ends.push(end as u32);
            begin = Some(end + 1);
            ControlFlow::Continue(())
        });
        found.break_value()
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.ends.len() > MAX_LINES
    }

    /// The first line without its end, if it is complete.
    pub(super) fn first<'h>(&self, head: &'h [u8]) -> Option<&'h [u8]> {
        self.ends.first().map(|&end| &head[..end as usize])
    }

    /// The lines after the first, without their ends. A line includes the lines folded into it (RFC 9112 5.2).
    pub(super) fn fields<'h>(&self, head: &'h [u8]) -> impl Iterator<Item = &'h [u8]> {
        let mut begin = self.ends.first().map_or(head.len(), |&end| end as usize + 1);
        self.ends.iter().skip(1).filter_map(move |&end| {
            let end = end as usize;
            if matches!(head.get(end + 1), Some(b' ' | b'\t')) {
                return None;
            }
            let line = &head[begin..end];
            begin = end + 1;
            Some(line)
        })
    }
}

/// RFC 9110 5.6.2
#[inline]
pub(super) fn is_token_char(byte: u8) -> bool {
    const IS_TOKEN_CHAR: [bool; 256] = {
        let mut is_token_char = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            is_token_char[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"!#$%&'*+-.^_`|~";
        let mut other = 0;
        while other < others.len() {
            is_token_char[others[other] as usize] = true;
            other += 1;
        }
        is_token_char
    };
    IS_TOKEN_CHAR[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::carriage_returns("GET\r\na: b\r\n\r\nx", Some(13), &["a: b\r"])]
    #[case::bare_line_feeds("GET\na: b\n\nx", Some(10), &["a: b"])]
    #[case::mixed("GET\na: b\r\n\nx", Some(11), &["a: b\r"])]
    #[case::no_fields("GET\r\n\r\n", Some(7), &[])]
    #[case::folded("GET\na: b\r\n c\r\n\td\r\ne: f\r\n\r\n", Some(26), &["a: b\r\n c\r\n\td\r", "e: f\r"])]
    #[case::cut_off("GET\r\na: b\r\nc: d", None, &["a: b\r"])]
    #[case::cut_off_in_its_end("GET\r\na: b\r\n\r", None, &["a: b\r"])]
    #[case::cut_off_in_a_fold("GET\r\na: b\r\n c", None, &[])]
    #[case::cut_off_in_the_first("GET", None, &[])]
    fn a_head_is_its_lines(#[case] head: &str, #[case] length: Option<usize>, #[case] fields: &[&str]) {
        let mut lines = Lines::default();
        let found = lines.find_end(head.as_bytes());
        let mut parts = Lines::default();
        assert_eq!((0..=head.len()).find_map(|seen| parts.find_end(&head.as_bytes()[..seen])), found);
        assert_eq!((found, lines.first(head.as_bytes()).is_some()), (length, head.contains('\n')));
        assert!(lines.fields(head.as_bytes()).eq(fields.iter().map(|field| field.as_bytes())));
    }
}
