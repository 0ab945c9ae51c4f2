//! What can go wrong behind a port, by what the caller should do next.

use std::error::Error;
use std::fmt;

/// What the caller should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same call may go through later.
    Transient,
    /// It will not until a person has changed something.
    Persistent,
}

/// A failure behind a port.
#[derive(Debug)]
pub struct PortError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl PortError {
    /// A failure that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Transient, message: message.into(), source: None }
    }

    /// A failure that a person must see to; `message` names what is wrong and what to do.
    pub fn persistent(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Persistent, message: message.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller should do next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, and behind it what it comes down to: the first of its causes, where that is not said yet.
    pub fn in_full(&self) -> String {
        let mut root: &dyn Error = self;
        while let Some(cause) = root.source() {
            root = cause;
        }
        let root = root.to_string();
        if self.message.contains(&root) { self.message.clone() } else { format!("{}: {root}", self.message) }
    }

    /// Whether the same call may go through later.
    pub fn is_transient(&self) -> bool {
        self.kind == ErrorKind::Transient
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for PortError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_comes_down_to_is_said_once() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let inner = PortError::transient("no answer").because(refused());
        for (name, error, said) in [
            ("no cause", PortError::transient("no answer"), "no answer".to_owned()),
            (
                "a cause",
                PortError::transient("no answer").because(refused()),
                format!("no answer: {}", refused()),
            ),
            ("causes", PortError::persistent("stands").because(inner), format!("stands: {}", refused())),
            (
                "said before",
                PortError::transient(format!("no answer ({})", refused())).because(refused()),
                format!("no answer ({})", refused()),
            ),
        ] {
            assert_eq!(error.in_full(), said, "{name}");
        }
    }
}
