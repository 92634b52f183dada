//! Where included files and variables come from.

/// A file that was included.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The name that errors call it by, and that its own includes are relative to.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Gives the parser what stands outside the text.
pub trait Loader {
    /// The file that `from` includes as `name`. Includes are relative to the including file's folder.
    ///
    /// # Errors
    /// Why there is no such file, in words.
    fn include(&self, from: &str, name: &str) -> Result<Loaded, String>;

    /// The environment variable of that name.
    fn variable(&self, name: &str) -> Option<String>;
}

/// Neither files nor environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Loader for NoFiles {
    fn include(&self, _: &str, name: &str) -> Result<Loaded, String> {
        Err(format!("there are no files to include '{name}' from"))
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}
