//! Programs by their names, libraries and marks, and some that really run.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rstest::rstest;

use super::*;
use crate::runtimes::beam::BEAM;
use crate::runtimes::dotnet::DOTNET;
use crate::runtimes::go::GO;
use crate::runtimes::javascript::NODE;
use crate::runtimes::jvm::JVM;
use crate::runtimes::php::PHP;
use crate::runtimes::python::PYTHON;
use crate::runtimes::ruby::RUBY;

/// A process of which only this is known.
fn judged(path: &str, executable: &Executable, mapped: &[&str], release: Option<&str>, threads: &[&str]) -> Program {
    Seen {
        path: Path::new(path),
        executable,
        mapped: OnceCell::new(),
        read_mapped: &|| mapped.iter().map(PathBuf::from).collect(),
        read: &|file| release.filter(|_| file == Path::new("/opt/jdk/release")).map(str::to_owned),
        has_thread: &|names| threads.iter().any(|thread| names.iter().any(|name| thread.starts_with(name))),
    }
    .judge()
}

fn linked_with(libraries: &[&str]) -> Executable {
    Executable { libraries: libraries.iter().map(|library| (*library).into()).collect(), ..Executable::default() }
}

#[rstest]
#[case::python("/usr/bin/python3.11", &[], "python", Some("3.11"), Work::ThreadUntilProvenOtherwise)]
#[case::python_of_unknown_version("/venv/bin/python3", &[], "python", None, Work::ThreadUntilProvenOtherwise)]
#[case::uwsgi("/usr/bin/uwsgi", &["libc.so.6", "libpython3.9.so.1.0"], "python", Some("3.9"), Work::ThreadUntilProvenOtherwise)]
#[case::renamed_ruby("/opt/shop/bin/worker", &["libruby-3.1.so.3.1"], "ruby", Some("3.1"), Work::ThreadUntilProvenOtherwise)]
#[case::renamed_ruby_with_a_version_of_its_own("/opt/shop/worker-1.2", &["libruby-3.1.so.3.1"], "ruby", Some("3.1"), Work::ThreadUntilProvenOtherwise)]
#[case::php_fpm("/usr/sbin/php-fpm8.2", &[], "php", Some("8.2"), Work::ThreadUntilProvenOtherwise)]
#[case::node("/usr/bin/node", &[], "node", None, Work::EventLoop)]
#[case::not_node("/usr/bin/node_exporter", &[], "native", None, Work::ThreadUntilProvenOtherwise)]
#[case::nginx("/usr/sbin/nginx", &["libcrypt.so.1"], "nginx", None, Work::EventLoopNoQueue)]
#[case::redis_on_debian("/usr/bin/redis-check-rdb", &[], "redis", None, Work::EventLoop)]
#[case::postgres("/usr/lib/postgresql/15/bin/postgres", &["libldap-2.5.so.0", "libperl.so.5.36"], "postgres", None, Work::ThreadUntilProvenOtherwise)]
#[case::beam("/usr/lib/erlang/erts-13/bin/beam.smp", &[], "beam", None, Work::Scheduler)]
#[case::nothing_known("", &[], "native", None, Work::ThreadUntilProvenOtherwise)]
fn a_program_is_recognised_by_its_name_or_its_libraries(
    #[case] path: &str,
    #[case] libraries: &[&str],
    #[case] runtime: &str,
    #[case] version: Option<&str>,
    #[case] work: Work,
) {
    let program = judged(path, &linked_with(libraries), &[], None, &[]);
    assert_eq!((program.runtime.name, program.version.as_deref(), program.work), (runtime, version, work));
}

#[rstest]
#[case::mod_php("/usr/sbin/apache2", "/usr/lib/apache2/modules/libphp8.2.so", "php", Some("8.2"))]
#[case::mod_python("/usr/sbin/apache2", "/usr/lib/libpython3.11.so.1.0", "python", Some("3.11"))]
#[case::embedded_jvm("/opt/shop/shop", "/opt/jdk/lib/server/libjvm.so", "jvm", None)]
#[case::app_host(
    "/opt/Shop",
    "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so",
    "dotnet",
    Some("8.0.1")
)]
#[case::perl_for_a_small_part("/usr/sbin/snmpd", "/usr/lib/libperl.so.5.36", "native", None)]
fn a_program_is_recognised_by_the_libraries_that_are_mapped(
    #[case] path: &str,
    #[case] mapped: &str,
    #[case] runtime: &str,
    #[case] version: Option<&str>,
) {
    let program = judged(path, &Executable::default(), &[mapped], None, &[]);
    assert_eq!((program.runtime.name, program.version.as_deref()), (runtime, version));
}

#[test]
fn proof_outranks_the_name_and_hints_do_not() {
    let marked = |proven| Marked { runtime: &GO, proven, version: Some("go1.26.8".into()), work: None };
    let executable = |proven| Executable { marked: Some(marked(proven)), ..Executable::default() };
    let expected =
        Program { runtime: &GO, version: Some("go1.26.8".into()), work: Work::Scheduler, in_executable: true };
    assert_eq!(judged("/opt/node", &executable(true), &[], None, &[]), expected);
    assert_eq!(judged("/opt/node", &executable(false), &[], None, &[]).runtime, &NODE);
    assert_eq!(judged("/opt/shop", &executable(false), &[], None, &[]).runtime, &GO);
}

#[test]
fn nginx_with_lua_may_queue_for_connections() {
    let lua = "/usr/lib/nginx/modules/ngx_http_lua_module.so";
    assert_eq!(judged("/usr/sbin/nginx", &Executable::default(), &[lua], None, &[]).work, Work::EventLoop);
}

#[test]
fn the_version_of_java_is_read_from_its_installation() {
    let java = judged("/opt/jdk/bin/java", &Executable::default(), &[], Some("JAVA_VERSION=\"17.0.15\"\n"), &[]);
    assert_eq!((java.runtime, java.version.as_deref()), (&JVM, Some("17.0.15")));
}

#[rstest]
#[case::jdk_21(&["http-nio-8080-e", "ForkJoinPool-1-", "Read-Poller"], Work::VirtualThreads)]
#[case::jdk_25(&["ForkJoinPool-1-", "MasterPoller"], Work::VirtualThreads)]
#[case::only_sleeping(&["VirtualThread-u"], Work::VirtualThreads)]
#[case::platform_threads(&["http-nio-8080-P", "pool-1-thread-1", "ForkJoinPool-1-", "ForkJoinPool.co"], Work::ThreadUntilProvenOtherwise)]
fn virtual_threads_are_recognised_by_the_threads_that_wake_them(#[case] threads: &[&str], #[case] work: Work) {
    assert_eq!(judged("/opt/jdk/bin/java", &Executable::default(), &[], None, threads).work, work);
}

/// The names of all rows, as they are exported.
#[rstest]
#[case(&BEAM, Some("erlang"), Some("BEAM"))]
#[case(&DOTNET, Some("dotnet"), Some(".NET"))]
#[case(&GO, Some("go"), Some("go"))]
#[case(&JVM, Some("java"), None)]
#[case(&NODE, Some("nodejs"), Some("nodejs"))]
#[case(&PHP, Some("php"), Some("php"))]
#[case(&PYTHON, Some("python"), Some("cpython"))]
#[case(&RUBY, Some("ruby"), Some("ruby"))]
fn languages_and_runtimes_have_the_names_of_the_conventions(
    #[case] runtime: &Runtime,
    #[case] language: Option<&str>,
    #[case] name: Option<&str>,
) {
    assert_eq!((runtime.sdk_language, runtime.runtime_name), (language, name));
}

/// Starts `command`, which prints a line and waits for one, and recognises it.
fn recognise(command: &mut Command) -> Program {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let recogniser = Recogniser::default();
    let program = recogniser.recognise(&Process::open(child.id()).unwrap());
    let again = recogniser.recognise(&Process::open(child.id()).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(program, again);
    program
}

#[test]
fn a_running_python_is_recognised() {
    let program = recognise(Command::new("python3").args(["-c", "print('ready', flush=True); input()"]));
    assert_eq!((program.runtime, program.work), (&PYTHON, Work::ThreadUntilProvenOtherwise));
}

#[test]
fn a_copied_interpreter_under_another_name_is_recognised() {
    let output = Command::new("python3")
        .args(["-c", "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix)"])
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (executable, prefix) = output.trim().split_once(' ').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    std::fs::copy(executable, &shop).unwrap();
    let mut command = Command::new(&shop);
    command.env("PYTHONHOME", prefix).env("LD_LIBRARY_PATH", Path::new(prefix).join("lib"));
    let program = recognise(command.args(["-c", "print('ready', flush=True); input()"]));
    assert_eq!(program.runtime, &PYTHON);
}

#[test]
fn this_program_is_rust_on_tokio() {
    // Using the pool links it into the test's executable.
    let pool = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let program = Recogniser::default().recognise(&Process::myself().unwrap());
    drop(pool);
    assert_eq!((program.runtime.name, program.work), ("rust", Work::Scheduler));
}
