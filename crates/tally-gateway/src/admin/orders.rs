//! Orders, as operators see them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_order::Order;
use tally_ports::OrderFilter;
use tally_types::{Face, MerchantId, OrderId};

use super::broken;
use crate::app::App;
use crate::extract::{JsonBody, Params, Segments};
use crate::problem::Problem;

/// How many orders one answer may list.
const LIST_MAX: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    merchant: Option<MerchantId>,
    #[serde(default)]
    face: Option<Face>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    before: Option<OrderId>,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptBody {
    #[serde(default)]
    by: Option<String>,
}

/// An order as subscribers see it, and beside each quote's rate where it came from.
fn view(order: &Order) -> Value {
    let mut shown = json!(order.public(order.version()));
    let quotes = shown.get_mut("quotes").and_then(Value::as_array_mut);
    for (quote, shown) in order.quotes().iter().zip(quotes.into_iter().flatten()) {
        if let (Some(lock), Some(shown)) = (&quote.terms().rate, shown.as_object_mut()) {
            shown.insert("rate_sources".to_owned(), json!(lock.sources));
            shown.insert("rate_at".to_owned(), json!(lock.at));
        }
    }
    shown
}

pub(super) async fn list(
    State(app): State<App>,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Value>, Problem> {
    let limit = wanted.limit.unwrap_or(50).clamp(1, LIST_MAX);
    if let Some(status) = &wanted.status {
        status.parse::<tally_order::Status>().map_err(|error| Problem::field("status", error))?;
    }
    let filter = OrderFilter {
        merchant: wanted.merchant,
        face: wanted.face,
        status: wanted.status,
        before: wanted.before,
    };
    app.caught_up_with_all().await?;
    let orders = app.model.orders(&filter, limit).await.map_err(broken)?;
    let next = (orders.len() == limit).then(|| orders.last().map(|order| order.id().clone())).flatten();
    Ok(Json(json!({ "orders": orders.iter().map(view).collect::<Vec<_>>(), "next_before": next })))
}

pub(super) async fn show(
    State(app): State<App>,
    Segments(id): Segments<OrderId>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(view(&app.order_by_id(&id).await?)))
}

pub(super) async fn cancel(
    State(app): State<App>,
    Segments(id): Segments<OrderId>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(view(&app.cancel_order(&id).await?)))
}

pub(super) async fn accept(
    State(app): State<App>,
    Segments(id): Segments<OrderId>,
    JsonBody(body): JsonBody<AcceptBody>,
) -> Result<Json<Value>, Problem> {
    let by = body.by.unwrap_or_else(|| "operator".to_owned());
    if by.is_empty() || by.len() > 100 || by.chars().any(char::is_control) {
        return Err(Problem::field("by", "must have 1 to 100 characters and no control characters"));
    }
    Ok(Json(view(&app.accept_order(&id, &by).await?)))
}
