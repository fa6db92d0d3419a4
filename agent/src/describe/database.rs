//! What the databases have in common: <https://opentelemetry.io/docs/specs/semconv/db/database-spans/>.

use std::borrow::Cow;

/// `{operation} {target}`, or what there is of it, or the system's name. The conventions' last resort for a target,
/// `server.address:server.port`, is left out: what a socket knows is the address of one instance, which changes with each
/// that is started.
pub(super) fn name(operation: &str, target: &str, system: &'static str) -> Cow<'static, str> {
    match (operation, target) {
        ("", "") => system.into(),
        (one, "") | ("", one) => one.to_owned().into(),
        (operation, target) => {
            let mut name = String::with_capacity(operation.len() + 1 + target.len());
            name.push_str(operation);
            name.push(' ');
            name.push_str(target);
            name.into()
        }
    }
}
