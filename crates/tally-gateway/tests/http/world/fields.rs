//! The pairs of a DeePay request.

use serde_json::value::RawValue;
use tally_sign::SignType;

/// Pairs in the order in which they are sent.
#[derive(Debug, Clone)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    /// An order of 65 dollars: a thousandth of a bitcoin.
    pub(crate) fn order(own_id: &str) -> Self {
        Self::of(&[
            ("out_trade_id", own_id),
            ("price_currency", "USD"),
            ("price_amount", "65"),
            ("notify_url", "https://shop.example/notify?a=1&b=2"),
            ("callback_url", "https://shop.example/back"),
            ("title", "Two tins of tea"),
            ("attach", "additional info"),
        ])
    }

    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some(pair) => value.clone_into(&mut pair.1),
            None => self.0.push((key.to_owned(), value.to_owned())),
        }
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.retain(|(name, _)| name != key);
        self
    }

    pub(crate) fn signed(self, merchant: u64, key: &str) -> Self {
        self.set("merchant_id", &merchant.to_string()).sign(key, SignType::Md5)
    }

    pub(crate) fn sign(self, key: &str, kind: SignType) -> Self {
        let sign = tally_sign::sign(&self.0, key, kind);
        self.set("sign", &sign)
    }

    pub(crate) fn form(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// As a JSON object; the fields in `bare` stand there without quotes.
    pub(crate) fn json(&self, bare: &[&str]) -> String {
        let members = self.0.iter().map(|(key, value)| {
            let value = if bare.contains(&key.as_str()) {
                value.clone()
            } else {
                serde_json::value::to_raw_value(value).map(|raw: Box<RawValue>| raw.get().to_owned()).unwrap()
            };
            format!("{}:{value}", serde_json::to_string(key).unwrap())
        });
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}
