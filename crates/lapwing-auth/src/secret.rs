//! Bytes that nobody is shown.

use std::fmt;

/// A secret: never in `Debug`, overwritten when it is dropped as far as the compiler lets us.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps it.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // The compiler must not think that nobody looks.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
