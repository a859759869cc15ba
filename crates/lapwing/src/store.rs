//! Where the broker keeps what outlives it.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use lapwing_broker::StoreConfig;
use lapwing_store::engine::{self, FjallEngine};

use crate::config::{Durability, Store};

/// Opens the store in a data directory, if the configuration asks for one.
pub(crate) fn open(config: &Store, data: Option<&Path>) -> anyhow::Result<Option<StoreConfig>> {
    let durability = match config.durability {
        Durability::Fsync => engine::Durability::Fsync,
        Durability::Os => engine::Durability::Os,
        Durability::Memory => return Ok(None),
    };
    let data = data.map_or_else(default_directory, |data| Ok(data.to_owned()))?;
    prepare(&data)?;
    let path = folder(&data);
    let options = engine::Options { memory: config.memory_bytes };
    let engine = FjallEngine::open(&path, options).with_context(|| {
        format!("the data directory {} cannot be used; --data names another one", data.display())
    })?;
    tracing::info!("what outlives this process is kept in {}", data.display());
    let options = lapwing_store::Options {
        durability,
        memory_bytes: usize::try_from(config.memory_bytes / 8)?,
        free_bytes_minimum: config.free_bytes_minimum,
        disk_bytes_maximum: config.disk_bytes_maximum,
        free_bytes: Box::new(move || free_bytes(&path)),
        ..lapwing_store::Options::default()
    };
    Ok(Some(StoreConfig { engine: Box::new(engine), options }))
}

/// Where in a data directory the store is.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("store")
}

/// The data directory where none is named.
pub(crate) fn default_directory() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("XDG_DATA_HOME").filter(|path| Path::new(path).is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = named.map(PathBuf::from).or_else(home);
    let base = base.ok_or_else(|| anyhow!("there is no home directory for data; write --data DIR"))?;
    Ok(base.join("lapwing"))
}

/// Makes the data directory, readable for its owner alone, or sees that it can be used.
pub(crate) fn prepare(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let shown = directory.display();
    if directory.as_os_str().is_empty() {
        bail!("the data directory has no name; write --data DIR");
    }
    if directory.exists() && !directory.is_dir() {
        bail!("the data directory {shown} is no directory; choose another with --data");
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("the data directory {shown} cannot be made; choose another with --data"))?;
    let cannot = || {
        format!(
            "the data directory {shown} cannot be written; give this user the right, or choose another with --data"
        )
    };
    let probe = directory.join(".lapwing-probe");
    std::fs::read_dir(directory).with_context(cannot)?;
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).with_context(cannot)
}

/// Bytes that are free on the disk of a folder, for those who may not use what is kept back.
fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
