//! Folders that are made from a recipe, and made again when the recipe changes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Holds the recipe that the folder was made from. It is written last, so it marks a complete folder.
const RECIPE: &str = "made-from";

/// Makes `dir` with `make`, unless it was made from exactly this `recipe` before. Returns whether `make` was called.
pub(super) fn once(dir: &Path, recipe: &str, make: impl FnOnce() -> Result<()>) -> Result<bool> {
    let mark = dir.join(RECIPE);
    if self::recipe(dir).is_some_and(|made_from| made_from == recipe) {
        return Ok(false);
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove the old {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    make()?;
    fs::write(&mark, recipe).with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(true)
}

/// The recipe that `dir` was made from, if it was made completely.
pub(super) fn recipe(dir: &Path) -> Option<String> {
    fs::read_to_string(dir.join(RECIPE)).ok()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::once;

    #[test]
    fn a_folder_is_made_only_when_missing_changed_or_incomplete() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("part");
        assert!(once(&dir, "flour", || Ok(())).unwrap());
        assert!(!once(&dir, "flour", || bail!("made twice")).unwrap());
        assert!(once(&dir, "salt", || bail!("burnt")).is_err());
        assert!(once(&dir, "salt", || Ok(())).unwrap());
    }
}
