//! The command line: what may be said, and which module does it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rust_decimal::Decimal;
use tally_events::Shard;
use tally_types::{ChainId, MerchantId, OrderId, Span, WalletId};

/// Tallystick: payments on Bitcoin, Litecoin, Bitcoin Cash and Ethereum, matched to orders.
#[derive(Debug, Parser)]
#[command(name = "tally", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "tally.toml")]
    pub(crate) config: PathBuf,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process with simulated chains and a demo merchant; needs nothing else.
    #[command(after_help = "Example: tally dev\n         tally dev --http 127.0.0.1:0 --json")]
    Dev(DevArgs),
    /// All services in one process.
    #[command(after_help = "Example: tally up --config /etc/tally.toml")]
    Up,
    /// The watcher of one chain.
    #[command(
        after_help = "Example: tally watch ltc --config /etc/tally.toml\n         tally watch btc --shard 1/4"
    )]
    Watch {
        /// The chain's id in the configuration.
        chain: ChainId,
        /// One part of the chain's addresses of so many, such as 1/4; all of them by default. Another number of
        /// parts than the log has changes it.
        #[arg(long, value_name = "I/N")]
        shard: Option<Shard>,
    },
    /// The projector's duties: deadlines, invalidation, the watch set's end.
    #[command(after_help = "Example: tally project --config /etc/tally.toml")]
    Project,
    /// The rate service.
    #[command(after_help = "Example: tally rate --config /etc/tally.toml")]
    Rate,
    /// The APIs and the payment page.
    #[command(after_help = "Example: tally api --config /etc/tally.toml")]
    Api,
    /// Deliveries to merchants, and the public messages on NATS.
    #[command(after_help = "Example: tally notify --config /etc/tally.toml")]
    Notify,
    /// Reads the configuration and reports the first fault.
    #[command(after_help = "Example: tally check-config --config /etc/tally.toml")]
    CheckConfig,
    /// Merchants.
    #[command(subcommand)]
    Merchant(MerchantCommand),
    /// API keys of merchants.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Wallets of merchants.
    #[command(subcommand)]
    Wallet(WalletCommand),
    /// Orders.
    #[command(subcommand)]
    Order(OrderCommand),
    /// Deposits.
    #[command(subcommand)]
    Deposit(DepositCommand),
    /// Matches blocks again with every address: finds payments that were overlooked, and doubles none.
    #[command(after_help = "Example: tally rescan btc --from 840000 --to 841000")]
    Rescan(RescanArgs),
    /// Folds the read model again from the log, beside the one that serves, and puts it in that one's place.
    #[command(after_help = "Example: tally rebuild --config /etc/tally.toml")]
    Rebuild,
    /// Copies every fact of the log into an empty folder, while everything runs.
    #[command(after_help = "Example: tally backup --to /backup/2026-11-20")]
    Backup {
        /// The folder.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Fills an empty log from a backup, or from the daily copy.
    #[command(after_help = "Example: tally restore --from /backup/2026-11-20")]
    Restore {
        /// The folder with the files `facts-….jsonl`.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
    },
    /// Reads the archive of closed orders whole, and says what is in it.
    #[command(after_help = "Example: tally archive --config /etc/tally.toml")]
    Archive,
    /// Makes a DeePay signature.
    #[command(after_help = "Example: tally sign --key 192006… merchant_id=10001 out_trade_id=MDC001")]
    Sign(SignArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DevArgs {
    /// Where the public API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// Where the admin API listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) admin: SocketAddr,
    /// Where Prometheus' metrics are served.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464")]
    pub(crate) metrics: SocketAddr,
    /// Where the data is kept; without it, in a temporary folder that goes at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MerchantCommand {
    /// Makes a merchant.
    #[command(after_help = "Example: tally merchant create --name \"Corner shop\"")]
    Create(MerchantArgs),
    /// Lists merchants.
    #[command(after_help = "Example: tally merchant list --json")]
    List,
    /// Shows a merchant.
    #[command(after_help = "Example: tally merchant show 10001")]
    Show {
        /// The merchant.
        merchant: MerchantId,
    },
    /// Changes a merchant's settings.
    #[command(after_help = "Example: tally merchant set 10001 --tolerance-percent 0.5 --quote 30m")]
    Set {
        /// The merchant.
        merchant: MerchantId,
        #[command(flatten)]
        settings: MerchantArgs,
    },
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MerchantArgs {
    /// Display name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// How long a quote holds, such as 20m.
    #[arg(long, value_parser = crate::config::parse_span)]
    pub(crate) quote: Option<Span>,
    /// How long a new order waits for a checkout, such as 24h.
    #[arg(long, value_parser = crate::config::parse_span)]
    pub(crate) new_order: Option<Span>,
    /// Part of the price that may be missing, in percent.
    #[arg(long)]
    pub(crate) tolerance_percent: Option<Decimal>,
    /// Amount of the price currency that may be missing.
    #[arg(long)]
    pub(crate) tolerance_absolute: Option<Decimal>,
    /// Added to the price when it is quoted, in percent.
    #[arg(long)]
    pub(crate) spread_percent: Option<Decimal>,
    /// What becomes of late money.
    #[arg(long)]
    pub(crate) late: Option<Late>,
    /// Whether an expired order without money may be checked out again.
    #[arg(long, value_name = "BOOL")]
    pub(crate) reopen: Option<bool>,
    /// Whether MD5 signatures are refused.
    #[arg(long, value_name = "BOOL")]
    pub(crate) require_hmac: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Late {
    /// Waits for a person.
    Hold,
    /// Counts at its own quote's rate.
    Accept,
    /// Counts at the rate of the moment.
    Reprice,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum FaceArg {
    /// The DeePay API.
    Deepay,
    /// The Payscrypt API.
    Payscrypt,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Makes an API key and shows it, once.
    #[command(after_help = "Example: tally key create --merchant 10001")]
    Create {
        /// The merchant.
        #[arg(long)]
        merchant: MerchantId,
        /// The API it opens.
        #[arg(long, default_value = "deepay")]
        face: FaceArg,
    },
    /// Lists a merchant's keys, without their secrets.
    #[command(after_help = "Example: tally key list --merchant 10001")]
    List {
        /// The merchant.
        #[arg(long)]
        merchant: MerchantId,
    },
    /// Takes a key back, at once.
    #[command(after_help = "Example: tally key revoke --merchant 10001 1")]
    Revoke {
        /// The merchant.
        #[arg(long)]
        merchant: MerchantId,
        /// The key's number.
        key: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Adds a wallet by its account-level extended public key or descriptor.
    #[command(after_help = "Example: tally wallet add --merchant 10001 --chain ltc --type p2wpkh tpub…")]
    Add {
        /// The merchant.
        #[arg(long)]
        merchant: MerchantId,
        /// The chain's id in the configuration.
        #[arg(long)]
        chain: ChainId,
        /// The kind of script: p2pkh, p2sh-p2wpkh, p2wpkh, p2tr. Needed where the key does not say.
        #[arg(long = "type", value_name = "KIND")]
        kind: Option<String>,
        /// The first index to hand out, past those in use.
        #[arg(long, default_value_t = 0)]
        start_index: u32,
        /// The key. Never a private one.
        public_key: String,
    },
    /// Lists a merchant's wallets.
    #[command(after_help = "Example: tally wallet list --merchant 10001")]
    List {
        /// The merchant.
        #[arg(long)]
        merchant: MerchantId,
    },
    /// Shows addresses of a wallet.
    #[command(after_help = "Example: tally wallet addresses --merchant 10001 1 --count 5")]
    Addresses(AddressArgs),
    /// Exports what another wallet needs to see every address: the descriptor and the range in use.
    #[command(after_help = "Example: tally wallet export --merchant 10001 1 --json")]
    Export {
        /// The merchant.
        #[arg(long)]
        merchant: MerchantId,
        /// The wallet.
        wallet: WalletId,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AddressArgs {
    /// The merchant.
    #[arg(long)]
    pub(crate) merchant: MerchantId,
    /// The wallet.
    pub(crate) wallet: WalletId,
    /// The first index.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u32,
    /// How many, at most 1000.
    #[arg(long, default_value_t = 20)]
    pub(crate) count: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrderCommand {
    /// Lists orders, newest first.
    #[command(after_help = "Example: tally order list --merchant 10001 --status paid")]
    List {
        /// Of this merchant only.
        #[arg(long)]
        merchant: Option<MerchantId>,
        /// With this status only.
        #[arg(long)]
        status: Option<String>,
        /// Older than this order, for the next page.
        #[arg(long)]
        before: Option<OrderId>,
        /// How many, at most 200.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Shows an order.
    #[command(after_help = "Example: tally order show 20181006113100525110123456")]
    Show {
        /// The order.
        order: OrderId,
    },
    /// Lets an order's late money count.
    #[command(after_help = "Example: tally order accept 20181006113100525110123456 --by alice")]
    Accept {
        /// The order.
        order: OrderId,
        /// Who says so.
        #[arg(long, default_value = "operator")]
        by: String,
    },
    /// Calls an order off.
    #[command(after_help = "Example: tally order cancel 20181006113100525110123456")]
    Cancel {
        /// The order.
        order: OrderId,
    },
    /// Writes orders as a table. A title, own id or attach that a spreadsheet would run as a formula (it begins with
    /// = + - @, a tab or a line break) gets an apostrophe before it; nothing else is changed.
    #[command(after_help = "Example: tally order export --csv --merchant 10001 --to orders.csv")]
    Export(ExportArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DepositCommand {
    /// Writes deposits as a table. An own id that a spreadsheet would run as a formula (it begins with = + - @, a tab
    /// or a line break) gets an apostrophe before it; nothing else is changed.
    #[command(after_help = "Example: tally deposit export --csv > deposits.csv")]
    Export(ExportArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RescanArgs {
    /// The chain's id in the configuration.
    pub(crate) chain: ChainId,
    /// The first block. After a reorg too deep to be followed, the watch begins anew here.
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) from: u64,
    /// The last block; the tip by default.
    #[arg(long, value_name = "HEIGHT")]
    pub(crate) to: Option<u64>,
    /// Do not wait until it is done.
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// As CSV, which is the only form there is.
    #[arg(long)]
    pub(crate) csv: bool,
    /// Of this merchant's orders only.
    #[arg(long)]
    pub(crate) merchant: Option<MerchantId>,
    /// Of orders with this status only.
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Into this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SignArgs {
    /// The merchant's API key.
    #[arg(long, env = "TALLY_API_KEY", hide_env_values = true)]
    pub(crate) key: String,
    /// Sign with HMAC-SHA256 in place of MD5; adds sign_type to the pairs.
    #[arg(long)]
    pub(crate) hmac: bool,
    /// The pairs, `key=value`, as they will be sent.
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
}
