//! Where a read model lies: a folder, or after a rebuild another one that a small file beside it names.
//!
//! sled cannot be moved while it is open, so a rebuilt model stays where it was made and only the name changes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The place of one read model, `model` for example: `model`, or the folder that `model.current` names.
#[derive(Debug, Clone)]
pub(crate) struct ModelFolder {
    base: PathBuf,
}

impl ModelFolder {
    pub(crate) fn new(base: PathBuf) -> Self {
        Self { base }
    }

    fn name(&self) -> &str {
        self.base.file_name().and_then(|name| name.to_str()).unwrap_or("model")
    }

    fn parent(&self) -> &Path {
        self.base.parent().unwrap_or(Path::new("."))
    }

    fn pointer(&self) -> PathBuf {
        self.base.with_extension("current")
    }

    /// The number of a rebuilt model's folder; `None` for any other name.
    fn generation(&self, name: &str) -> Option<u64> {
        name.strip_prefix(self.name())?.strip_prefix(".gen")?.parse().ok()
    }

    /// The folder in use.
    pub(crate) fn current(&self) -> PathBuf {
        let named = fs::read_to_string(self.pointer()).unwrap_or_default();
        match self.generation(named.trim()) {
            Some(_) => self.parent().join(named.trim()),
            None => self.base.clone(),
        }
    }

    /// A folder that is not there yet, for a new model.
    pub(crate) fn next(&self) -> PathBuf {
        let current = self.current();
        let number = current.file_name().and_then(|name| self.generation(name.to_str()?)).unwrap_or(0);
        let mut next = number.saturating_add(1);
        loop {
            let path = self.parent().join(format!("{}.gen{next}", self.name()));
            if !path.exists() {
                return path;
            }
            next = next.saturating_add(1);
        }
    }

    /// Makes a folder the one in use, also after a loss of power.
    pub(crate) fn switch_to(&self, folder: &Path) -> anyhow::Result<()> {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let written = self.base.with_extension("current.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&written)?;
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
            fs::rename(&written, self.pointer())?;
            File::open(self.parent())?.sync_all()
        };
        write().with_context(|| format!("{} cannot be written", self.pointer().display()))
    }

    /// Removes what is not in use: models before the current one, and rebuilds that did not end.
    pub(crate) fn remove_others(&self) -> anyhow::Result<()> {
        let current = self.current();
        for folder in self.all()?.into_iter().filter(|folder| *folder != current) {
            fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        }
        Ok(())
    }

    /// Every folder of this model that is there.
    fn all(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.parent());
        let entries = entries.with_context(|| format!("{} cannot be read", self.parent().display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.path().is_dir() && (*name == *self.name() || self.generation(&name).is_some()) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// The read models below a data folder, by the names that processes give them.
    pub(crate) fn all_below(data_dir: &Path) -> Vec<Self> {
        let names = ["model", "model-project", "model-api", "model-notify", "model-admin"];
        let known = names.map(|name| Self::new(data_dir.join(name)));
        known.into_iter().filter(|model| model.all().is_ok_and(|folders| !folders.is_empty())).collect()
    }

    /// Removes the read model; it is folded again from the log.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        for folder in self.all()? {
            fs::remove_dir_all(&folder)?;
        }
        match fs::remove_file(self.pointer()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuilt_model_takes_the_place_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let model = ModelFolder::new(dir.path().join("model"));
        let other = dir.path().join("model-api");
        fs::create_dir(&other).unwrap();
        assert_eq!(model.current(), dir.path().join("model"));
        fs::create_dir(model.current()).unwrap();
        for name in ["model.gen1", "model.gen2"] {
            let next = model.next();
            assert_eq!(next, dir.path().join(name));
            fs::create_dir(&next).unwrap();
            model.switch_to(&next).unwrap();
            assert_eq!(model.current(), next);
        }
        fs::create_dir(model.next()).unwrap();
        model.remove_others().unwrap();
        assert_eq!(model.all().unwrap(), [dir.path().join("model.gen2")]);
        assert!(other.exists(), "another process's model is left alone");
        assert_eq!(ModelFolder::all_below(dir.path()).len(), 2);
        model.remove().unwrap();
        assert_eq!(model.current(), dir.path().join("model"));
    }
}
