//! What an orchestrator asks: is it alive, is it ready.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redeliver::pipeline::status::State as Part;
use serde_json::json;

use crate::http::App;

/// Liveness: no once a part has ended that was not told to. Only a new start brings it back.
pub(crate) async fn alive(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.health.has_ended() && !app.is_stopping() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "a part has ended"),
        false => (StatusCode::OK, "alive"),
    }
}

/// Readiness: yes while every part works, and nobody has told the process to end.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let parts = app.health.parts().map(|(name, state)| (name, word(state)));
    let parts: BTreeMap<&str, &str> = parts.collect();
    let stopping = app.is_stopping();
    let code = match !stopping && app.health.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(json!({"stopping": stopping, "parts": parts}))).into_response()
}

fn word(part: Part) -> &'static str {
    match part {
        Part::Connecting => "connecting",
        Part::Working => "working",
        Part::Ended => "ended",
    }
}
