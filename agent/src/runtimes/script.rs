//! Interpreters that take options, then a script: shells and Perl. A service is named after the script.

use super::launch::{CommandLine, Launch, ServiceName};

/// `values` says how many of the next arguments are values of an option, which it gets without its dash. None if no
/// script follows: the program is on the command line, or comes from stdin.
pub(super) fn service_name(launch: &Launch<'_>, values: fn(&str) -> Option<usize>) -> ServiceName {
    let arguments = match launch.command_line() {
        CommandLine::Arguments(arguments) => arguments,
        CommandLine::Title(_) => {
            return launch.script().map_or(ServiceName::Titled, ServiceName::of_script);
        }
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(letters) = argument.strip_prefix(['-', '+']) else { return ServiceName::of_script(argument) };
        match values(letters) {
            Some(values) => arguments.by_ref().take(values).for_each(drop),
            None => break,
        }
    }
    ServiceName::Unknown
}
