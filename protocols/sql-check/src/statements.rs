//! Splits a file for psql into statements, without psql's own commands and the data of `COPY`.

/// The statements, each with the comments before it.
pub fn split(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let mut state = State::default();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if state.is_between() && line.trim_start().starts_with('\\') {
            continue;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let (taken, ends) = state.step(rest);
            let (piece, after) = rest.split_at(taken);
            rest = after;
            match ends {
                End::No => statement.push_str(piece),
                // \gset, \g, \watch: the rest of the line is psql's.
                End::Command => rest = "",
                End::Statement => {}
            }
            if ends != End::No {
                let ended = std::mem::take(&mut statement);
                let copies = is_copy_from_stdin(&ended);
                if !ended.trim().is_empty() {
                    statements.push(ended);
                }
                state = State::default();
                if copies && rest.trim().is_empty() {
                    lines.by_ref().find(|line| line.trim_end() == "\\.");
                }
            }
        }
    }
    statements
}

#[derive(Debug, Default)]
struct State {
    inside: Inside,
    parentheses: u32,
    /// Open blocks of a function's body: `BEGIN ATOMIC ... END`.
    blocks: u32,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// `'...'`, and whether a backslash escapes.
    String(bool),
    Name,
    Dollar(String),
    Comment(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    Statement,
    Command,
}

impl State {
    fn is_between(&self) -> bool {
        self.inside == Inside::Nothing
    }

    /// Takes the beginning of `rest`. Returns how many bytes, and whether they end the statement.
    fn step(&mut self, rest: &str) -> (usize, End) {
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let take = |count| (count, End::No);
        match &mut self.inside {
            Inside::String(true) if rest.starts_with('\\') => take(2.min(rest.len())),
            Inside::String(_) if rest.starts_with('\'') => self.leave(1),
            Inside::Name if rest.starts_with('"') => self.leave(1),
            Inside::Dollar(tag) if rest.starts_with(tag.as_str()) => {
                let length = tag.len();
                self.leave(length)
            }
            Inside::Comment(depth) if rest.starts_with("*/") => {
                *depth -= 1;
                if *depth == 0 { self.leave(2) } else { take(2) }
            }
            Inside::Comment(depth) if rest.starts_with("/*") => {
                *depth += 1;
                take(2)
            }
            Inside::Nothing => self.outside(rest, first),
            _ => take(first),
        }
    }

    fn leave(&mut self, count: usize) -> (usize, End) {
        self.inside = Inside::Nothing;
        (count, End::No)
    }

    fn outside(&mut self, rest: &str, first: usize) -> (usize, End) {
        let bytes = rest.as_bytes();
        let mut enter = |inside, count| {
            self.inside = inside;
            (count, End::No)
        };
        match bytes {
            [b'-', b'-', ..] => (rest.find('\n').unwrap_or(rest.len()), End::No),
            [b'/', b'*', ..] => enter(Inside::Comment(1), 2),
            [b'e' | b'E', b'\'', ..] => enter(Inside::String(true), 2),
            [b'\'', ..] => enter(Inside::String(false), 1),
            [b'"', ..] => enter(Inside::Name, 1),
            [b'$', ..] => {
                let tag =
                    1 + bytes[1..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                if bytes.get(tag) == Some(&b'$') && !bytes[1].is_ascii_digit() {
                    enter(Inside::Dollar(rest[..=tag].to_owned()), tag + 1)
                } else {
                    (tag, End::No)
                }
            }
            [b'\\', b';', ..] => (2, End::Statement),
            [b'\\', ..] => (1, End::Command),
            [b';', ..] if self.parentheses == 0 && self.blocks == 0 => (1, End::Statement),
            [b'(', ..] => {
                self.parentheses += 1;
                (1, End::No)
            }
            [b')', ..] => {
                self.parentheses = self.parentheses.saturating_sub(1);
                (1, End::No)
            }
            [b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., ..] => {
                let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let after = rest[length..].trim_start().get(..6).unwrap_or_default();
                match rest[..length].to_ascii_lowercase().as_str() {
                    "begin" if after.eq_ignore_ascii_case("atomic") => self.blocks = 1,
                    "case" if self.blocks > 0 => self.blocks += 1,
                    "end" => self.blocks = self.blocks.saturating_sub(1),
                    _ => {}
                }
                (length.max(first), End::No)
            }
            [b'0'..=b'9', ..] => (bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count(), End::No),
            _ => (first, End::No),
        }
    }
}

fn is_copy_from_stdin(statement: &str) -> bool {
    let words: Vec<_> = statement.split_whitespace().map(str::to_ascii_lowercase).collect();
    let begins = words.iter().find(|word| !word.starts_with("--")).is_some_and(|word| word == "copy");
    begins && words.windows(2).any(|pair| pair[0] == "from" && pair[1].starts_with("stdin"))
}
