//! Compiled programs: a service is named after its executable.

use super::launch::{Launch, ServiceName};
use super::paths::file_name;

/// Names it after the path it was started by, because one executable may be several programs (busybox; redis-server is
/// a link). Otherwise after its file.
pub(super) fn service_name(launch: &Launch<'_>) -> ServiceName {
    let name = launch.started_by.map(file_name).filter(|name| !name.is_empty() && !is_loader(name));
    let name = name.unwrap_or(file_name(launch.executable));
    // memfd_create(2): /memfd:shop
    ServiceName::of(name.strip_prefix("memfd:").unwrap_or(name))
}

/// The dynamic linker, which was started with a program as its argument.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux") || name.starts_with("ld-musl")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::row::Runtime;
    use crate::runtimes::sample::named_in;
    use crate::runtimes::{by_executable, table};

    #[rstest]
    #[case::file("/srv/shop", None, &["./shop"], "shop")]
    #[case::dots_are_part_of_the_name("/opt/shop-1.2", None, &["shop-1.2"], "shop-1.2")]
    #[case::link("/usr/bin/redis-check-rdb", Some("/usr/bin/redis-server"), &["/usr/bin/redis-server *:6379"], "redis-server")]
    #[case::many_programs_in_one("/bin/busybox", Some("/bin/httpd"), &["httpd", "-f"], "httpd")]
    #[case::title("/usr/sbin/nginx", Some("/usr/sbin/nginx"), &["nginx: worker process"], "nginx")]
    #[case::title_with_secrets("/usr/lib/postgresql/15/bin/postgres", None, &["postgres: alice shop 10.0.0.7(4711) idle"], "postgres")]
    #[case::loader("/srv/shop", Some("/lib64/ld-linux-x86-64.so.2"), &["ld.so", "/srv/shop"], "shop")]
    #[case::in_memory("/memfd:shop", None, &["shop"], "shop")]
    fn a_compiled_program_has_its_own_name(
        #[case] executable: &str,
        #[case] started_by: Option<&str>,
        #[case] command: &[&str],
        #[case] name: &str,
    ) {
        let runtime = by_executable(file_name(executable.as_ref())).unwrap_or(&table::NATIVE);
        let found = named_in(runtime, executable, started_by, command, "/", &[], &[]);
        assert_eq!(found, ServiceName::of(name));
    }

    #[test]
    fn a_server_with_an_interpreter_inside_has_its_own_name() {
        let php: &Runtime = by_executable("php").unwrap();
        let found = named_in(php, "/usr/sbin/apache2", None, &["apache2", "-k", "start"], "/", &[], &[]);
        assert_eq!(found, ServiceName::of("apache2"));
    }
}
