//! Ethereum transactions as the sandbox makes them, and what they do: each is decided when it is made, since no
//! contract code is run.
//!
//! Not here: their JSON (`rpc`).

use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey, SignOnly};

use super::rlp::{bytes, keccak, list, number, significant};
use super::{Address, Hash};

/// Wei per gas. All of it is the base fee, which is burnt.
pub(crate) const GAS_PRICE: u128 = 1_000_000_000;
/// Gas of a plain transfer.
const GAS_TRANSFER: u64 = 21_000;
/// Gas of a token's transfer.
const GAS_TOKEN: u64 = 51_000;
/// Gas of the contract that passes payments on, and for each payment.
const GAS_CONTRACT: u64 = 34_000;
/// Topic of an ERC-20 transfer: keccak of `Transfer(address,address,uint256)`.
const TRANSFER_EVENT: &[u8] = b"Transfer(address,address,uint256)";

/// How a payment is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountMode {
    /// By the transaction itself, or by a call of the token.
    Normal,
    /// By a contract that the transaction calls.
    Contract,
    /// As `Normal`, but it fails: mined, nothing is paid.
    Failed,
    /// As `Contract`, but the contract fails after it has paid: mined, nothing is paid.
    Reverted,
}

impl AccountMode {
    pub(crate) const ALL: [(&'static str, Self); 4] = [
        ("normal", Self::Normal),
        ("contract", Self::Contract),
        ("failed", Self::Failed),
        ("reverted", Self::Reverted),
    ];

    /// Whether it pays in the end.
    pub(crate) const fn succeeds(self) -> bool {
        match self {
            Self::Normal | Self::Contract => true,
            Self::Failed | Self::Reverted => false,
        }
    }

    /// Whether a contract stands between.
    pub(crate) const fn by_contract(self) -> bool {
        match self {
            Self::Contract | Self::Reverted => true,
            Self::Normal | Self::Failed => false,
        }
    }
}

/// An account that pays, once: so that no payment waits for another's nonce.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) address: Address,
    key: SecretKey,
}

impl Sender {
    /// The account of a key; none for the few numbers that are no key.
    pub(crate) fn new(secp: &Secp256k1<SignOnly>, key: &[u8; 32]) -> Option<Self> {
        let key = SecretKey::from_slice(key).ok()?;
        let public = PublicKey::from_secret_key(secp, &key).serialize_uncompressed();
        let hash = keccak(public.get(1..)?);
        Some(Self { address: Address::of_hash(&hash), key })
    }
}

/// A payment that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Payment {
    /// The token's contract; none for ether.
    pub(crate) token: Option<Address>,
    pub(crate) to: Address,
    pub(crate) amount: u128,
    pub(crate) mode: AccountMode,
}

/// A log entry of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) address: Address,
    pub(crate) topics: Vec<Hash>,
    pub(crate) data: Vec<u8>,
}

/// One frame of a call trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: u128,
    pub(crate) input: Vec<u8>,
    pub(crate) gas: u64,
    pub(crate) error: Option<&'static str>,
    pub(crate) calls: Vec<Frame>,
}

/// A signed transaction of the old kind (EIP-155).
#[derive(Debug, Clone)]
pub(crate) struct AccountTx {
    pub(crate) hash: Hash,
    pub(crate) sender: Sender,
    pub(crate) nonce: u64,
    pub(crate) gas_price: u128,
    pub(crate) gas: u64,
    pub(crate) to: Address,
    pub(crate) value: u128,
    pub(crate) input: Vec<u8>,
    pub(crate) v: u64,
    pub(crate) r: Vec<u8>,
    pub(crate) s: Vec<u8>,
    pub(crate) raw: Vec<u8>,
    pub(crate) payment: Payment,
    /// The contract that passes payments on.
    pub(crate) batcher: Address,
}

impl AccountTx {
    /// Makes and signs a transaction.
    pub(crate) fn new(
        secp: &Secp256k1<SignOnly>,
        chain_id: u64,
        sender: Sender,
        payment: Payment,
        batcher: Address,
        gas_price: u128,
    ) -> Self {
        let by_contract = payment.mode.by_contract();
        let (to, value, input) = match (by_contract, payment.token) {
            (true, None) => (batcher, payment.amount, pass_on(&payment)),
            (true, Some(_)) => (batcher, 0, pass_on(&payment)),
            (false, None) => (payment.to, payment.amount, Vec::new()),
            (false, Some(token)) => (token, 0, transfer_call(&payment)),
        };
        let own = if payment.token.is_some() { GAS_TOKEN } else { GAS_TRANSFER };
        let gas = if by_contract { own.saturating_add(GAS_CONTRACT) } else { own };
        let nonce = 0_u64;
        let body = [
            number(u128::from(nonce)),
            number(gas_price),
            number(u128::from(gas)),
            bytes(&to.0),
            number(value),
            bytes(&input),
        ];
        let signed = [&body[..], &[number(u128::from(chain_id)), number(0), number(0)]].concat();
        let message = Message::from_digest(keccak(&list(&signed)));
        let (recovery, signature) = secp.sign_ecdsa_recoverable(&message, &sender.key).serialize_compact();
        let (r, s) = signature.split_at(32);
        let parity = u64::try_from(recovery.to_i32()).unwrap_or_default();
        let v = chain_id.saturating_mul(2).saturating_add(35).saturating_add(parity);
        let (r, s) = (significant(r).to_vec(), significant(s).to_vec());
        let raw = list(&[&body[..], &[number(u128::from(v)), bytes(&r), bytes(&s)]].concat());
        let hash = Hash(keccak(&raw));
        Self { hash, sender, nonce, gas_price, gas, to, value, input, v, r, s, raw, payment, batcher }
    }

    /// Whether it does what it was to do.
    pub(crate) fn succeeds(&self) -> bool {
        self.payment.mode.succeeds()
    }

    /// What it costs its sender, in wei.
    pub(crate) fn fee(&self) -> u128 {
        self.gas_price.saturating_mul(u128::from(self.gas))
    }

    /// What stands in its receipt: the token's `Transfer`, unless it fails.
    pub(crate) fn logs(&self) -> Vec<Log> {
        let Some(token) = self.payment.token.filter(|_| self.succeeds()) else { return Vec::new() };
        let topics =
            vec![Hash(keccak(TRANSFER_EVENT)), self.sender.address.to_word(), self.payment.to.to_word()];
        vec![Log { address: token, topics, data: word(self.payment.amount).to_vec() }]
    }

    /// Its calls, as `callTracer` tells them. In a reverted one the calls within look as if they had gone
    /// through: only the outermost frame says that they did not.
    pub(crate) fn trace(&self) -> Frame {
        let mut top = Frame {
            from: self.sender.address,
            to: self.to,
            value: self.value,
            input: self.input.clone(),
            gas: self.gas,
            error: (!self.succeeds()).then_some("execution reverted"),
            calls: Vec::new(),
        };
        if self.payment.mode.by_contract() {
            let (to, value, input) = match self.payment.token {
                None => (self.payment.to, self.payment.amount, Vec::new()),
                Some(token) => (token, 0, transfer_call(&self.payment)),
            };
            let from = self.batcher;
            top.calls.push(Frame { from, to, value, input, gas: GAS_TRANSFER, error: None, calls: vec![] });
        }
        top
    }
}

/// A call of `transfer(address,uint256)`.
fn transfer_call(payment: &Payment) -> Vec<u8> {
    call(b"transfer(address,uint256)", payment)
}

/// A call of the contract that passes payments on.
fn pass_on(payment: &Payment) -> Vec<u8> {
    call(b"passOn(address,uint256)", payment)
}

fn call(signature: &[u8], payment: &Payment) -> Vec<u8> {
    let selector = keccak(signature);
    [&selector[..4], &payment.to.to_word().0, &word(payment.amount)].concat()
}

/// A number as 32 bytes.
pub(crate) fn word(number: u128) -> [u8; 32] {
    let mut word = [0; 32];
    if let Some(low) = word.last_chunk_mut::<16>() {
        *low = number.to_be_bytes();
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of EIP-155: key 46…46, nonce 9, 20 gwei, 21,000 gas, 1 ether to 35…35 on chain 1. Nonce and
    /// gas price differ here, so only the account's address is compared.
    #[test]
    fn a_key_has_the_address_of_the_published_example() {
        let sender = Sender::new(&Secp256k1::signing_only(), &[0x46; 32]).unwrap();
        assert_eq!(sender.address.to_string(), "0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f");
    }

    #[test]
    fn a_signature_recovers_to_its_sender() {
        let signing = Secp256k1::signing_only();
        let sender = Sender::new(&signing, &[0x46; 32]).unwrap();
        let payment = Payment { token: None, to: Address([0x35; 20]), amount: 1, mode: AccountMode::Normal };
        let tx = AccountTx::new(&signing, 1, sender.clone(), payment, Address([1; 20]), GAS_PRICE);
        let body = [
            number(0),
            number(GAS_PRICE),
            number(21_000),
            bytes(&[0x35; 20]),
            number(1),
            bytes(&[]),
            number(1),
            number(0),
            number(0),
        ];
        let pad = |part: &[u8]| [vec![0; 32 - part.len()], part.to_vec()].concat();
        let id = bitcoin::secp256k1::ecdsa::RecoveryId::from_i32((tx.v - 37) as i32).unwrap();
        let compact = [pad(&tx.r), pad(&tx.s)].concat();
        let signature = bitcoin::secp256k1::ecdsa::RecoverableSignature::from_compact(&compact, id).unwrap();
        let message = Message::from_digest(keccak(&list(&body)));
        let public = Secp256k1::new().recover_ecdsa(&message, &signature).unwrap();
        let recovered = Address::of_hash(&keccak(&public.serialize_uncompressed()[1..]));
        assert_eq!(recovered, sender.address);
    }

    #[test]
    fn the_transfer_event_has_its_well_known_topic() {
        let topic = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
        assert_eq!(const_hex::encode(keccak(TRANSFER_EVENT)), topic);
        let payment = Payment { token: None, to: Address([1; 20]), amount: 1, mode: AccountMode::Normal };
        assert!(const_hex::encode(transfer_call(&payment)).starts_with("a9059cbb"));
    }
}
