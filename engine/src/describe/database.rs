//! What the databases have in common: <https://opentelemetry.io/docs/specs/semconv/db/database-spans/>.

pub(super) mod postgres;
pub(super) mod redis;

/// Makes the name `{operation} {target}`, or of what there is of it, or the system's. The conventions' last resort for a
/// target, `server.address:server.port`, is left out: what a socket knows is the address of one instance, which changes
/// with each that is started.
pub(super) fn write_name(operation: &str, target: &str, system: &str, name: &mut String) {
    match (operation, target) {
        ("", "") => name.push_str(system),
        (one, "") | ("", one) => name.push_str(one),
        (operation, target) => name.extend([operation, " ", target]),
    }
}
