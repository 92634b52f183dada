//! Files that keep a peer's key.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use midge_identity::pem::{self, KeyTextError};
use midge_identity::{KEY_BYTES, KeyPair};
use rustls::crypto::ring;
use tracing::warn;
use zeroize::Zeroizing;

/// What nobody but the owner may do with such a file.
const OTHERS: u32 = 0o077;
/// What the owner may.
const OWNER: u32 = 0o600;

/// Why there is no key.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("key file {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("key file {}: {why}", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        why: KeyTextError,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes to make a key of")]
    Random,
}

/// A new key.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_key() -> Result<KeyPair, KeyFileError> {
    let mut seed = Zeroizing::new([0; KEY_BYTES]);
    ring::default_provider().secure_random.fill(&mut *seed).map_err(|_| KeyFileError::Random)?;
    KeyPair::from_seed(&seed).map_err(|_| KeyFileError::Random)
}

/// Text that nobody guesses.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_text() -> Result<String, KeyFileError> {
    let mut random = [0; 32];
    ring::default_provider().secure_random.fill(&mut random).map_err(|_| KeyFileError::Random)?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&random))
}

/// The key that the file holds, in any form that [`pem::read_private`] knows.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn read(path: &Path) -> Result<KeyPair, KeyFileError> {
    let refuse = |source| KeyFileError::File { path: path.to_owned(), source };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(refuse)?);
    let mode = fs::metadata(path).map_err(refuse)?.permissions().mode();
    if mode & OTHERS != 0 {
        warn!("Key file {} may be read by others: chmod 600 it", path.display());
    }
    pem::read_private(&text).map_err(|why| KeyFileError::Text { path: path.to_owned(), why })
}

/// The key that the file holds; if there is no such file, a new key, and the file with it.
///
/// # Errors
/// It cannot be read or written, or holds none.
pub fn read_or_make(path: &Path) -> Result<KeyPair, KeyFileError> {
    match read(path) {
        Err(KeyFileError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            match write(path, &pem::private(&new_key()?)) {
                // Somebody else was quicker: that key is the one.
                Err(KeyFileError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                    read(path)
                }
                Err(why) => Err(why),
                Ok(()) => read(path),
            }
        }
        other => other,
    }
}

/// Writes a key's text to a new file that only the owner may read. Either all of it is there, or nothing; a file that is
/// there already stays.
///
/// # Errors
/// It cannot be written, or is there already.
pub fn write(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let refuse = |source| KeyFileError::File { path: path.to_owned(), source };
    // Nobody else's, whoever else does this just now.
    let mut random = [0; 8];
    ring::default_provider().secure_random.fill(&mut random).map_err(|_| KeyFileError::Random)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", u64::from_le_bytes(random)));
    let beside = path.with_file_name(name);
    let made = put(&beside, text).and_then(|()| fs::hard_link(&beside, path));
    // Whether or not it has another name now.
    let _ = fs::remove_file(&beside);
    made.map_err(refuse)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refuse)
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER).open(path)?;
    // Whatever the process's mask takes away.
    file.set_permissions(Permissions::from_mode(OWNER))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("midge-key-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_is_made_once_and_only_the_owner_may_read_it() {
        let folder = Folder::new("once");
        let path = folder.0.join("peer.key");
        let key = read_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap().public(), key.public());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left");
        assert!(
            matches!(write(&path, "x"), Err(KeyFileError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists)
        );
        assert_eq!(read(&path).unwrap().public(), key.public(), "what is there stays");
    }

    #[test]
    fn many_at_once_agree_on_one_key() {
        let folder = Folder::new("many");
        let path = folder.0.join("peer.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| read_or_make(&path))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut ids: Vec<_> = keys.into_iter().flatten().map(|key| key.peer_id()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn what_is_wrong_names_the_file_and_no_secret() {
        let folder = Folder::new("wrong");
        let path = folder.0.join("bad.key");
        fs::write(&path, "SUAAA secret").unwrap();
        let error = read_or_make(&path).unwrap_err().to_string();
        assert!(error.contains("bad.key") && !error.contains("secret"), "{error}");
        let missing = folder.0.join("none/peer.key");
        assert!(read_or_make(&missing).unwrap_err().to_string().contains("none/peer.key"));
    }
}
