//! Perl. Its library is no sign of it: monitoring agents and databases load it for a small part of their work.

use super::row::{Runtime, Version};
use super::script;

pub(super) const PERL: Runtime = Runtime {
    name: "perl",
    executables: &["perl"],
    version: Version::FileName,
    interprets: true,
    service_name: |launch| script::service_name(launch, values),
    sdk_language: Some("perl"),
    runtime_name: Some("perl"),
    ..Runtime::COMPILED
};

/// How many arguments after an option are its values (perlrun). None for `-e` (`-ne`), which has the program after it,
/// and for `-`, with which the program comes from stdin.
fn values(option: &str) -> Option<usize> {
    let mut letters = option.chars();
    if option.is_empty() {
        return None;
    }
    while let Some(letter) = letters.next() {
        match letter {
            'e' | 'E' => return None,
            'I' => return Some(usize::from(letters.as_str().is_empty())),
            // The rest of the word is the option's value: `-Mstrict`, `-i.bak`, `-d:Trace`.
            'C' | 'D' | 'F' | 'M' | 'V' | 'i' | 'm' | 'x' | ':' | '=' | '-' => break,
            _ => {}
        }
    }
    Some(0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::launch::ServiceName;
    use crate::runtimes::sample::named;

    #[rstest]
    #[case::script(&["perl", "-w", "shop.pl"], ServiceName::of("shop"))]
    #[case::folder(&["perl", "-I", "lib", "-wI", "more", "-Ilib/perl5", "shop.pl"], ServiceName::of("shop"))]
    #[case::module(&["perl", "-MDevel::Cover", "-mAPI", "-CSDE", "shop.pl"], ServiceName::of("shop"))]
    #[case::stdin(&["perl", "-", "80"], ServiceName::Unknown)]
    #[case::debugger(&["perl", "-de", "1"], ServiceName::Unknown)]
    #[case::code(&["perl", "-ne", "serve()"], ServiceName::Unknown)]
    fn perl_is_named_after_its_script(#[case] command: &[&str], #[case] expected: ServiceName) {
        assert_eq!(named(&PERL, "/usr/bin/perl", command, "/", &[]), expected);
    }
}
