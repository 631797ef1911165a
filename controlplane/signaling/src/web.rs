//! HTTP beside the sockets: the page, health for probes, and the goodbye of a page that unloads.
//! The page is built by npm (`web/`) and embedded into the binary.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use rust_embed::RustEmbed;
use serde_json::{Value, json};

use crate::gateway;
use crate::media::Media;
use crate::service::Service;
use crate::settings::Settings;

/// Largest goodbye, bytes.
const GOODBYE_BYTES_MAX: usize = 1024;

/// The built page; empty when it was not built before the service.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Page;

/// What the page may load: itself, and nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
     img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
     style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// What the routes share.
#[derive(Clone)]
struct Shared {
    service: Arc<Service>,
    started: Instant,
}

/// The whole service as routes, sockets included.
pub fn app(settings: Settings, media: Arc<dyn Media>) -> (Router, Arc<Service>) {
    let (sockets, service) = gateway::sockets(settings, media);
    let shared = Shared { service: Arc::clone(&service), started: Instant::now() };
    let routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/api/goodbye", post(goodbye))
        .fallback(page)
        .layer(DefaultBodyLimit::max(GOODBYE_BYTES_MAX))
        .with_state(shared)
        .layer(sockets);
    (routes, service)
}

async fn health(State(shared): State<Shared>) -> Json<Value> {
    Json(report(&shared, "ok"))
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.service.is_ready() {
        Json(report(&shared, "ready")).into_response()
    } else {
        let report = Json(report(&shared, "media_unavailable"));
        (StatusCode::SERVICE_UNAVAILABLE, report).into_response()
    }
}

fn report(shared: &Shared, status: &str) -> Value {
    let (rooms, participants) = shared.service.count();
    json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeS": shared.started.elapsed().as_secs(),
        "rooms": rooms,
        "participants": participants,
    })
}

/// `navigator.sendBeacon` sends text without waiting for an answer: whatever the body says it is,
/// it is read as JSON.
async fn goodbye(State(shared): State<Shared>, body: Bytes) -> StatusCode {
    let Ok(payload) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
    match shared.service.goodbye(payload) {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(failure) if failure.code == "invalid_request" => StatusCode::BAD_REQUEST,
        Err(_) => StatusCode::NOT_FOUND,
    }
}

async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let Some(file) = Page::get(path) else {
        return missing(path);
    };
    let tag = file
        .metadata
        .sha256_hash()
        .iter()
        .take(16)
        .fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == tag.as_str());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.data))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    // The build puts a hash into the name of everything below assets/.
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn missing(path: &str) -> Response {
    if path == "index.html" {
        let text = "This service was built without its page. Build the page, then the service:\n\n  \
                    cd controlplane/signaling/web && npm ci && npm run build\n  \
                    cargo build -p ironcast-signaling\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    (StatusCode::NOT_FOUND, "There is nothing here.\n").into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json" | "map" | "webmanifest") => "application/json",
        _ => "application/octet-stream",
    }
}
