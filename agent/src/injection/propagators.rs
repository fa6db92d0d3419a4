//! Which formats the trace context is sent in: `OTEL_PROPAGATORS`.

use onlooker_protocols::propagation::{FORMATS, Format};

use crate::config::one_of;

/// The variable of the OpenTelemetry specification.
pub const VARIABLE: &str = "OTEL_PROPAGATORS";

/// The formats if none are chosen. Baggage is among them only in the specification's default: it is never sent.
const DEFAULT: &str = "tracecontext";

/// Names without a trace context. Baggage holds the data of applications, such as the ids of users: it is not passed on.
const WITHOUT_CONTEXT: [&str; 2] = ["baggage", "none"];

/// The names that may be chosen from.
#[must_use]
pub fn names() -> Vec<&'static str> {
    FORMATS.iter().map(|format| format.name).chain(WITHOUT_CONTEXT).collect()
}

/// Says what is wrong with a list of names. It completes the sentence `OTEL_PROPAGATORS ...`.
pub fn check(list: &str) -> Result<(), String> {
    chosen(list).map(drop)
}

/// The formats in a list of names, separated by commas. Each counts once.
pub fn chosen(list: &str) -> Result<Vec<&'static Format>, String> {
    let list = if list.trim().is_empty() { DEFAULT } else { list };
    let mut formats: Vec<&'static Format> = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match FORMATS.iter().find(|format| format.name == name) {
            Some(format) => {
                if formats.iter().all(|chosen| chosen.name != name) {
                    formats.push(format);
                }
            }
            None if WITHOUT_CONTEXT.contains(&name) => {}
            None => return Err(format!("has the unknown name {name:?}: it must be {}", one_of(&names()))),
        }
    }
    Ok(formats)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::default("", &["tracecontext"])]
    #[case::of_the_specification("tracecontext,baggage", &["tracecontext"])]
    #[case::several(" b3 , tracecontext,,b3", &["b3", "tracecontext"])]
    #[case::all("tracecontext,b3,b3multi,jaeger,ottrace,xray", &["tracecontext", "b3", "b3multi", "jaeger", "ottrace", "xray"])]
    #[case::none("none", &[])]
    #[case::baggage_alone("baggage", &[])]
    fn names_choose_formats(#[case] list: &str, #[case] expected: &[&str]) {
        let formats = chosen(list).expect("all are known");
        assert_eq!(formats.iter().map(|format| format.name).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_has_the_known_ones() {
        let expected =
            "has the unknown name \"B3\": it must be tracecontext, b3, b3multi, jaeger, ottrace, xray, baggage or none";
        assert_eq!(check("tracecontext,B3").expect_err("it is unknown"), expected);
    }
}
