//! The name of a Spring application: `spring.application.name` in the files that Spring Boot reads.
//!
//! The files are beside the application or inside of its jar. Files of a profile are ignored, because the active profiles
//! cannot be seen from outside. What is read is bounded: a jar is a file of the traced process and may contain anything.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use zip::ZipArchive;

use crate::runtimes::launch::Launch;

/// Folders and files in the order in which Spring takes the name from them (Spring Boot, "Externalized Configuration").
/// Spring Cloud's `bootstrap` comes last.
const BESIDE: [&str; 3] = ["config/", "", "BOOT-INF/classes/"];
const INSIDE: [&str; 4] =
    ["BOOT-INF/classes/config/", "BOOT-INF/classes/", "WEB-INF/classes/config/", "WEB-INF/classes/"];
const FILES: [(&str, Format); 6] = [
    ("application.properties", Format::Properties),
    ("application.yml", Format::Yaml),
    ("application.yaml", Format::Yaml),
    ("bootstrap.properties", Format::Properties),
    ("bootstrap.yml", Format::Yaml),
    ("bootstrap.yaml", Format::Yaml),
];

const KEY: &str = "spring.application.name";
/// A document that only applies to some profiles has this key, or before Spring Boot 2.4 a value of the other one.
const ON_PROFILE: &str = "spring.config.activate.on-profile";
const PROFILES: &str = "spring.profiles";

/// How much of a jar is read at most. The list of its files has 100 bytes for each.
const JAR_READ_BYTES: u64 = 4 << 20;
/// How much of a file inside of a jar is read.
const FILE_READ_BYTES: u64 = 256 << 10;

#[derive(Debug, Clone, Copy)]
enum Format {
    Properties,
    Yaml,
}

/// The name in the files beside the application, or else in its jar.
pub(super) fn configured(launch: &Launch<'_>, jar: Option<&str>) -> Option<String> {
    let folder = launch.working_directory;
    let beside = |path: &str| (launch.read)(&folder?.join(path));
    in_files(&BESIDE, beside).or_else(|| {
        let jar = (launch.open)(&launch.absolute(jar?))?;
        let mut archive = ZipArchive::new(Bounded { file: jar, left: JAR_READ_BYTES }).ok()?;
        in_files(&INSIDE, |path| {
            let mut text = String::new();
            archive.by_name(path).ok()?.take(FILE_READ_BYTES).read_to_string(&mut text).ok()?;
            Some(text)
        })
    })
}

fn in_files(folders: &[&str], mut read: impl FnMut(&str) -> Option<String>) -> Option<String> {
    // All folders with `application` come before `bootstrap`.
    let (application, bootstrap) = FILES.split_at(3);
    [application, bootstrap].into_iter().find_map(|files| {
        folders.iter().find_map(|folder| {
            files.iter().find_map(|(file, format)| name_in(&read(&format!("{folder}{file}"))?, *format))
        })
    })
}

/// The name in a file. The last document that has it and applies to all profiles counts.
fn name_in(text: &str, format: Format) -> Option<String> {
    let mut found = None;
    let mut name: Option<String> = None;
    let mut of_profiles = false;
    // The keys that contain the line, with their indentation.
    let mut parents: Vec<(usize, &str)> = Vec::new();
    for line in text.lines().chain(["---", "#---"]) {
        let ends_document = match format {
            Format::Properties => matches!(line.trim_end(), "#---" | "!---"),
            Format::Yaml => line.trim_end() == "---",
        };
        if ends_document {
            let name = name.take();
            if !std::mem::take(&mut of_profiles) {
                found = name.or(found);
            }
            parents.clear();
            continue;
        }
        let trimmed = line.trim_start();
        let separates = |c| c == ':' || c == '=' && matches!(format, Format::Properties);
        let Some(at) = trimmed.find(separates).filter(|_| !trimmed.starts_with(['#', '!'])) else { continue };
        let (key, value) = (trimmed[..at].trim_end(), trimmed[at + 1..].trim());
        let indentation = line.len() - trimmed.len();
        if let Format::Yaml = format {
            parents.retain(|(parent, _)| *parent < indentation);
        }
        let path: Vec<&str> = parents.iter().map(|(_, key)| *key).chain([key]).collect();
        let path = path.join(".");
        if path == KEY {
            name = plain(value, format);
        } else if path == ON_PROFILE || path == PROFILES && !value.is_empty() {
            of_profiles = true;
        }
        if let Format::Yaml = format {
            parents.push((indentation, key));
        }
    }
    found
}

/// A value without quotes and comment. None if it depends on what cannot be seen from outside: a placeholder of Spring or of
/// the build.
fn plain(value: &str, format: Format) -> Option<String> {
    let value = match format {
        Format::Properties => value,
        Format::Yaml => value.split_once(" #").map_or(value, |(value, _)| value).trim_end(),
    };
    let quoted = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    (!value.is_empty() && !value.contains("${") && !value.starts_with(['@', '|', '>', '&', '*', '{']))
        .then(|| value.to_owned())
}

/// Reads no more than a number of bytes of a file, in all.
struct Bounded {
    file: File,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("too much of the jar would have to be read"));
        }
        let read = self.file.by_ref().take(self.left).read(buffer)?;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use rstest::rstest;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::runtimes::jvm::JVM;
    use crate::runtimes::launch::ServiceName;
    use crate::runtimes::sample::named_with_open;

    fn jar(files: &[(&str, &str)]) -> File {
        let mut jar = ZipWriter::new(tempfile::tempfile().unwrap());
        for (name, text) in files {
            jar.start_file(*name, SimpleFileOptions::default()).unwrap();
            jar.write_all(text.as_bytes()).unwrap();
        }
        jar.finish().unwrap()
    }

    /// The name of `java -jar app.jar`, where the jar is this file.
    fn name_of(jar: &File) -> ServiceName {
        let open = |path: &Path| (path == Path::new("/srv/app.jar")).then(|| jar.try_clone().unwrap());
        named_with_open(&JVM, "/jdk/bin/java", &["java", "-jar", "app.jar", "x"], "/srv", &open)
    }

    /// Issue 7, fault 3: such a jar was named `app`.
    #[rstest]
    #[case::properties(&[("BOOT-INF/classes/application.properties", "a=b\nspring.application.name = shop\n")], "shop")]
    #[case::yaml(&[("BOOT-INF/classes/application.yml", "spring:\n  application:\n    name: \"shop\" # ours\n")], "shop")]
    #[case::flat_yaml(&[("BOOT-INF/classes/application.yaml", "spring.application.name: shop\n")], "shop")]
    #[case::war(&[("WEB-INF/classes/application.properties", "spring.application.name=shop")], "shop")]
    #[case::cloud(&[("BOOT-INF/classes/bootstrap.yml", "spring:\n  application:\n    name: shop\n")], "shop")]
    #[case::application_before_bootstrap(
        &[("BOOT-INF/classes/bootstrap.yml", "spring.application.name: old"), ("BOOT-INF/classes/application.yml", "spring.application.name: shop")],
        "shop"
    )]
    #[case::active_profiles(&[("BOOT-INF/classes/application.yml", "spring:\n  profiles:\n    active: prod\n  application:\n    name: shop\n")], "shop")]
    #[case::file_of_a_profile(&[("BOOT-INF/classes/application-prod.yml", "spring.application.name: prod")], "app")]
    #[case::document_of_a_profile(
        &[("BOOT-INF/classes/application.yml", "spring:\n  application:\n    name: shop\n---\nspring:\n  config:\n    activate:\n      on-profile: prod\n  application:\n    name: prod\n")],
        "shop"
    )]
    #[case::placeholder(&[("BOOT-INF/classes/application.properties", "spring.application.name=${NAME}")], "app")]
    #[case::another_name(&[("BOOT-INF/classes/application.yml", "app:\n  application:\n    name: no\nspring:\n  jpa:\n    name: no\n")], "app")]
    #[case::not_spring(&[("META-INF/MANIFEST.MF", "Main-Class: com.example.App\n")], "app")]
    fn a_spring_fat_jar_is_named_by_the_files_inside(#[case] files: &[(&str, &str)], #[case] name: &str) {
        assert_eq!(name_of(&jar(files)), ServiceName::of(name));
    }

    #[test]
    fn what_is_read_of_a_jar_is_bounded() {
        let text = format!("spring.application.name=shop\n#{}", "x".repeat(64 << 20));
        assert_eq!(name_of(&jar(&[("BOOT-INF/classes/application.properties", &text)])), ServiceName::of("shop"));
        // Its list of files alone is longer than what is read.
        let name = "x".repeat(60_000);
        let names: Vec<String> = (0..100).map(|number| format!("{name}{number}")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        files.push(("BOOT-INF/classes/application.properties", "spring.application.name=shop"));
        assert_eq!(name_of(&jar(&files)), ServiceName::of("app"));
    }

    #[test]
    fn a_damaged_jar_is_named_after_its_file() {
        let mut whole = Vec::new();
        let mut file = jar(&[("BOOT-INF/classes/application.properties", "spring.application.name=shop")]);
        file.rewind().unwrap();
        file.read_to_end(&mut whole).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            let mut cut = tempfile::tempfile().unwrap();
            cut.write_all(&whole[..length]).unwrap();
            assert_eq!(name_of(&cut), ServiceName::of("app"), "{length} bytes");
        }
    }
}
