//! A text that must not be printed.
//!
//! Not here: how secrets are stored; see `seal` and `key`.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret text: `Debug` hides it, comparing takes constant time, and only [`Secret::expose`] gives it out.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. Say it to its owner once, or sign with it; never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
