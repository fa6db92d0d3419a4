//! Compiled programs, shells and Perl, .NET and the BEAM.

use super::{Command, Judgement, Launch, file_name, named, option, scripted, stem};
use crate::discover::runtime::Program;

/// A program that is its own: by what it was started as, for one executable may be several programs (busybox;
/// redis-server is a link), else by its file.
pub(super) fn compiled(launch: &Launch<'_>) -> Judgement {
    let name = launch.started_by.map(file_name).filter(|name| !name.is_empty() && !is_loader(name));
    let name = name.unwrap_or(file_name(launch.executable));
    // memfd_create(2): /memfd:shop
    named(name.strip_prefix("memfd:").unwrap_or(name))
}

/// The dynamic linker, started with a program for its argument.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld-musl")
}

/// The script that Perl or a shell runs.
pub(super) fn script(launch: &Launch<'_>) -> Judgement {
    let arguments = match launch.command() {
        Command::Arguments(arguments) => arguments,
        Command::Title(_) => {
            return launch.script().map_or(Judgement::Worker(None), scripted);
        }
    };
    let values = if launch.program == Program::Shell { values_of_shell } else { values_of_perl };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(letters) = argument.strip_prefix(['-', '+']) else { return scripted(argument) };
        match values(letters) {
            Some(values) => arguments.by_ref().take(values).for_each(drop),
            None => break,
        }
    }
    Judgement::Unknown
}

/// How many of the next arguments are values of an option of a shell, which is written without its dash. None if no
/// script comes: the code does (`-c`, `-lc`), or it is on stdin (`-s`, `-`).
fn values_of_shell(option: &str) -> Option<usize> {
    if let Some(long) = option.strip_prefix('-') {
        return Some(usize::from(matches!(long, "rcfile" | "init-file")));
    }
    // `-euo pipefail`, bash's `-O extglob`
    (!option.is_empty() && !option.contains(['c', 's'])).then(|| option.matches(['o', 'O']).count())
}

/// The same for Perl (perlrun): code by `-e` (`-ne`), `-` for stdin.
fn values_of_perl(option: &str) -> Option<usize> {
    let mut letters = option.chars();
    if option.is_empty() {
        return None;
    }
    while let Some(letter) = letters.next() {
        match letter {
            'e' | 'E' => return None,
            'I' => return Some(usize::from(letters.as_str().is_empty())),
            // The rest of the word is theirs: `-Mstrict`, `-i.bak`, `-d:Trace`.
            'C' | 'D' | 'F' | 'M' | 'V' | 'i' | 'm' | 'x' | ':' | '=' | '-' => break,
            _ => {}
        }
    }
    Some(0)
}

/// `dotnet [exec] Shop.dll`, `dotnet run --project Shop.csproj`.
pub(super) fn dotnet(launch: &Launch<'_>) -> Judgement {
    let Command::Arguments(arguments) = launch.command() else { return Judgement::Worker(None) };
    let assembly = arguments.iter().find(|argument| argument.ends_with(".dll")).copied();
    match assembly.or_else(|| option(&arguments, &["--project"])) {
        // Dots are of the name, Shop.Api.dll: only the extension goes.
        Some(path) => named(stem(path.trim_end_matches('/'))),
        None => Judgement::Unknown,
    }
}

/// The node's name, or the release's.
pub(super) fn beam(launch: &Launch<'_>) -> Judgement {
    let Command::Arguments(arguments) = launch.command() else { return Judgement::Unknown };
    let node = arguments
        .iter()
        .zip(arguments.iter().skip(1))
        .find_map(|(option, value)| matches!(*option, "-sname" | "-name").then_some(*value));
    let node = node.and_then(|node| node.split('@').next()).filter(|node| !node.is_empty());
    node.or(launch.environment.release_name.as_deref()).map_or(Judgement::Unknown, named)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::tests::{judged, judged_in};
    use super::*;
    use crate::enrich::environment::Environment;

    #[rstest]
    #[case::file(Program::Go, "/srv/shop", None, &["./shop"], "shop")]
    #[case::dots_are_of_the_name(Program::Native, "/opt/shop-1.2", None, &["shop-1.2"], "shop-1.2")]
    #[case::link(Program::Redis, "/usr/bin/redis-check-rdb", Some("/usr/bin/redis-server"), &["/usr/bin/redis-server *:6379"], "redis-server")]
    #[case::many_programs_in_one(Program::Native, "/bin/busybox", Some("/bin/httpd"), &["httpd", "-f"], "httpd")]
    #[case::title(Program::Nginx, "/usr/sbin/nginx", Some("/usr/sbin/nginx"), &["nginx: worker process"], "nginx")]
    #[case::title_with_secrets(Program::Postgres, "/usr/lib/postgresql/15/bin/postgres", None, &["postgres: alice shop 10.0.0.7(4711) idle"], "postgres")]
    #[case::loader(Program::Rust, "/srv/shop", Some("/lib64/ld-linux-x86-64.so.2"), &["ld.so", "/srv/shop"], "shop")]
    #[case::in_memory(Program::Native, "/memfd:shop", None, &["shop"], "shop")]
    #[case::interpreter_inside(Program::Php, "/usr/sbin/apache2", None, &["apache2", "-k", "start"], "apache2")]
    fn compiled_programs_go_by_their_own_name(
        #[case] program: Program,
        #[case] executable: &str,
        #[case] started_by: Option<&str>,
        #[case] command: &[&str],
        #[case] name: &str,
    ) {
        let judgement = judged_in(program, executable, started_by, command, "/", &[], &Environment::default());
        assert_eq!(judgement, named(name));
    }

    #[rstest]
    #[case::shell(Program::Shell, "/usr/bin/bash", &["bash", "/srv/serve.sh", "80"], named("serve"))]
    #[case::shell_option(Program::Shell, "/usr/bin/bash", &["bash", "-eu", "--posix", "/srv/serve.sh"], named("serve"))]
    #[case::shell_option_with_value(Program::Shell, "/usr/bin/bash", &["bash", "-euo", "pipefail", "+O", "extglob", "serve.sh"], named("serve"))]
    #[case::shell_options_with_values(Program::Shell, "/usr/bin/bash", &["bash", "-oO", "pipefail", "extglob", "--rcfile", "rc.sh", "serve.sh"], named("serve"))]
    #[case::shell_option_alone(Program::Shell, "/usr/bin/bash", &["bash", "-o"], Judgement::Unknown)]
    #[case::shell_stdin(Program::Shell, "/usr/bin/bash", &["bash", "-es", "80"], Judgement::Unknown)]
    #[case::shell_descriptor(Program::Shell, "/usr/bin/bash", &["bash", "/dev/fd/3"], Judgement::Unknown)]
    #[case::shell_code(Program::Shell, "/usr/bin/dash", &["sh", "-c", "serve"], Judgement::Unknown)]
    #[case::shell_code_of_login(Program::Shell, "/usr/bin/bash", &["bash", "-lc", "serve"], Judgement::Unknown)]
    #[case::shell_alone(Program::Shell, "/usr/bin/bash", &["-bash"], Judgement::Unknown)]
    #[case::perl(Program::Perl, "/usr/bin/perl", &["perl", "-w", "shop.pl"], named("shop"))]
    #[case::perl_folder(Program::Perl, "/usr/bin/perl", &["perl", "-I", "lib", "-wI", "more", "-Ilib/perl5", "shop.pl"], named("shop"))]
    #[case::perl_module(Program::Perl, "/usr/bin/perl", &["perl", "-MDevel::Cover", "-mAPI", "-CSDE", "shop.pl"], named("shop"))]
    #[case::perl_stdin(Program::Perl, "/usr/bin/perl", &["perl", "-", "80"], Judgement::Unknown)]
    #[case::perl_debugger(Program::Perl, "/usr/bin/perl", &["perl", "-de", "1"], Judgement::Unknown)]
    #[case::perl_code(Program::Perl, "/usr/bin/perl", &["perl", "-ne", "serve()"], Judgement::Unknown)]
    #[case::dotnet(Program::DotNet, "/usr/share/dotnet/dotnet", &["dotnet", "/app/Shop.Api.dll", "--urls", "x"], named("Shop.Api"))]
    #[case::dotnet_run(Program::DotNet, "/usr/bin/dotnet", &["dotnet", "run", "--project", "src/Shop/"], named("Shop"))]
    #[case::dotnet_tool(Program::DotNet, "/usr/bin/dotnet", &["dotnet", "build"], Judgement::Unknown)]
    #[case::rabbitmq(Program::Beam, "/usr/lib/erlang/beam.smp", &["beam.smp", "-W", "w", "--", "-sname", "rabbit@host", "-s", "rabbit"], named("rabbit"))]
    #[case::beam(Program::Beam, "/usr/lib/erlang/beam.smp", &["beam.smp", "--", "-root", "/usr/lib/erlang"], Judgement::Unknown)]
    fn what_others_run(
        #[case] program: Program,
        #[case] executable: &str,
        #[case] command: &[&str],
        #[case] judgement: Judgement,
    ) {
        assert_eq!(judged(program, executable, command, "/", &[]), judgement);
    }

    #[test]
    fn an_elixir_release_is_called_what_it_is() {
        let environment = Environment { release_name: Some("shop".into()), ..Environment::default() };
        let command = ["beam.smp", "--", "-noshell"];
        let beam = judged_in(Program::Beam, "/app/erts/bin/beam.smp", None, &command, "/", &[], &environment);
        assert_eq!(beam, named("shop"));
    }
}
