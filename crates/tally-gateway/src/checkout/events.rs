//! Live status as server-sent events: the version that is now, then each as it is reached.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt};
use serde_json::json;
use tally_order::Order;
use tally_ports::ReadModel;
use tally_types::OrderId;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;
use crate::problem::Problem;

pub(super) async fn stream(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let id: OrderId = id.parse().map_err(|_| Problem::order_not_found())?;
    // Subscribed before the order is read, so that no version falls between the two.
    let changes = app.model.changes();
    let order = app.order_by_id(&id).await?;
    let sent = order.version();
    let first = stream::iter([Ok(event(&order))]);
    let later = stream::unfold((app, id, changes, sent), |(app, id, mut changes, sent)| async move {
        loop {
            match changes.recv().await {
                Ok(change) if change.order != id => continue,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
            let order = current(&*app.model, &id).await?;
            if order.version() > sent {
                let version = order.version();
                return Some((Ok(event(&order)), (app, id, changes, version)));
            }
        }
    });
    Ok(Sse::new(first.chain(later)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

async fn current(model: &dyn ReadModel, id: &OrderId) -> Option<Order> {
    model.order(id).await.ok().flatten()
}

fn event(order: &Order) -> Event {
    let data = json!({
        "order": order.id(),
        "version": order.version(),
        "status": order.status().as_str(),
        "exception": order.exceptions().word(),
    });
    Event::default().id(order.version().to_string()).data(data.to_string())
}
