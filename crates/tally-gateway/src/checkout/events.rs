//! Live status as server-sent events: the version that is now, then each as it is reached.
//!
//! A stream ends when the instance stops, and after an hour; the browser then opens another.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, StreamExt};
use serde_json::json;
use tally_order::Order;
use tally_ports::{Change, ReadModel};
use tally_types::OrderId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::extract::Segments;
use crate::instance::{Instance, StreamPermit};
use crate::problem::Problem;

/// How long one stream lasts.
const STREAM_MAX: Duration = Duration::from_secs(3600);

/// How often something is sent over a stream, so that nobody on the way takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream goes on from.
struct Later {
    model: Arc<dyn ReadModel>,
    changes: Receiver<Change>,
    order: OrderId,
    sent: u32,
    _permit: StreamPermit,
}

pub(super) async fn stream(
    State(app): State<Instance>,
    Segments(id): Segments<String>,
) -> Result<impl IntoResponse, Problem> {
    let id: OrderId = id.parse().map_err(|_| Problem::order_not_found())?;
    let permit = app.streams.open(&id)?;
    // Subscribed before the order is read, so that no version falls between the two.
    let changes = app.model.changes();
    let order = app.order_by_id(&id).await?;
    let first = stream::iter([Ok(event(&order))]);
    let later =
        Later { model: app.model.clone(), changes, order: id, sent: order.version(), _permit: permit };
    let later = stream::unfold(later, next);
    let stop = app.stop.clone();
    let end = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(STREAM_MAX) => {}
        }
    };
    let events = Sse::new(first.chain(later).take_until(end));
    // Proxies that buffer would hold events back.
    Ok(([("x-accel-buffering", "no")], events.keep_alive(KeepAlive::new().interval(KEEP_ALIVE))))
}

/// Waits for a version that was not sent yet.
async fn next(mut later: Later) -> Option<(Result<Event, Infallible>, Later)> {
    loop {
        match later.changes.recv().await {
            Ok(change) if change.order != later.order => continue,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
        let order = later.model.order(&later.order).await.ok().flatten()?;
        if order.version() > later.sent {
            later.sent = order.version();
            return Some((Ok(event(&order)), later));
        }
    }
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
