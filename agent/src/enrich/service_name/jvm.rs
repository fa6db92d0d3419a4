//! The JVM: the name a Spring application was given, the jar without its version, or the main class.

use std::path::Path;

use compact_str::format_compact;

use super::{Command, Judgement, Launch, named};

/// Options that take the next argument for their value.
const WITH_VALUE: [&str; 15] = [
    "--add-exports",
    "--add-modules",
    "--add-opens",
    "--add-reads",
    "--class-path",
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
/// Main classes that only start what is found beside them.
const SPRING_LAUNCHERS: [&str; 3] = ["JarLauncher", "PropertiesLauncher", "WarLauncher"];

pub(super) fn judge(launch: &Launch<'_>) -> Judgement {
    // A JVM does not write over its arguments; what did is not understood.
    let Command::Arguments(arguments) = launch.command() else { return Judgement::Worker(None) };
    let property = |name: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix("-D")?.strip_prefix(name)?.strip_prefix('='))
    };
    let main = main(&arguments);
    let rest = main.map_or(&[][..], |(_, at)| arguments.get(at + 1..).unwrap_or_default());
    let given = property("otel.service.name")
        .or_else(|| rest.iter().find_map(|argument| argument.strip_prefix("--spring.application.name=")))
        .or_else(|| property("spring.application.name"))
        .or(launch.environment.spring_application_name.as_deref())
        .filter(|name| !name.is_empty());
    if let Some(name) = given {
        return named(name);
    }
    if let Some(name) = configured(launch) {
        return named(&name);
    }
    match main {
        Some((Main::Jar(path), _)) => named(jar(path)),
        Some((Main::Class(class), _)) => started(launch, class),
        None => Judgement::Unknown,
    }
}

#[derive(Clone, Copy)]
enum Main<'a> {
    Jar(&'a str),
    Class(&'a str),
}

/// What is run, and its place among the arguments.
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
            // @ is a file of more arguments.
            option if option.starts_with(['-', '@']) => at += 1,
            source if source.ends_with(".java") => return Some((Main::Jar(source), at)),
            class => return Some((Main::Class(class), at)),
        }
    }
}

/// `shop` of /srv/shop-1.2.0-SNAPSHOT.jar.
fn jar(path: &str) -> &str {
    let stem = super::stem(path);
    let version = stem.match_indices('-').find(|(at, _)| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    match version {
        Some((at, _)) if at > 0 => &stem[..at],
        _ => stem,
    }
}

fn started(launch: &Launch<'_>, class: &str) -> Judgement {
    let (package, simple) = class.rsplit_once('.').unwrap_or(("", class));
    if SPRING_LAUNCHERS.contains(&simple) && package.starts_with("org.springframework.boot.loader") {
        let manifest = (launch.read)(&launch.absolute("META-INF/MANIFEST.MF")).unwrap_or_default();
        let start = manifest.lines().find_map(|line| line.strip_prefix("Start-Class:"));
        let start = start.map(|class| class.trim().rsplit('.').next().unwrap_or_default());
        return named(start.or(launch.project()).unwrap_or(simple));
    }
    match (package.rsplit('.').next().unwrap_or_default(), simple) {
        ("startup", "Bootstrap") if package == "org.apache.catalina.startup" => named("tomcat"),
        // Says nothing without its package.
        (last, "Main" | "App" | "Application" | "Bootstrap" | "Launcher" | "Server") if !last.is_empty() => {
            named(&format_compact!("{last}.{simple}"))
        }
        _ => named(simple),
    }
}

/// `spring.application.name` in the files that Spring looks into beside an application that is not in one jar.
fn configured(launch: &Launch<'_>) -> Option<String> {
    let folder = launch.working_directory?;
    ["config/application.properties", "application.properties", "BOOT-INF/classes/application.properties"]
        .into_iter()
        .filter_map(|file| (launch.read)(&folder.join(Path::new(file))))
        .find_map(|text| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix("spring.application.name"))?;
            let name = line.trim_start().strip_prefix(['=', ':'])?.trim();
            // A placeholder is resolved by what cannot be seen from here.
            (!name.is_empty() && !name.contains("${")).then(|| name.to_owned())
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::tests::{judged, judged_in};
    use super::*;
    use crate::discover::runtime::Program;
    use crate::enrich::environment::Environment;

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
    #[case::argument_file(&["java", "@jvm.options", "kafka.Kafka", "server.properties"], "Kafka")]
    #[case::tomcat(&["java", "-cp", "bootstrap.jar", "org.apache.catalina.startup.Bootstrap", "start"], "tomcat")]
    #[case::spring_argument(&["java", "-jar", "app.jar", "--spring.application.name=shop"], "shop")]
    #[case::spring_property(&["java", "-Dspring.application.name=shop", "-jar", "app.jar"], "shop")]
    #[case::otel_property(&["java", "-javaagent:otel.jar", "-Dotel.service.name=shop", "-jar", "app.jar"], "shop")]
    fn java_is_what_it_runs(#[case] command: &[&str], #[case] name: &str) {
        assert_eq!(judged(Program::Jvm, JAVA, command, "/srv/depot", &[]), named(name));
    }

    #[test]
    fn spring_applications_unpacked() {
        let command = ["java", "org.springframework.boot.loader.launch.JarLauncher"];
        let judge = |files: &[(&str, &str)]| judged(Program::Jvm, JAVA, &command, "/srv/depot", files);
        let manifest = "Manifest-Version: 1.0\r\nStart-Class: com.example.ShopApplication\r\n";
        assert_eq!(judge(&[]), named("depot"));
        assert_eq!(judge(&[("/srv/depot/META-INF/MANIFEST.MF", manifest)]), named("ShopApplication"));
        let properties = "/srv/depot/BOOT-INF/classes/application.properties";
        assert_eq!(judge(&[(properties, "a=b\nspring.application.name = shop\n")]), named("shop"));
        assert_eq!(judge(&[(properties, "spring.application.name=${NAME}")]), named("depot"));
    }

    #[test]
    fn spring_applications_by_their_environment() {
        let environment = Environment { spring_application_name: Some("shop".into()), ..Environment::default() };
        let command = ["java", "-jar", "app.jar"];
        assert_eq!(judged_in(Program::Jvm, JAVA, None, &command, "/", &[], &environment), named("shop"));
    }

    #[test]
    fn a_jvm_without_a_main_class_is_unknown() {
        for command in [&["java"][..], &["java", "-jar"], &["java", "-cp", "x"], &["java", "-version"]] {
            assert_eq!(judged(Program::Jvm, JAVA, command, "/", &[]), Judgement::Unknown);
        }
    }
}
