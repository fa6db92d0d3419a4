//! What file names and folders say about a program's name.

use std::path::Path;

/// The last component of a path, empty if it has none or is not UTF-8.
pub(super) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A file's name without its folders and its extension.
pub(super) fn stem(path: &str) -> &str {
    let name = file_name(Path::new(path));
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// `python` of python3.11, `php-fpm` of php-fpm8.2.
pub(super) fn without_version(file_name: &str) -> &str {
    file_name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
}

/// The name of the project in `folder`: the folder's name, without the levels that deployments put below a project
/// (`/srv/shop/current`, `/srv/shop/releases/20240131`). None for the root.
pub(super) fn project(folder: &Path) -> Option<&str> {
    let name = folder.file_name()?.to_str()?;
    let above = folder.parent()?;
    if name == "current" {
        return project(above).or(Some(name));
    }
    if file_name(above) == "releases" && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return project(above.parent()?).or(Some(name));
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::folder("/srv/shop", Some("shop"))]
    #[case::current("/srv/shop/current", Some("shop"))]
    #[case::release("/srv/shop/releases/20240131120000", Some("shop"))]
    #[case::not_a_release("/srv/releases/shop", Some("shop"))]
    #[case::root("/", None)]
    fn a_project_is_named_after_its_folder(#[case] folder: &str, #[case] name: Option<&str>) {
        assert_eq!(project(Path::new(folder)), name);
    }
}
