//! Percent-encoding (RFC 3986 2.1), which values of `OTEL_*` variables use.

/// Decodes `text`. None if a `%` is not followed by two hex digits.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        decoded.extend(byte);
        rest = tail;
    }
    Some(decoded)
}

/// Encodes everything but letters and digits.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode([byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("a+b=c", Some("a+b=c".as_bytes()))]
    #[case::encoded("a%2Cb%20%c3%A9", Some("a,b é".as_bytes()))]
    #[case::any_byte("%ff%00", Some([0xff, 0].as_slice()))]
    #[case::empty("", Some([].as_slice()))]
    #[case::half("a%2", None)]
    #[case::alone("%", None)]
    #[case::no_hex("%zz", None)]
    #[case::sign_is_no_digit("%+1", None)]
    fn encoded_text_is_decoded(#[case] text: &str, #[case] bytes: Option<&[u8]>) {
        assert_eq!(decoded(text).as_deref(), bytes);
    }

    #[test]
    fn decoding_reverses_encoding() {
        let text = "Bearer a,b=c%20 é";
        assert_eq!(encoded("a b"), "a%20b");
        assert_eq!(decoded(&encoded(text)).as_deref(), Some(text.as_bytes()));
    }
}
