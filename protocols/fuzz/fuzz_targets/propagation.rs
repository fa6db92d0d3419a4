//! Any fields: a trace context is well-formed, within its limits, and the same when it is passed on.
//!
//! Each line of the input is a field: a `traceparent` if it begins with `p`, else a `tracestate`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onlooker_protocols::propagation::TraceContext;

fuzz_target!(|input: &[u8]| {
    let (parents, states): (Vec<&[u8]>, Vec<&[u8]>) = input
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split_first().map(|(_, field)| (line[0], field)))
        .fold((Vec::new(), Vec::new()), |(mut parents, mut states), (kind, field)| {
            if kind == b'p' {
                parents.push(field)
            } else {
                states.push(field)
            }
            (parents, states)
        });
    let Some(context) = TraceContext::from_fields(parents.iter().copied(), states) else { return };
    assert_eq!(parents.len(), 1);
    assert!(context.trace_id != [0; 16] && context.span_id != [0; 8]);
    assert!(context.tracestate.len() <= 512 && context.tracestate.split(',').count() <= 32);

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parent = format!("00-{}-{}-{:02x}", hex(&context.trace_id), hex(&context.span_id), context.flags);
    let again = TraceContext::from_fields([parent.as_bytes()], [context.tracestate.as_bytes()]);
    assert_eq!(again, Some(context));
});
