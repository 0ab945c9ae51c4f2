//! One merchant: settings, API keys, wallets.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tally_events::{
    ApiKeyCreated, ApiKeyRevoked, Fact, KeySecret, MerchantChanged, MerchantCreated, MerchantSettings,
    WalletAdded,
};
use tally_types::{ChainId, Currency, Face, Fingerprint, MerchantId, Span, Timestamp, WalletId};

/// Why a command on an account is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such key, or it was revoked before.
    #[error("merchant {merchant} has no active key {key}")]
    NoSuchKey {
        /// The merchant.
        merchant: MerchantId,
        /// The key.
        key: u32,
    },
    /// A setting's value makes no sense.
    #[error("{setting} {found} is not {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What was given.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// The extended public key belongs to another merchant.
    #[error("the key {0} is in use by another merchant")]
    KeyTaken(Fingerprint),
    /// The wallet's key and chain are registered already.
    #[error("the key {0} is already a wallet of this merchant on this chain")]
    WalletExists(Fingerprint),
    /// All indexes of a key were handed out.
    #[error("every address of the key {0} was handed out: add another wallet")]
    KeyExhausted(Fingerprint),
}

/// An API key as the fold knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Which of the merchant's keys.
    pub key: u32,
    /// The API it opens.
    pub face: Face,
    /// The secret, sealed or hashed.
    pub secret: KeySecret,
    /// The last characters, for people.
    pub hint: String,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// A wallet as the fold knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    /// The wallet.
    pub id: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// What it takes.
    pub currencies: Vec<Currency>,
    /// The extended public key or descriptor.
    pub public_key: String,
    /// The kind of script.
    pub script_kind: String,
    /// The key's fingerprint.
    pub fingerprint: Fingerprint,
    /// When it was added.
    pub added_at: Timestamp,
}

/// A merchant: the fold of `tally.v1.merchant.<merchant_id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    id: MerchantId,
    settings: MerchantSettings,
    keys: Vec<ApiKey>,
    wallets: Vec<Wallet>,
}

impl Merchant {
    /// The merchant that its first fact makes; `None` for any other fact.
    pub fn from_fact(fact: &Fact) -> Option<Self> {
        match fact {
            Fact::MerchantCreated(MerchantCreated { merchant, settings }) => Some(Self {
                id: *merchant,
                settings: settings.clone(),
                keys: Vec::new(),
                wallets: Vec::new(),
            }),
            _ => None,
        }
    }

    /// Folds a later fact of the merchant's subject; the same fact twice changes nothing.
    pub fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::MerchantChanged(changed) => merge(&mut self.settings, &changed.settings),
            Fact::ApiKeyCreated(created) if !self.keys.iter().any(|known| known.key == created.key) => {
                self.keys.push(ApiKey {
                    key: created.key,
                    face: created.face,
                    secret: created.secret.clone(),
                    hint: created.hint.clone(),
                    revoked: false,
                });
            }
            Fact::ApiKeyRevoked(revoked) => {
                for known in self.keys.iter_mut().filter(|known| known.key == revoked.key) {
                    known.revoked = true;
                }
            }
            Fact::WalletAdded(added) if !self.wallets.iter().any(|known| known.id == added.wallet) => {
                self.wallets.push(Wallet::from(added));
            }
            _ => {}
        }
    }

    /// Makes a merchant.
    ///
    /// # Errors
    /// [`Refusal::Setting`] when a setting makes no sense.
    pub fn create(id: MerchantId, settings: MerchantSettings) -> Result<MerchantCreated, Refusal> {
        check(&settings)?;
        Ok(MerchantCreated { merchant: id, settings })
    }

    /// Changes settings: what is present replaces what was.
    ///
    /// # Errors
    /// [`Refusal::Setting`] when a setting makes no sense.
    pub fn change(&self, settings: MerchantSettings) -> Result<MerchantChanged, Refusal> {
        check(&settings)?;
        Ok(MerchantChanged { merchant: self.id, settings })
    }

    /// The number that the next API key gets.
    pub fn next_key(&self) -> u32 {
        self.keys.iter().map(|known| known.key).max().unwrap_or(0).saturating_add(1)
    }

    /// What a key's secret is sealed for, so that no sealed secret can stand in another's place.
    pub fn key_purpose(&self, face: Face, key: u32) -> String {
        format!("{face}-key/{}/{key}", self.id)
    }

    /// Adds an API key, number [`Merchant::next_key`], whose secret was sealed or hashed before.
    pub fn add_key(&self, face: Face, secret: KeySecret, hint: String) -> ApiKeyCreated {
        ApiKeyCreated { merchant: self.id, key: self.next_key(), face, secret, hint }
    }

    /// Takes an API key back.
    ///
    /// # Errors
    /// [`Refusal::NoSuchKey`] when there is none, or it was taken back before.
    pub fn revoke_key(&self, key: u32) -> Result<ApiKeyRevoked, Refusal> {
        if self.keys.iter().any(|known| known.key == key && !known.revoked) {
            Ok(ApiKeyRevoked { merchant: self.id, key })
        } else {
            Err(Refusal::NoSuchKey { merchant: self.id, key })
        }
    }

    /// Adds a wallet. Whether its key belongs to another merchant, the key's own subject says.
    ///
    /// # Errors
    /// [`Refusal::WalletExists`] when the key is a wallet of this chain already.
    pub fn add_wallet(&self, wallet: Wallet) -> Result<WalletAdded, Refusal> {
        let same = |known: &&Wallet| known.fingerprint == wallet.fingerprint && known.chain == wallet.chain;
        if self.wallets.iter().find(same).is_some() {
            return Err(Refusal::WalletExists(wallet.fingerprint));
        }
        Ok(WalletAdded {
            merchant: self.id,
            wallet: wallet.id,
            chain: wallet.chain,
            currencies: wallet.currencies,
            public_key: wallet.public_key,
            script_kind: wallet.script_kind,
            fingerprint: wallet.fingerprint,
            added_at: wallet.added_at,
        })
    }

    /// The merchant's id.
    pub fn id(&self) -> MerchantId {
        self.id
    }

    /// What the merchant set.
    pub fn settings(&self) -> &MerchantSettings {
        &self.settings
    }

    /// All keys, revoked ones included.
    pub fn keys(&self) -> &[ApiKey] {
        &self.keys
    }

    /// The keys that open an API now.
    pub fn active_keys(&self, face: Face) -> impl Iterator<Item = &ApiKey> {
        self.keys.iter().filter(move |key| key.face == face && !key.revoked)
    }

    /// All wallets.
    pub fn wallets(&self) -> &[Wallet] {
        &self.wallets
    }

    /// The wallet that takes a currency: the one added last.
    pub fn wallet_for(&self, currency: &Currency) -> Option<&Wallet> {
        self.wallets.iter().rev().find(|wallet| wallet.currencies.contains(currency))
    }
}

impl From<&WalletAdded> for Wallet {
    fn from(added: &WalletAdded) -> Self {
        Self {
            id: added.wallet,
            chain: added.chain.clone(),
            currencies: added.currencies.clone(),
            public_key: added.public_key.clone(),
            script_kind: added.script_kind.clone(),
            fingerprint: added.fingerprint.clone(),
            added_at: added.added_at,
        }
    }
}

fn merge(into: &mut MerchantSettings, from: &MerchantSettings) {
    fn set<T: Clone>(into: &mut Option<T>, from: &Option<T>) {
        if from.is_some() {
            into.clone_from(from);
        }
    }
    set(&mut into.name, &from.name);
    set(&mut into.quote, &from.quote);
    set(&mut into.new_order, &from.new_order);
    set(&mut into.tolerance_percent, &from.tolerance_percent);
    set(&mut into.tolerance_absolute, &from.tolerance_absolute);
    set(&mut into.spread_percent, &from.spread_percent);
    set(&mut into.late, &from.late);
    set(&mut into.reopen, &from.reopen);
    set(&mut into.require_hmac, &from.require_hmac);
    for (chain, counts) in &from.counts {
        into.counts.retain(|(known, _)| known != chain);
        into.counts.push((chain.clone(), counts.clone()));
    }
}

fn check(settings: &MerchantSettings) -> Result<(), Refusal> {
    let spans = [("quote", settings.quote), ("new_order", settings.new_order)];
    for (setting, span) in spans {
        if let Some(span) = span
            && !(Span::from_secs(10)..=Span::from_secs(30 * 86_400)).contains(&span)
        {
            let found = format!("{} s", span.secs());
            return Err(Refusal::Setting { setting, found, expected: "between 10 seconds and 30 days" });
        }
    }
    let percents =
        [("tolerance_percent", settings.tolerance_percent), ("spread_percent", settings.spread_percent)];
    for (setting, percent) in percents {
        if let Some(percent) = percent
            && !(Decimal::ZERO..=Decimal::from(50)).contains(&percent)
        {
            return Err(Refusal::Setting {
                setting,
                found: percent.to_string(),
                expected: "between 0 and 50",
            });
        }
    }
    if let Some(absolute) = settings.tolerance_absolute
        && absolute < Decimal::ZERO
    {
        let found = absolute.to_string();
        return Err(Refusal::Setting { setting: "tolerance_absolute", found, expected: "0 or more" });
    }
    for (_, counts) in &settings.counts {
        if counts.confirmed == 0 || counts.complete < counts.confirmed || counts.complete > 100 {
            let found = format!("{}/{}", counts.confirmed, counts.complete);
            let expected = "confirmed/complete with 1 <= confirmed <= complete <= 100";
            return Err(Refusal::Setting { setting: "counts", found, expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merchant() -> Merchant {
        let created = Merchant::create(MerchantId::new(10001), MerchantSettings::default()).unwrap();
        Merchant::from_fact(&created.into()).unwrap()
    }

    #[test]
    fn a_revoked_key_stays_known_but_opens_nothing() {
        let mut merchant = merchant();
        let key = merchant.add_key(Face::Deepay, KeySecret::Sealed("x".into()), "abcd".into());
        merchant.apply(&key.clone().into());
        merchant.apply(&key.into());
        assert_eq!(merchant.active_keys(Face::Deepay).count(), 1);
        assert_eq!(merchant.active_keys(Face::Payscrypt).count(), 0);
        let revoked = merchant.revoke_key(1).unwrap();
        merchant.apply(&revoked.into());
        assert_eq!((merchant.keys().len(), merchant.active_keys(Face::Deepay).count()), (1, 0));
        assert!(merchant.revoke_key(1).is_err());
    }

    #[test]
    fn settings_merge_and_nonsense_is_refused() {
        let mut merchant = merchant();
        let percent = MerchantSettings { tolerance_percent: Some(Decimal::ONE), ..Default::default() };
        merchant.apply(&merchant.change(percent).unwrap().into());
        let reopen = MerchantSettings { reopen: Some(true), ..Default::default() };
        merchant.apply(&merchant.change(reopen).unwrap().into());
        let policy = merchant.policy(&crate::PolicyDefaults::default());
        assert_eq!((policy.tolerance_percent, policy.reopen), (Decimal::ONE, true));
        let bad = MerchantSettings { spread_percent: Some(Decimal::from(51)), ..Default::default() };
        assert!(merchant.change(bad).is_err());
        let bad = MerchantSettings { quote: Some(Span::from_secs(1)), ..Default::default() };
        assert!(merchant.change(bad).is_err());
    }
}
