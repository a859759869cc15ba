//! What is left on a disk that has lost power.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A folder in memory where the system has one. The disk that is meant here is made up anyway.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// The layer that forgets.
pub(crate) fn compile(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powercut/forget.c");
    let layer = folder.join("forget.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]).arg(&layer).arg(source);
    assert!(cc.status().expect("cc is needed").success());
    layer
}

/// Takes a folder as it is for what is on the disk.
pub(crate) fn adopt(folder: &Path, mirror: &Path) {
    let mut names = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let inode = entry.metadata().unwrap().ino();
        names += &format!("{inode} {}\n", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            adopt(&entry.path(), mirror);
        } else {
            write_sparse(&mirror.join(format!("data.{inode}")), &fs::read(entry.path()).unwrap());
            fs::hard_link(entry.path(), mirror.join(format!("held.{inode}"))).unwrap();
        }
    }
    let inode = folder.metadata().unwrap().ino();
    fs::write(mirror.join(format!("names.{inode}")), names).unwrap();
}

/// Makes what is left of `folder/data`, from what was synced and by chance from what was not.
pub(crate) fn restore(folder: &Path, target: &Path, random: &mut Random) {
    let data = folder.join("data");
    let mut real = HashMap::new();
    collect(&data, &mut real);
    let left = Left { mirror: folder.join("mirror"), real };
    left.folder(data.metadata().unwrap().ino(), target, random);
}

/// The files and folders that are there, by inode.
fn collect(folder: &Path, found: &mut HashMap<u64, PathBuf>) {
    found.insert(folder.metadata().unwrap().ino(), folder.to_owned());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.insert(path.metadata().unwrap().ino(), path);
        }
    }
}

/// A journal is large and mostly empty.
fn write_sparse(path: &Path, bytes: &[u8]) {
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    fs::write(path, &bytes[..used]).unwrap();
    File::options().write(true).open(path).unwrap().set_len(bytes.len() as u64).unwrap();
}

struct Left {
    mirror: PathBuf,
    real: HashMap<u64, PathBuf>,
}

impl Left {
    fn folder(&self, inode: u64, target: &Path, random: &mut Random) {
        fs::create_dir_all(target).unwrap();
        for (inode, name) in self.names(inode, random) {
            let target = target.join(name);
            let is_folder = self.real.get(&inode).is_some_and(|path| path.is_dir())
                || self.mirror.join(format!("names.{inode}")).exists();
            if is_folder {
                self.folder(inode, &target, random);
            } else {
                write_sparse(&target, &self.bytes(inode, random));
            }
        }
    }

    /// The names in a folder: those that were synced, or now and then those that it has had last.
    fn names(&self, inode: u64, random: &mut Random) -> Vec<(u64, String)> {
        if let (Some(path), 0) = (self.real.get(&inode), random.below(3)) {
            let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
            let name = |entry: fs::DirEntry| {
                (entry.metadata().unwrap().ino(), entry.file_name().into_string().unwrap())
            };
            let mut names: Vec<_> = entries.map(name).collect();
            names.sort();
            return names;
        }
        let text = fs::read_to_string(self.mirror.join(format!("names.{inode}"))).unwrap_or_default();
        let names = text.lines().map(|line| line.split_once(' ').unwrap());
        let mut names: Vec<_> =
            names.map(|(inode, name)| (inode.parse().unwrap(), name.to_owned())).collect();
        names.sort();
        names
    }

    /// The bytes of a file: those that were synced, and half of the time some pages of the others.
    fn bytes(&self, inode: u64, random: &mut Random) -> Vec<u8> {
        const PAGE: usize = 4096;
        let mut bytes = fs::read(self.mirror.join(format!("data.{inode}"))).unwrap_or_default();
        let Some(path) = self.real.get(&inode).filter(|_| random.below(2) == 0) else { return bytes };
        let last = fs::read(path).unwrap();
        for start in (0..last.len()).step_by(PAGE) {
            let page = &last[start..last.len().min(start + PAGE)];
            let end = start + page.len();
            if bytes.get(start..end) != Some(page) && random.below(2) == 0 {
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(page);
            }
        }
        bytes
    }
}
