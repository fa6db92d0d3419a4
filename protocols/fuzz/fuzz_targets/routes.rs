//! Any paths, one a line: a template keeps its bounds, whatever a service is asked for, and what holds no secret stays.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_engine::model::span::Role;
use onlooker_engine::route::{Holds, Routes, redact, template};

/// Ten segments of at most 64 bytes with their slashes, and `/{path}` for the rest.
const MAX_TEMPLATE: usize = 10 * 65 + "/{path}".len();

fuzz_target!(|input: &[u8]| {
    let mut routes = Routes::default();
    for path in String::from_utf8_lossy(input).lines() {
        let mut written = String::new();
        let holds = template(path, &mut written);
        assert!(written.len() <= MAX_TEMPLATE, "{written}");
        assert!(written.is_empty() || written.starts_with('/'), "{written}");
        let redacted = redact(path);
        match holds {
            Holds::NoSecret => assert_eq!(redacted, path),
            // What stands for a secret is replaced by itself.
            Holds::Secret => assert!(redacted != path || path.contains("REDACTED"), "{path}"),
        }
        for role in [Role::Client, Role::Server] {
            let route = routes.learn(role, path, path.len() % 2 == 0);
            assert!(route.template.is_none_or(|template| template.len() <= MAX_TEMPLATE));
        }
    }
});
