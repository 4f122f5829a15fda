//! What an orchestrator asks: is it alive, is it ready.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redeliver::pipeline::status::{Gauge, State as Part};
use serde_json::json;

use crate::http::App;

/// Liveness: no once a part has ended that was not told to. Only a new start brings it back.
pub(crate) async fn alive(State(app): State<App>) -> (StatusCode, &'static str) {
    let ended = app
        .parts
        .iter()
        .any(|(_, gauge)| gauge.state() == Part::Ended);
    match ended && !app.is_stopping() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "a part has ended"),
        false => (StatusCode::OK, "alive"),
    }
}

/// Readiness: yes while every part works, and nobody has told the process to end.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let parts: BTreeMap<&str, &str> = (app.parts.iter())
        .map(|(name, gauge)| (&**name, word(gauge.state())))
        .collect();
    let stopping = app.is_stopping();
    let works = |(_, gauge): &(_, Gauge)| gauge.state() == Part::Working;
    let code = match !stopping && app.parts.iter().all(works) {
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
