//! What the service answers.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use redeliver::pipeline::client::Client;
use redeliver::pipeline::handler::Failure;
use redeliver::pipeline::status::Health;
use redeliver::ports::StoreError;
use redeliver::postgres::PgStore;
use serde_json::json;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::orders::{self, OrderPlaced, Placed};
use crate::probes;
use crate::start::{Live, Service};
use crate::stop;

/// How long open requests may take once the process was told to end.
const REQUESTS_WITHIN: Duration = Duration::from_secs(5);

/// What every request may use.
#[derive(Clone)]
pub(crate) struct App {
    client: Client<Live>,
    pool: PgPool,
    pub(crate) health: Health,
    stopping: watch::Receiver<bool>,
}

impl App {
    pub(crate) fn new(service: &Service, stopping: watch::Receiver<bool>) -> Self {
        Self {
            client: service.client.clone(),
            pool: service.store.pool().clone(),
            health: service.running.health(),
            stopping,
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// Answers until the process is told to end, then takes no more connections and ends what is open.
pub(crate) async fn serve(listener: TcpListener, app: App, stopping: watch::Receiver<bool>) {
    let routes = Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(order))
        .route("/healthz", get(probes::alive))
        .route("/readyz", get(probes::ready))
        .with_state(app);
    let server = axum::serve(listener, routes);
    let server = server.with_graceful_shutdown(stop::told(stopping.clone()));
    let late = async {
        stop::told(stopping).await;
        // A client that never ends its request must not keep the process.
        tokio::time::sleep(REQUESTS_WITHIN).await;
    };
    tokio::select! {
        _ = server => {}
        () = late => tracing::warn!("requests were still open; their clients send them again"),
    }
}

async fn place(State(app): State<App>, Json(placed): Json<OrderPlaced>) -> Response {
    if let Some(fault) = placed.fault() {
        return (StatusCode::UNPROCESSABLE_ENTITY, fault).into_response();
    }
    match orders::place(&app.client, &placed).await {
        Ok(Placed::Stands) => (StatusCode::ACCEPTED, "accepted").into_response(),
        Ok(Placed::Differs) => {
            (StatusCode::CONFLICT, "this order has another amount").into_response()
        }
        Err(failure) => failed(failure),
    }
}

/// A request that was not carried out, or of which nobody knows whether it was.
fn failed(failure: Failure) -> Response {
    let failure = failure.judged::<PgStore>();
    match &failure {
        Failure::Store(
            StoreError::InDoubt(_) | StoreError::Unreachable(_) | StoreError::Transient(_),
        ) => {
            tracing::warn!(%failure, "a request is to be sent again");
            again()
        }
        // It would fail again: somebody has to look.
        _ => {
            tracing::error!(%failure, "a request failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn again() -> Response {
    let after = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, after, "send it again").into_response()
}

async fn order(State(app): State<App>, Path(id): Path<String>) -> Response {
    match orders::find(&app.pool, &id).await {
        Ok(Some((cents, charged))) => {
            Json(json!({"order": id, "cents": cents, "charged": charged})).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::warn!(%error, "an order cannot be read");
            again()
        }
    }
}
