//! Any query, path or authority: no value of a parameter is left, and redacting twice changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::redact::{self, REDACTED};

fuzz_target!(|input: &[u8]| {
    let query = redact::query(input);
    for parameter in query.trim_end_matches('…').split('&') {
        let is_named = parameter.strip_suffix(REDACTED).is_some_and(|name| name.is_empty() || name.ends_with('='));
        assert!(parameter.is_empty() || is_named, "{query:?}");
    }
    assert!(query.len() < 2048, "{} bytes", query.len());

    let path = redact::path(String::from_utf8_lossy(input).into());
    assert_eq!(redact::path(path.clone()), path);
    for parameter in path.split('/').flat_map(|segment| segment.split(';').skip(1)) {
        assert!(parameter.is_empty() || parameter.ends_with(REDACTED), "{path:?}");
    }

    let host = redact::authority(input);
    assert!(host.len() <= input.len() && !host.iter().any(|byte| b"@/?#".contains(byte)), "{host:?}");
});
