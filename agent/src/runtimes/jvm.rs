//! The JVM. A service is named after its Spring application name, its jar without the version, or its main class.

mod argument_files;
mod spring;

use compact_str::{CompactString, format_compact};
use onlooker_common::unit;

use super::launch::{CommandLine, Launch, ServiceName};
use super::paths::stem;
use super::row::{Mark, Runtime, Version, When, Work};
use crate::attach::UnitOfWork;
use crate::attach::runtimes::jvm as virtual_threads;

pub(super) const JVM: Runtime = Runtime {
    name: "jvm",
    executables: &["java"],
    libraries: &["libjvm.so", "libjli.so"],
    // GraalVM's native image.
    hints: &[Mark::Section(".svm_heap")],
    version: Version::Installation("release", version_in_release),
    // How a JVM names the threads that wake virtual ones, by the clock and when a socket is ready (JDK 21 to 25). They
    // exist as soon as a virtual thread has waited.
    work_exceptions: &[(
        When::HasThread(&["VirtualThread-", "MasterPoller", "Master-Poller", "Read-Poller", "Write-Poller"]),
        Work::VirtualThreads,
    )],
    unit_of_work: Some(UnitOfWork { kind: unit::VIRTUAL_THREAD, find: virtual_threads::find }),
    interprets: true,
    service_name,
    variables: &["SPRING_APPLICATION_NAME", JDK_JAVA_OPTIONS],
    sdk_language: Some("java"),
    ..Runtime::COMPILED
};

/// The launcher puts the options in this variable before those of the command line.
const JDK_JAVA_OPTIONS: &str = "JDK_JAVA_OPTIONS";

/// `JAVA_VERSION` in the file `release` of a JDK or JRE.
fn version_in_release(release: &str) -> Option<CompactString> {
    let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?.trim().trim_matches('"');
    (!version.is_empty() && version.len() <= 64).then(|| version.into())
}

/// The options that take the next argument as their value (java(1); `IsWhiteSpaceOption` in the JDK's launcher). All
/// others have it attached.
const WITH_VALUE: [&str; 16] = [
    "--add-exports",
    "--add-modules",
    "--add-opens",
    "--add-reads",
    "--class-path",
    "--enable-native-access",
    "--limit-modules",
    "--module-path",
    "--patch-module",
    "--source",
    "--upgrade-module-path",
    "-classpath",
    "-cp",
    "-p",
    "--describe-module",
    "-d",
];
/// Main classes that only start the application beside them.
const SPRING_LAUNCHERS: [&str; 3] = ["JarLauncher", "PropertiesLauncher", "WarLauncher"];

fn service_name(launch: &Launch<'_>) -> ServiceName {
    // A JVM does not write over its arguments.
    let CommandLine::Arguments(arguments) = launch.command_line() else { return ServiceName::Titled };
    let arguments = argument_files::expand(launch, &arguments, launch.variable(JDK_JAVA_OPTIONS).unwrap_or_default());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let property = |name: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix("-D")?.strip_prefix(name)?.strip_prefix('='))
    };
    let main = main(&arguments);
    let rest = main.map_or(&[][..], |(_, at)| arguments.get(at + 1..).unwrap_or_default());
    let given = property("otel.service.name")
        .or_else(|| rest.iter().find_map(|argument| argument.strip_prefix("--spring.application.name=")))
        .or_else(|| property("spring.application.name"))
        .or(launch.variable("SPRING_APPLICATION_NAME"))
        .filter(|name| !name.is_empty());
    if let Some(name) = given {
        return ServiceName::of(name);
    }
    let jar_path = main.and_then(|(main, _)| if let Main::Jar(path) = main { Some(path) } else { None });
    if let Some(name) = spring::configured(launch, jar_path) {
        return ServiceName::of(&name);
    }
    match main {
        Some((Main::Jar(path), _)) => ServiceName::of(jar(path)),
        Some((Main::Class(class), _)) => started(launch, class),
        None => ServiceName::Unknown,
    }
}

/// What a command line runs.
#[derive(Clone, Copy)]
enum Main<'a> {
    Jar(&'a str),
    Class(&'a str),
}

/// The application that is run, and its index among the arguments.
fn main<'a>(arguments: &[&'a str]) -> Option<(Main<'a>, usize)> {
    let mut at = 0;
    loop {
        let argument = *arguments.get(at)?;
        let next = || Some((*arguments.get(at + 1)?, at + 1));
        match argument {
            "-jar" => return next().map(|(jar, at)| (Main::Jar(jar), at)),
            "-m" | "--module" => {
                let (module, at) = next()?;
                // module/class, or the module's own main class.
                return Some((Main::Class(module.rsplit('/').next().unwrap_or(module)), at));
            }
            option if WITH_VALUE.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            // A file of arguments that could not be read. What follows may be an argument of the application.
            file if file.starts_with('@') => return None,
            source if source.ends_with(".java") => return Some((Main::Jar(source), at)),
            class => return Some((Main::Class(class), at)),
        }
    }
}

/// `shop` of /srv/shop-1.2.0-SNAPSHOT.jar.
fn jar(path: &str) -> &str {
    let stem = stem(path);
    let version = stem.match_indices('-').find(|(at, _)| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    match version {
        Some((at, _)) if at > 0 => &stem[..at],
        _ => stem,
    }
}

fn started(launch: &Launch<'_>, class: &str) -> ServiceName {
    let (package, simple) = class.rsplit_once('.').unwrap_or(("", class));
    if SPRING_LAUNCHERS.contains(&simple) && package.starts_with("org.springframework.boot.loader") {
        let manifest = (launch.read)(&launch.absolute("META-INF/MANIFEST.MF")).unwrap_or_default();
        let start = manifest.lines().find_map(|line| line.strip_prefix("Start-Class:"));
        let start = start.map(|class| class.trim().rsplit('.').next().unwrap_or_default());
        return ServiceName::of(start.or(launch.project()).unwrap_or(simple));
    }
    match (package.rsplit('.').next().unwrap_or_default(), simple) {
        ("startup", "Bootstrap") if package == "org.apache.catalina.startup" => ServiceName::of("tomcat"),
        // Such a name says nothing without its package.
        (last, "Main" | "App" | "Application" | "Bootstrap" | "Launcher" | "Server") if !last.is_empty() => {
            ServiceName::of(&format_compact!("{last}.{simple}"))
        }
        _ => ServiceName::of(simple),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtimes::sample::{named, named_in};

    const JAVA: &str = "/usr/lib/jvm/java-17/bin/java";

    #[rstest]
    #[case::jar(&["java", "-Xmx1g", "-jar", "/srv/shop-1.2.0-SNAPSHOT.jar", "--server.port=80"], "shop")]
    #[case::jar_of_two_words(&["java", "-jar", "shop-api-2.jar"], "shop-api")]
    #[case::jar_without_version(&["java", "-jar", "shop-all.jar"], "shop-all")]
    #[case::jar_of_digits(&["java", "-jar", "-1.jar"], "-1")]
    #[case::class(&["java", "-cp", "/srv/lib/*", "-Dlog=x", "com.example.ShopServer", "--port", "80"], "ShopServer")]
    #[case::class_without_package(&["java", "Shop"], "Shop")]
    #[case::class_that_says_little(&["java", "-classpath", "x", "com.example.shop.Main"], "shop.Main")]
    #[case::module(&["java", "-p", "mods", "-m", "com.example.shop/com.example.shop.ShopServer"], "ShopServer")]
    #[case::source(&["java", "Shop.java"], "Shop")]
    #[case::tomcat(&["java", "-cp", "bootstrap.jar", "org.apache.catalina.startup.Bootstrap", "start"], "tomcat")]
    #[case::spring_argument(&["java", "-jar", "app.jar", "--spring.application.name=shop"], "shop")]
    #[case::spring_property(&["java", "-Dspring.application.name=shop", "-jar", "app.jar"], "shop")]
    #[case::otel_property(&["java", "-javaagent:otel.jar", "-Dotel.service.name=shop", "-jar", "app.jar"], "shop")]
    fn java_is_named_after_its_jar_or_class(#[case] command: &[&str], #[case] name: &str) {
        assert_eq!(named(&JVM, JAVA, command, "/srv/depot", &[]), ServiceName::of(name));
    }

    /// Issue 7, fault 3.
    #[rstest]
    #[case::argument_files(&["java", "@user_args.txt", "@unix_args.txt", "nogui"], "ShopServer")]
    #[case::option_with_value(&["java", "--enable-native-access", "ALL-UNNAMED", "-jar", "app.jar"], "app")]
    fn an_argument_is_not_a_class(#[case] command: &[&str], #[case] name: &str) {
        let files = [
            ("/srv/depot/user_args.txt", "# -Xmx4G\n"),
            ("/srv/depot/unix_args.txt", "-cp \"lib/a b.jar\"\n-Dx=y com.example.ShopServer --target 'a b'"),
        ];
        assert_eq!(named(&JVM, JAVA, command, "/srv/depot", &files), ServiceName::of(name));
    }

    /// Issue 7, fault 3.
    #[test]
    fn an_unreadable_argument_file_makes_the_class_unknown() {
        let command = ["java", "@user_args.txt", "s3cret"];
        assert_eq!(named(&JVM, JAVA, &command, "/srv/depot", &[]), ServiceName::Unknown);
    }

    /// Issue 7, fault 3.
    #[test]
    fn options_of_the_environment_are_read() {
        let variables = [(JDK_JAVA_OPTIONS, "-Xmx1g -Dspring.application.name=shop")];
        let found = named_in(&JVM, JAVA, None, &["java", "-jar", "app.jar"], "/", &[], &variables);
        assert_eq!(found, ServiceName::of("shop"));
    }

    #[test]
    fn an_unpacked_spring_application_is_named_by_its_files() {
        let command = ["java", "org.springframework.boot.loader.launch.JarLauncher"];
        let judge = |files: &[(&str, &str)]| named(&JVM, JAVA, &command, "/srv/depot", files);
        let manifest = "Manifest-Version: 1.0\r\nStart-Class: com.example.ShopApplication\r\n";
        assert_eq!(judge(&[]), ServiceName::of("depot"));
        assert_eq!(judge(&[("/srv/depot/META-INF/MANIFEST.MF", manifest)]), ServiceName::of("ShopApplication"));
        let properties = "/srv/depot/BOOT-INF/classes/application.properties";
        assert_eq!(judge(&[(properties, "a=b\nspring.application.name = shop\n")]), ServiceName::of("shop"));
        assert_eq!(judge(&[(properties, "spring.application.name=${NAME}")]), ServiceName::of("depot"));
    }

    #[test]
    fn a_spring_application_is_named_by_its_environment() {
        let variables = [("SPRING_APPLICATION_NAME", "shop")];
        let command = ["java", "-jar", "app.jar"];
        assert_eq!(named_in(&JVM, JAVA, None, &command, "/", &[], &variables), ServiceName::of("shop"));
    }

    #[rstest]
    #[case::debian("IMPLEMENTOR=\"Debian\"\nJAVA_VERSION=\"17.0.15\"\n", Some("17.0.15"))]
    #[case::none("IMPLEMENTOR=\"Debian\"\n", None)]
    #[case::empty("JAVA_VERSION=\"\"\n", None)]
    fn a_jdk_has_its_version_in_a_file(#[case] release: &str, #[case] version: Option<&str>) {
        assert_eq!(version_in_release(release).as_deref(), version);
    }

    #[test]
    fn a_jvm_without_a_main_class_is_unknown() {
        for command in [&["java"][..], &["java", "-jar"], &["java", "-cp", "x"], &["java", "-version"]] {
            assert_eq!(named(&JVM, JAVA, command, "/", &[]), ServiceName::Unknown);
        }
    }
}
