//! Options and positional arguments on a command line whose options are only partly known.

/// The positional arguments, each with its index. An option takes the next argument as its value unless it has one
/// attached or is listed in `flags`.
pub(super) fn positional<'a>(arguments: &'a [&'a str], flags: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let argument = *arguments.get(at)?;
            at += 1;
            if !argument.starts_with('-') || argument == "-" {
                return Some((at - 1, argument));
            }
            let short = !argument.starts_with("--");
            let attached = argument.contains('=') || short && argument.len() > 2;
            if !attached && !flags.contains(&argument) && !argument.starts_with("--no-") && argument != "--" {
                at += 1;
            }
        }
    })
}

/// The value of an option in any of its spellings: `-A shop`, `-Ashop`, `--app shop`, `--app=shop`.
pub(super) fn option<'a>(arguments: &[&'a str], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, argument)| {
        names.iter().find_map(|name| match argument.strip_prefix(name)? {
            "" => arguments.get(at + 1).copied(),
            attached if name.starts_with("--") => attached.strip_prefix('='),
            attached => Some(attached),
        })
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["-A", "shop"], Some("shop"))]
    #[case(&["-Ashop"], Some("shop"))]
    #[case(&["-v", "--app", "shop"], Some("shop"))]
    #[case(&["--app=shop"], Some("shop"))]
    #[case(&["--application=shop"], None)]
    #[case(&["--app"], None)]
    fn an_option_is_found_in_every_spelling(#[case] arguments: &[&str], #[case] value: Option<&str>) {
        assert_eq!(option(arguments, &["-A", "--app"]), value);
    }

    #[test]
    fn positional_arguments_are_neither_options_nor_their_values() {
        let arguments = ["-w", "4", "--reload", "--bind=0:80", "-w4", "shop:app", "--log", "x", "--no-color", "more"];
        let found: Vec<_> = positional(&arguments, &["--reload"]).collect();
        assert_eq!(found, [(5, "shop:app"), (9, "more")]);
    }
}
