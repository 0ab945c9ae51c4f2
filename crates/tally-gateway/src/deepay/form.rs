//! A request's pairs, exactly as they were received: the sign is made over the decoded text.
//!
//! Not here: what the fields mean.

use std::collections::BTreeSet;
use std::fmt;

use axum::http::HeaderMap;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::extract::media_type;
use crate::problem::Problem;

/// Bodies above this are refused.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// The pairs of a request, in the order in which they came, no key twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads a body by its content type: form-encoded (also where none is named) or JSON.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        let kind = media_type(headers);
        let pairs = match kind.as_str() {
            "application/json" => json_pairs(body)?,
            "" | "application/x-www-form-urlencoded" => form_urlencoded::parse(body)
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
            other => {
                return Err(Problem::bad_request(format!(
                    "content type {other:?}: send application/x-www-form-urlencoded or application/json"
                )));
            }
        };
        let mut seen = BTreeSet::new();
        for (key, _) in &pairs {
            if !seen.insert(key) {
                return Err(Problem::field(&clip(key), "stands twice; each key may stand once"));
            }
        }
        Ok(Self { pairs })
    }

    /// All pairs.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// A field's value; `None` where it is absent or empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A field that must be there.
    pub(super) fn require(&self, key: &str) -> Result<&str, Problem> {
        self.get(key).ok_or_else(|| Problem::field(key, "is missing"))
    }

    /// A text of at most `max` bytes without control characters.
    pub(super) fn text(&self, key: &str, max: usize) -> Result<Option<&str>, Problem> {
        match self.get(key) {
            Some(text) if text.len() > max => {
                Err(Problem::field(key, format!("is {} bytes long; at most {max} are possible", text.len())))
            }
            Some(text) if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) => {
                Err(Problem::field(key, "has control characters"))
            }
            text => Ok(text),
        }
    }
}

/// The members of a JSON object as text: a string's content, a number's literal text.
fn json_pairs(body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let members: Members<'_> = serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body is not a JSON object: {error}")))?;
    members.0.into_iter().map(|(key, value)| Ok((key.clone(), scalar(&key, value.get())?))).collect()
}

fn scalar(key: &str, literal: &str) -> Result<String, Problem> {
    match literal.as_bytes().first() {
        Some(b'"') => serde_json::from_str(literal)
            .map_err(|error| Problem::field(&clip(key), format!("is not a JSON string: {error}"))),
        Some(b'{' | b'[') => Err(Problem::field(&clip(key), "must be a text or a number")),
        Some(b'n') => Ok(String::new()),
        _ => Ok(literal.to_owned()),
    }
}

/// An object's members in order, repeated keys included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

fn clip(key: &str) -> String {
    key.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_TYPE;

    use super::*;

    fn parse(kind: &str, body: &str) -> Result<Vec<(String, String)>, Problem> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        Form::parse(&headers, body.as_bytes()).map(|form| form.pairs)
    }

    #[test]
    fn values_keep_their_text() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let form = parse("", "a=10.0000&b=%E4%BD%A0+x&c=").unwrap();
        assert_eq!(form, [pair("a", "10.0000"), pair("b", "你 x"), pair("c", "")]);
        let json = parse(
            "application/json; charset=utf-8",
            r#"{"a":10.0000,"b":1e2,"c":"\u4f60","d":null,"e":true}"#,
        );
        let expected =
            [pair("a", "10.0000"), pair("b", "1e2"), pair("c", "你"), pair("d", ""), pair("e", "true")];
        assert_eq!(json.unwrap(), expected);
    }

    #[test]
    fn repeated_keys_are_refused_whatever_the_encoding() {
        for (kind, body) in [
            ("application/x-www-form-urlencoded", "a=1&a=2"),
            ("application/x-www-form-urlencoded", "a=1&%61=2"),
            ("application/json", r#"{"a":1,"\u0061":2}"#),
        ] {
            let problem = parse(kind, body).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.reason), (422, "OrderIsNotValid"), "{body}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for (kind, body, status) in [
            ("text/xml", "<a/>", 400),
            ("application/json", "[1]", 400),
            ("application/json", "{", 400),
            ("application/json", r#"{"a":{"b":1}}"#, 422),
        ] {
            assert_eq!(parse(kind, body).unwrap_err().status.as_u16(), status, "{body}");
        }
    }
}
