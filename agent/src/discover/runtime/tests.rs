use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rstest::rstest;

use super::*;

fn made_of(links: &[&str]) -> Executable {
    Executable { links: links.iter().map(|link| (*link).into()).collect(), ..Executable::default() }
}

#[rstest]
#[case::python("/usr/bin/python3.11", &[], Program::Python, Some("3.11"), Work::ThreadUntilProvenOtherwise)]
#[case::python_of_unknown_version("/venv/bin/python3", &[], Program::Python, None, Work::ThreadUntilProvenOtherwise)]
#[case::uwsgi("/usr/bin/uwsgi", &["libc.so.6", "libpython3.9.so.1.0"], Program::Python, Some("3.9"), Work::ThreadUntilProvenOtherwise)]
#[case::renamed_ruby("/opt/shop/bin/worker", &["libruby-3.1.so.3.1"], Program::Ruby, Some("3.1"), Work::ThreadUntilProvenOtherwise)]
#[case::php_fpm("/usr/sbin/php-fpm8.2", &[], Program::Php, Some("8.2"), Work::ThreadUntilProvenOtherwise)]
#[case::node("/usr/bin/node", &[], Program::Node, None, Work::EventLoop)]
#[case::not_node("/usr/bin/node_exporter", &[], Program::Native, None, Work::ThreadUntilProvenOtherwise)]
#[case::nginx("/usr/sbin/nginx", &["libcrypt.so.1"], Program::Nginx, None, Work::EventLoopNoQueue)]
#[case::redis_on_debian("/usr/bin/redis-check-rdb", &[], Program::Redis, None, Work::EventLoop)]
#[case::postgres("/usr/lib/postgresql/15/bin/postgres", &["libldap-2.5.so.0", "libperl.so.5.36"], Program::Postgres, None, Work::ThreadUntilProvenOtherwise)]
#[case::beam("/usr/lib/erlang/erts-13/bin/beam.smp", &[], Program::Beam, None, Work::Scheduler)]
#[case::nothing_known("", &[], Program::Native, None, Work::ThreadUntilProvenOtherwise)]
fn programs_by_name_and_libraries(
    #[case] path: &str,
    #[case] links: &[&str],
    #[case] program: Program,
    #[case] version: Option<&str>,
    #[case] work: Work,
) {
    let runtime = judge(Path::new(path), &made_of(links), Vec::new, |_| None, |_| false);
    assert_eq!(runtime, Runtime { program, version: version.map(CompactString::from), work });
}

#[rstest]
#[case::mod_php("/usr/sbin/apache2", "/usr/lib/apache2/modules/libphp8.2.so", Program::Php, Some("8.2"))]
#[case::mod_python("/usr/sbin/apache2", "/usr/lib/libpython3.11.so.1.0", Program::Python, Some("3.11"))]
#[case::embedded_jvm("/opt/shop/shop", "/opt/jdk/lib/server/libjvm.so", Program::Jvm, None)]
#[case::app_host(
    "/opt/Shop",
    "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/libcoreclr.so",
    Program::DotNet,
    Some("8.0.1")
)]
#[case::perl_for_a_corner("/usr/sbin/snmpd", "/usr/lib/libperl.so.5.36", Program::Native, None)]
fn programs_by_what_is_mapped(
    #[case] path: &str,
    #[case] mapped: &str,
    #[case] program: Program,
    #[case] version: Option<&str>,
) {
    let runtime = judge(Path::new(path), &Executable::default(), || vec![mapped.into()], |_| None, |_| false);
    assert_eq!((runtime.program, runtime.version.as_deref()), (program, version));
}

#[test]
fn go_is_go_whatever_its_file_is_called() {
    let executable = Executable { go: Some(Some("go1.26.8".into())), ..Executable::default() };
    let runtime = judge(Path::new("/opt/node"), &executable, Vec::new, |_| None, |_| false);
    let expected = Runtime { program: Program::Go, version: Some("go1.26.8".into()), work: Work::Scheduler };
    assert_eq!(runtime, expected);
}

#[test]
fn nginx_with_lua_keeps_queues() {
    let lua = || vec!["/usr/lib/nginx/modules/ngx_http_lua_module.so".into()];
    let runtime = judge(Path::new("/usr/sbin/nginx"), &Executable::default(), lua, |_| None, |_| false);
    assert_eq!(runtime.work, Work::EventLoop);
}

#[rstest]
#[case::debian("IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\n", Some("17.0.15"))]
#[case::none("IMPLEMENTOR=\"Debian\"\n", None)]
#[case::empty("JAVA_VERSION=\"\"\n", None)]
fn a_jdk_tells_its_version(#[case] release: &str, #[case] version: Option<&str>) {
    let java = Path::new("/usr/lib/jvm/java-17/bin/java");
    let read = |file: &Path| {
        assert_eq!(file, Path::new("/usr/lib/jvm/java-17/release"));
        Some(release.to_owned())
    };
    let runtime = judge(java, &Executable::default(), Vec::new, read, |_| false);
    assert_eq!((runtime.program, runtime.version.as_deref()), (Program::Jvm, version));
}

#[rstest]
#[case::of_jdk_21(&["http-nio-8080-e", "ForkJoinPool-1-", "Read-Poller"], Work::Scheduler)]
#[case::of_jdk_25(&["ForkJoinPool-1-", "MasterPoller"], Work::Scheduler)]
#[case::that_only_sleep(&["VirtualThread-u"], Work::Scheduler)]
#[case::of_the_platform(&["http-nio-8080-P", "pool-1-thread-1", "ForkJoinPool-1-", "ForkJoinPool.co"], Work::ThreadUntilProvenOtherwise)]
fn a_jvm_is_judged_by_its_threads(#[case] threads: &[&str], #[case] work: Work) {
    let has_thread = |is: fn(&[u8]) -> bool| threads.iter().any(|thread| is(thread.as_bytes()));
    let runtime = judge(Path::new("/opt/jdk/bin/java"), &Executable::default(), Vec::new, |_| None, has_thread);
    assert_eq!(runtime.work, work);
}

/// Starts `command`, which says a line and waits for one, and recognises it.
fn recognise(command: &mut Command) -> Runtime {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let runtimes = Runtimes::default();
    let runtime = runtimes.of(&Process::open(child.id()).unwrap());
    let again = runtimes.of(&Process::open(child.id()).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(runtime, again);
    runtime
}

#[test]
fn a_running_python_is_recognised() {
    let runtime = recognise(Command::new("python3").args(["-c", "print('ready', flush=True); input()"]));
    assert_eq!((runtime.program, runtime.work), (Program::Python, Work::ThreadUntilProvenOtherwise));
}

#[test]
fn a_copied_interpreter_under_another_name_is_recognised() {
    let told = Command::new("python3")
        .args(["-c", "import os, sys; print(os.path.realpath(sys.executable), sys.base_prefix)"])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let (executable, prefix) = told.trim().split_once(' ').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    std::fs::copy(executable, &shop).unwrap();
    let mut command = Command::new(&shop);
    command.env("PYTHONHOME", prefix).env("LD_LIBRARY_PATH", Path::new(prefix).join("lib"));
    let runtime = recognise(command.args(["-c", "print('ready', flush=True); input()"]));
    assert_eq!(runtime.program, Program::Python);
}

#[test]
fn this_very_program_is_rust_on_tokio() {
    // The reference keeps tokio's threads in the test's executable.
    let pool = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let runtime = Runtimes::default().of(&Process::myself().unwrap());
    drop(pool);
    assert_eq!((runtime.program, runtime.work), (Program::Rust, Work::Scheduler));
}
