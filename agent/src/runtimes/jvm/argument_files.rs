//! The arguments of the JVM, with those in the environment and in argument files (java(1), "java Command-Line Argument
//! Files").

use crate::runtimes::launch::Launch;

/// How many arguments are read from files. Class paths are single arguments.
const ARGUMENTS_READ: usize = 4096;

/// `arguments` after the options in `environment`, with the content of argument files in place of `@file`. An argument
/// file that cannot be read stays as it is.
pub(super) fn expand(launch: &Launch<'_>, arguments: &[&str], environment: &str) -> Vec<String> {
    let given = split(environment).into_iter().chain(arguments.iter().map(|argument| (*argument).to_owned()));
    let mut expanded = Vec::new();
    for argument in given {
        let path = argument.strip_prefix('@').filter(|path| !path.starts_with('@'));
        match path.and_then(|path| (launch.read)(&launch.absolute(path))) {
            Some(text) if expanded.len() < ARGUMENTS_READ => expanded.extend(split(&text)),
            _ => expanded.push(argument),
        }
    }
    expanded
}

/// Splits the text of an argument file. Quotes join words, a backslash within quotes escapes, and `#` begins a comment.
fn split(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', Some(_)) => argument.get_or_insert_default().extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                argument.get_or_insert_default();
            }
            ('#', None) if argument.is_none() => while characters.next().is_some_and(|c| c != '\n') {},
            (c, None) if c.is_whitespace() => arguments.extend(argument.take()),
            (c, _) => argument.get_or_insert_default().push(c),
        }
    }
    arguments.extend(argument);
    arguments
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::words("-Xmx1g  -cp\ta.jar\n", &["-Xmx1g", "-cp", "a.jar"])]
    #[case::quotes(r#"-Dname="a b" '' 'c "d"'"#, &["-Dname=a b", "", "c \"d\""])]
    #[case::escape(r#""a\"b" c\d"#, &["a\"b", "c\\d"])]
    #[case::comment("# all\n-a # rest\n-b#c", &["-a", "-b#c"])]
    #[case::unclosed("-a 'b c", &["-a", "b c"])]
    #[case::empty("", &[])]
    fn an_argument_file_is_split(#[case] text: &str, #[case] arguments: &[&str]) {
        assert_eq!(split(text), arguments);
    }
}
