//! What every face stands on: the ports, the chains' directory, and reading one's own writes.

use std::sync::Arc;

use tally_account::{ChainDefaults, PolicyDefaults, Wallet};
use tally_address::{AddressParams, ExtendedKey, ScriptKind};
use tally_events::{Counts, NewEvent, Subject};
use tally_ports::{AppendError, Clock, Entropy, EventLog, Expectation, ReadModel};
use tally_pricing::RateTable;
use tally_sign::MasterKey;
use tally_types::{BaseUnits, ChainId, Currency, OrderId, Position, Span};
use tokio::sync::watch;

use crate::problem::Problem;

/// How long an answer waits for the fold to reach what the log already holds.
pub(crate) const FOLD_WAIT: Span = Span::from_millis(500);

/// How old a watcher's last report may be before its coins are not offered.
pub(crate) const WATCHER_SILENCE_MAX: Span = Span::from_secs(60);

/// How often a decision is made again when someone else was faster.
pub(crate) const TRIES: usize = 32;

/// A coin or token as the faces offer it.
#[derive(Debug, Clone)]
pub struct CoinInfo {
    /// Its symbol.
    pub currency: Currency,
    /// Fraction digits between the whole coin and its base unit.
    pub decimals: u8,
    /// The smallest step a payer can be asked for.
    pub payable_unit: BaseUnits,
    /// Less than this is not asked for.
    pub dust: BaseUnits,
    /// The token's contract; none for the chain's own coin.
    pub contract: Option<String>,
}

/// A configured chain as the faces offer it.
#[derive(Debug, Clone)]
pub struct ChainInfo {
    /// Its id.
    pub id: ChainId,
    /// The network's name.
    pub network: String,
    /// How its keys and addresses are written.
    pub params: AddressParams,
    /// Its coin, first, and its tokens.
    pub coins: Vec<CoinInfo>,
    /// Confirmation counts for merchants who set none.
    pub counts: Counts,
}

impl ChainInfo {
    pub(crate) fn coin(&self, currency: &Currency) -> Option<&CoinInfo> {
        self.coins.iter().find(|coin| coin.currency == *currency)
    }

    pub(crate) fn defaults(&self) -> ChainDefaults {
        ChainDefaults { chain: self.id.clone(), counts: self.counts.clone() }
    }
}

/// What the gateway is given.
pub struct Gateway {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The folded state.
    pub model: Arc<dyn ReadModel>,
    /// The rates that hold now.
    pub rates: watch::Receiver<Arc<RateTable>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The configured chains.
    pub chains: Vec<ChainInfo>,
    /// Where the outside reaches us, without a trailing slash.
    pub public_url: String,
    /// What seals merchants' secrets.
    pub master: MasterKey,
    /// Rules for merchants who set none.
    pub policy: PolicyDefaults,
    /// The admin listener's token; without one it answers nothing but 401.
    pub admin_token: Option<String>,
    /// Whether the payment page offers the sandbox's buttons.
    pub sandbox: bool,
}

/// The gateway, shared by its requests.
pub type App = Arc<Gateway>;

impl Gateway {
    /// The chain of that id.
    pub(crate) fn chain(&self, id: &ChainId) -> Option<&ChainInfo> {
        self.chains.iter().find(|chain| chain.id == *id)
    }

    /// Says that a chain is none of those that are configured.
    pub(crate) fn no_chain(&self, chain: &str) -> String {
        let known: Vec<_> = self.chains.iter().map(|chain| chain.id.as_str()).collect();
        format!("no chain {chain:?}; configured are: {}", known.join(", "))
    }

    /// The payment page of an order.
    pub(crate) fn payment_url(&self, order: &OrderId) -> String {
        format!("{}/order/{order}", self.public_url)
    }

    /// A wallet's key, ready to derive.
    pub(crate) fn wallet_key(&self, wallet: &Wallet) -> Result<ExtendedKey, Problem> {
        let chain = self.chain(&wallet.chain).ok_or_else(|| {
            let message = format!("the chain {} of this wallet is not configured here", wallet.chain);
            Problem::unavailable("ChainUnavailable", message, 60)
        })?;
        let kind = wallet.script_kind.parse::<ScriptKind>().ok();
        ExtendedKey::parse(&wallet.public_key, chain.params, kind).map_err(|error| {
            tracing::error!(wallet = %wallet.id, %error, "a stored wallet key cannot be read");
            Problem::internal()
        })
    }

    /// Waits until everything the log holds on `subject` is folded, and says where its last fact stands.
    pub(crate) async fn caught_up(&self, subject: &Subject) -> Result<Position, Problem> {
        let last = self.log.last(subject).await?;
        let position = last.map_or(Position::START, |recorded| recorded.position);
        self.folded(position).await?;
        Ok(position)
    }

    /// Waits until everything the log holds is folded.
    pub(crate) async fn caught_up_with_all(&self) -> Result<(), Problem> {
        self.folded(self.log.head().await?).await
    }

    /// Waits until the log is folded through `position`.
    pub(crate) async fn folded(&self, position: Position) -> Result<(), Problem> {
        if self.model.wait_for(position, FOLD_WAIT).await { Ok(()) } else { Err(Problem::behind()) }
    }

    /// Waits until what was just appended is folded here.
    pub(crate) async fn settle(&self, positions: &[Position]) -> Result<(), Problem> {
        self.folded(positions.last().copied().unwrap_or(Position::START)).await
    }

    /// Appends; `Ok(None)` when someone else was faster and the decision has to be made again.
    pub(crate) async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<Position>>, Problem> {
        match self.log.append(expectations, batch).await {
            Ok(positions) => Ok(Some(positions)),
            Err(AppendError::Stale { actual, .. }) => {
                self.folded(actual).await?;
                Ok(None)
            }
            Err(AppendError::Port(error)) => Err(error.into()),
            Err(AppendError::Invalid(fault)) => {
                tracing::error!(fault, "an append was not possible");
                Err(Problem::internal())
            }
        }
    }

    /// `digits` random decimal digits.
    pub(crate) fn random_digits(&self, digits: usize) -> String {
        let mut text = String::with_capacity(digits);
        while text.len() < digits {
            let mut bytes = [0; 32];
            self.entropy.fill(&mut bytes);
            // 250 is the largest multiple of ten in a byte: above it digits would not be equally likely.
            let fair = bytes.iter().filter(|byte| **byte < 250);
            text.extend(fair.map(|byte| char::from(b'0' + byte % 10)).take(digits - text.len()));
        }
        text
    }
}
