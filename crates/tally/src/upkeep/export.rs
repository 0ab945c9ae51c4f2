//! Orders and deposits as tables: CSV as RFC 4180 has it. Texts that a merchant or payer wrote never begin as a formula.

use futures::stream::{self, BoxStream, StreamExt};
use tally_order::{Order, PublicOrder};
use tally_ports::{OrderFilter, PortError, ReadModel};

/// Orders that are read at once.
const PAGE: usize = 200;

/// A table that can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// A line an order.
    Orders,
    /// A line a deposit.
    Deposits,
}

const ORDER_COLUMNS: [&str; 19] = [
    "order",
    "merchant",
    "face",
    "own_id",
    "status",
    "exceptions",
    "version",
    "price_amount",
    "price_currency",
    "pay_amount",
    "pay_currency",
    "payment_address",
    "paid_value",
    "received",
    "title",
    "attach",
    "created_at",
    "updated_at",
    "expire_at",
];

const DEPOSIT_COLUMNS: [&str; 14] = [
    "order",
    "merchant",
    "own_id",
    "quote",
    "chain",
    "txid",
    "slot",
    "currency",
    "amount",
    "stage",
    "height",
    "confirmations",
    "counts",
    "first_seen",
];

impl Table {
    /// The first line.
    fn head(self) -> String {
        match self {
            Self::Orders => line(ORDER_COLUMNS.map(str::to_owned)),
            Self::Deposits => line(DEPOSIT_COLUMNS.map(str::to_owned)),
        }
    }

    fn lines(self, order: &Order) -> String {
        let public = order.public(order.version());
        match self {
            Self::Orders => order_line(&public),
            Self::Deposits => deposit_lines(&public),
        }
    }
}

/// The table of all orders that the filter lets through, newest first, in pieces.
pub(super) fn table<'a>(
    model: &'a dyn ReadModel,
    filter: OrderFilter,
    table: Table,
) -> BoxStream<'a, Result<String, PortError>> {
    let pages = stream::unfold(Some(filter), move |filter| async move {
        let filter = filter?;
        let orders = match model.orders(&filter, PAGE).await {
            Ok(orders) => orders,
            Err(error) => return Some((Err(error), None)),
        };
        let last = orders.last()?.id().clone();
        let lines = orders.iter().map(|order| table.lines(order)).collect();
        Some((Ok(lines), Some(OrderFilter { before: Some(last), ..filter })))
    });
    stream::once(async move { Ok(table.head()) }).chain(pages).boxed()
}

fn order_line(order: &PublicOrder) -> String {
    let exceptions: Vec<String> = order.exceptions.iter().map(ToString::to_string).collect();
    let received: Vec<String> = order
        .received
        .iter()
        .map(|got| format!("{} {} on {}", got.amount, got.currency, got.chain))
        .collect();
    line([
        order.id.to_string(),
        order.merchant_id.to_string(),
        order.face.to_string(),
        words(&order.own_id),
        order.status.to_string(),
        exceptions.join(" "),
        order.version.to_string(),
        order.price_amount.clone(),
        order.price_currency.to_string(),
        order.pay_amount.clone().unwrap_or_default(),
        order.pay_currency.as_ref().map(ToString::to_string).unwrap_or_default(),
        order.payment_address.clone().unwrap_or_default(),
        order.paid_value.clone(),
        received.join("; "),
        words(&order.title),
        words(order.attach.as_deref().unwrap_or_default()),
        order.created_at.to_string(),
        order.updated_at.to_string(),
        order.expire_at.to_string(),
    ])
}

fn deposit_lines(order: &PublicOrder) -> String {
    let lines = order.deposits.iter().map(|deposit| {
        line([
            order.id.to_string(),
            order.merchant_id.to_string(),
            words(&order.own_id),
            deposit.quote.to_string(),
            deposit.chain.to_string(),
            deposit.txid.to_string(),
            deposit.slot.clone(),
            deposit.currency.to_string(),
            deposit.amount.clone(),
            deposit.stage.to_owned(),
            deposit.height.map(|height| height.to_string()).unwrap_or_default(),
            deposit.confirmations.to_string(),
            deposit.counts.to_string(),
            deposit.first_seen.to_string(),
        ])
    });
    lines.collect()
}

/// How a cell begins that some spreadsheet runs as a formula; the last four are the full-width forms of the first.
const FORMULA_STARTS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A text that someone else wrote: a spreadsheet must not take it for a formula, so an apostrophe goes before it.
fn words(text: &str) -> String {
    if text.starts_with(FORMULA_STARTS) { format!("'{text}") } else { text.to_owned() }
}

fn line<const N: usize>(fields: [String; N]) -> String {
    let fields = fields.map(|field| {
        if field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field
        }
    });
    fields.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be_and_never_formulas() {
        for (text, field) in [
            ("tea", "tea"),
            ("tea, green", "\"tea, green\""),
            ("5\" \"tea\"", "\"5\"\" \"\"tea\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("=HYPERLINK(\"http://x\",1)", "\"'=HYPERLINK(\"\"http://x\"\",1)\""),
            ("+1", "'+1"),
            ("-1+1", "'-1+1"),
            ("@x", "'@x"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("\n=1", "\"'\n=1\""),
            ("＝1", "'＝1"),
            ("a=1", "a=1"),
            ("'=1", "'=1"),
            ("", ""),
        ] {
            assert_eq!(line([words(text), "1".to_owned()]), format!("{field},1\r\n"), "{text}");
        }
    }
}
