//! What happens as it happens.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tributary_orchestrator::status::Notice;

use crate::app::Shared;
use crate::limits::busy;

/// Proxies close what is silent for a minute or half.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happens from now on.
#[utoipa::path(
    get, path = "/events", operation_id = "subscribe", tag = "overview",
    summary = "What happens from now on, as server-sent events",
    description = "Each event is named after its kind, `flow`, `run`, `trigger`, `alert` or `reloaded`, and its data is a Notice as JSON. \
        A subscriber that falls behind by too much gets the event `lagged`, with `{\"missed\": count}`, and should ask for all again; \
        then it goes on. There are 100 subscribers at most.",
    responses((status = 200, description = "The events", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn events(State(app): State<Shared>) -> Response {
    let Ok(place) = Arc::clone(&app.subscribers).try_acquire_owned() else {
        return busy("there are as many subscribers as there can be; try again later");
    };
    let stopped = app.stop.clone().cancelled_owned();
    let events = BroadcastStream::new(app.control.notices())
        .map(move |received| {
            // The place is taken for as long as the stream is there.
            let _place = &place;
            event(received)
        })
        .take_until(stopped);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events).keep_alive(keep_alive).into_response()
}

fn event(received: Result<Notice, BroadcastStreamRecvError>) -> Result<Event, axum::Error> {
    match received {
        Ok(notice) => {
            let name = match &notice {
                Notice::Flow(_) => "flow",
                Notice::Run(_) => "run",
                Notice::Trigger(_) => "trigger",
                Notice::Alert(_) => "alert",
                Notice::Reloaded(_) => "reloaded",
            };
            Event::default().event(name).json_data(&notice)
        }
        Err(BroadcastStreamRecvError::Lagged(missed)) => Event::default()
            .event("lagged")
            .json_data(serde_json::json!({ "missed": missed })),
    }
}
