//! A key-value service over HTTP, on axum.
//!
//!     cargo run --release --example axum_kv [FILE] [--self-test]
//!
//! serves on 127.0.0.1:8080 until ctrl-c; with `--self-test` on a free port, asks itself, and ends.
//!
//! | request                | answer                                                             |
//! |------------------------|--------------------------------------------------------------------|
//! | `GET /rows/KEY`        | 200 and the value, or 404                                          |
//! | `PUT /rows/KEY`        | 204 when the body is stored durably                                |
//! | `POST /rows/KEY`       | 201 when created, 409 when there is a row already                  |
//! | `DELETE /rows/KEY`     | 204                                                                |
//! | `GET /rows?prefix=KEY` | 200 and the rows as JSON lines, streamed from one snapshot         |
//! | `GET /ready`           | 200, or 503 and the cause when the database cannot read or write   |

mod client;
mod place;

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use ringdb::{ColumnFamily, Db, ErrorKind, Value};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[derive(Clone)]
struct App {
    db: Db,
    rows: ColumnFamily,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = place::Place::from_args()?;
    let db = Db::open(place.path()).await?;
    let app = App { rows: db.column_family("rows").await?, db: db.clone() };
    if std::env::args().any(|argument| argument == "--self-test") {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, app, async { drop(stopped.await) }));
        client::self_test(address).await?;
        drop(stop);
        server.await??;
    } else {
        let listener = TcpListener::bind("127.0.0.1:8080").await?;
        println!("listening on http://{}", listener.local_addr()?);
        serve(listener, app, async { drop(tokio::signal::ctrl_c().await) }).await?;
    }
    // Requests in flight have been answered: what is left is a checkpoint.
    db.close().await?;
    println!("closed");
    Ok(())
}

async fn serve<F>(listener: TcpListener, app: App, stop: F) -> std::io::Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let row = get(read).put(write).post(create).delete(remove);
    let router = Router::new()
        .route("/rows/{key}", row)
        .route("/rows", get(list))
        .route("/ready", get(ready))
        .with_state(app);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn read(State(app): State<App>, Path(key): Path<String>) -> Result<Bytes, Failure> {
    match app.rows.get(key).await? {
        Some(value) => Ok(value.into()),
        None => Err(Failure::NoRow),
    }
}

/// Durable before it is answered. If the client goes away meanwhile, the row is stored whole or not
/// at all.
async fn write(
    State(app): State<App>,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    app.rows.put_bytes(key, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Two clients that create the same key at once conflict: one is run again, and finds the row of
/// the other.
async fn create(
    State(app): State<App>,
    Path(key): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    let work = |tx: ringdb::Transaction| {
        let (rows, key, body) = (app.rows.clone(), key.clone(), body.clone());
        async move {
            if tx.contains(&rows, &key).await? {
                return Err(Failure::RowExists);
            }
            tx.put(&rows, key, body);
            Ok(())
        }
    };
    app.db.transact(work).await?;
    Ok(StatusCode::CREATED)
}

async fn remove(State(app): State<App>, Path(key): Path<String>) -> Result<StatusCode, Failure> {
    app.rows.delete(key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body is read from the database as the client takes it, never held whole. A scan that fails,
/// or whose snapshot expires under a slow client, cuts the connection: the client sees a body
/// without its end.
async fn list(State(app): State<App>, Query(query): Query<HashMap<String, String>>) -> Response {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let rows = if prefix.is_empty() { app.rows.iter() } else { app.rows.prefix(prefix) };
    let lines = rows.map(|row| row.map(|(key, value)| json_line(&key, &value)));
    ([("content-type", "application/jsonl")], Body::from_stream(lines)).into_response()
}

/// Bytes that are not UTF-8 are replaced here; `GET /rows/KEY` gives them as they are.
fn json_line(key: &Value, value: &Value) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n", serde_json::json!({ "key": text(key), "value": text(value) }))
}

async fn ready(State(app): State<App>) -> Result<&'static str, Failure> {
    let health = app.db.health();
    health.reads.and(health.writes).map_err(Failure::NotReady)?;
    Ok("ready\n")
}

/// Why a request was not done.
enum Failure {
    NoRow,
    RowExists,
    NotReady(ringdb::Error),
    Engine(ringdb::Error),
}

impl From<ringdb::Error> for Failure {
    fn from(error: ringdb::Error) -> Failure {
        Failure::Engine(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::NoRow => (StatusCode::NOT_FOUND, "no such row\n").into_response(),
            Failure::RowExists => {
                (StatusCode::CONFLICT, "there is a row already\n").into_response()
            }
            Failure::NotReady(error) => answer(StatusCode::SERVICE_UNAVAILABLE, &error),
            Failure::Engine(error) => answer(status(&error), &error),
        }
    }
}

/// The message is fit to be sent; the file, the offset and the cause go to the operator.
fn answer(status: StatusCode, error: &ringdb::Error) -> Response {
    if status.is_server_error() {
        eprintln!("{error:?}");
    }
    (status, format!("{error}\n")).into_response()
}

fn status(error: &ringdb::Error) -> StatusCode {
    match error.kind() {
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Busy | ErrorKind::Conflict | ErrorKind::Closed | ErrorKind::Poisoned => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
