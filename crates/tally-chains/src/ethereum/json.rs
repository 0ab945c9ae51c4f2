//! JSON as deep as the EVM calls.
//!
//! A call trace nests two levels of JSON for each level of calls, and the EVM allows 1,024 of those; a payer can
//! make such a transaction. serde_json stops at 128 levels to protect its stack. So deep answers are read on a
//! thread with a stack for the depth that was measured first, without recursion.

use std::io;
use std::thread;

use serde::de::DeserializeOwned;

/// Two levels for each of 1,024 calls, and what stands around them.
const DEPTH_MAX: usize = 2_100;
/// Stack for one level: some ten times what an optimised build takes, for builds that are not.
const STACK_PER_LEVEL: usize = 32 * 1024;

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonError {
    /// Not JSON, or not of the form it should be.
    #[error("json of another form")]
    Form(#[from] serde_json::Error),
    /// Nested deeper than the EVM calls.
    #[error("json nested {0} levels deep")]
    Depth(usize),
    /// No thread could be had.
    #[error("no thread for a deep answer")]
    Thread(#[source] io::Error),
    /// The thread ended without a result.
    #[error("the thread for a deep answer failed")]
    Lost,
}

impl JsonError {
    /// The answer ends in the middle.
    pub(crate) fn is_truncated(&self) -> bool {
        matches!(self, Self::Form(error) if error.is_eof())
    }
}

/// Reads a value. It may take milliseconds for each megabyte.
pub(crate) fn parse<T: DeserializeOwned + Send>(bytes: &[u8]) -> Result<T, JsonError> {
    // One look at all bytes instead of one at each text. Bytes that are not UTF-8 have their reason
    // told by the reader of bytes.
    let read = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    };
    match read {
        // It has no kind of its own for that.
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => match depth(bytes) {
            depth @ ..=DEPTH_MAX => parse_deep(bytes, depth),
            depth => Err(JsonError::Depth(depth)),
        },
        outcome => Ok(outcome?),
    }
}

fn parse_deep<T: DeserializeOwned + Send>(bytes: &[u8], depth: usize) -> Result<T, JsonError> {
    let read = || {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        reader.disable_recursion_limit();
        let value = T::deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    };
    thread::scope(|scope| {
        let stack = depth.saturating_mul(STACK_PER_LEVEL);
        let reader = thread::Builder::new().stack_size(stack).spawn_scoped(scope, read);
        reader.map_err(JsonError::Thread)?.join().map_err(|_| JsonError::Lost)?
    })
}

/// How deep objects and arrays nest; of bytes that are no JSON, at least as deep as a reader would follow.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match (in_string, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Nest {
        #[serde(default)]
        calls: Vec<Nest>,
    }

    fn nested(levels: usize) -> String {
        format!("{}{{}}{}", r#"{"calls":["#.repeat(levels), "]}".repeat(levels))
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        for (text, expected) in
            [("1", 0), ("[]", 1), (r#"{"a":[{}]}"#, 3), (r#"["[[\"[[\\"]"#, 1), ("]]][", 1)]
        {
            assert_eq!(depth(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn calls_are_read_as_deep_as_the_evm_goes() {
        for levels in [0, 49, 50, 64, 1_024] {
            let mut nest: Nest = parse(nested(levels).as_bytes()).unwrap();
            for _ in 0..levels {
                nest = nest.calls.pop().unwrap();
            }
            assert!(nest.calls.is_empty());
        }
        assert!(matches!(parse::<Nest>(nested(100_000).as_bytes()), Err(JsonError::Depth(200_001))));
        assert!(matches!(parse::<Nest>(nested(200).replace("]}", "]").as_bytes()), Err(JsonError::Form(_))));
    }
}
