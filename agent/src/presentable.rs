//! Text from other processes, made safe to export and to print on a terminal.

use std::borrow::Cow;

/// The longest name that common file systems allow.
const LONGEST_BYTES: usize = 255;

/// `text` without control characters and surrounding white space, cut to 255 bytes. None if nothing is left.
#[must_use]
pub(crate) fn presentable(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    let kept = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST_BYTES).last()?;
    let text = &text[..kept];
    let clean: Cow<'_, str> = if text.contains(char::is_control) {
        text.chars().filter(|c| !c.is_control()).collect::<String>().into()
    } else {
        text.into()
    };
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("shop", Some("shop"))]
    #[case::terminal_escape("sh\x1b[31mop\n", Some("sh[31mop"))]
    #[case::only_controls("\x07\r\n", None)]
    #[case::blank("  ", None)]
    fn control_characters_are_removed(#[case] text: &str, #[case] clean: Option<&str>) {
        assert_eq!(presentable(text).as_deref(), clean);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let name = presentable(&"é".repeat(1000)).map(Cow::into_owned).unwrap();
        assert_eq!(name, "é".repeat(127));
    }
}
