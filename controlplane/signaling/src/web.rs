//! HTTP: the sockets, the page, health and metrics for probes, and the goodbye of a page that
//! unloads. The page is built by npm (`web/`) and embedded into the binary. What may hold a
//! connection open, and how many there may be, is limited in `server`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use engineioxide::config::MaxBufferBytes;
use ironcast_api::problem::PROBLEM_MEDIA_TYPE;
use ironcast_api::{ErrorCode, Id, Problem};
use rust_embed::RustEmbed;
use salvo::http::{HeaderValue, Method, ReqBody, ResBody, StatusCode, header};
use salvo::{ConnCtrl, Depot, FlowCtrl, Handler, Request, Response, async_trait};
use serde_json::{Value, json};
use socketioxide::SocketIo;

use crate::broadcast;
use crate::calls;
use crate::failure::Failure;
use crate::gateway::{self, RemoteAddress, SocketHttp, Sockets};
use crate::hosts::MediaHost;
use crate::metrics;
use crate::opened::Opened;
use crate::service::Service;
use crate::settings::Settings;
use crate::store::Stores;

/// Largest goodbye, bytes.
const GOODBYE_BYTES_MAX: usize = 1024;

/// When what is refused in passing may be asked for again. Rates fill by the second, and a media server
/// or a store that is back is noticed as soon.
const RETRY_AFTER_S: u32 = 1;

/// Rooms as other services read them.
const INTERNAL_ROOMS: &str = "/internal/rooms/";

/// Where Socket.IO lives.
pub(crate) const SOCKETS: &str = "/socket.io/";

/// The built page; empty when it was not built before the service.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Page;

/// What the page may load: itself, and nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
     img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
     style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// The whole service over HTTP, sockets included.
#[derive(Clone)]
pub struct Site {
    /// What it serves.
    pub service: Arc<Service>,
    io: SocketIo,
    sockets: Arc<SocketHttp>,
    opened: Arc<Opened>,
    started: Instant,
}

/// Makes it.
pub fn site(settings: Settings, hosts: Vec<MediaHost>, stores: Stores) -> Site {
    let Sockets { http, io, service, opened } = gateway::sockets(settings, hosts, stores);
    Site { service, io, sockets: http, opened, started: Instant::now() }
}

#[async_trait]
impl Handler for Site {
    async fn handle(
        &self,
        request: &mut Request,
        _: &mut Depot,
        response: &mut Response,
        _: &mut FlowCtrl,
    ) {
        let path = request.uri().path().to_owned();
        if path.starts_with(SOCKETS) {
            if let Err(failure) = self.open_session(request) {
                self.service.metrics.sockets_refused.inc();
                return write_problem(response, &problem(failure));
            }
            return socket(&*self.sockets, request, response).await;
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match &*path {
            "/health" | "/ready" | "/metrics" if !is_read => refuse_method(response, "GET, HEAD"),
            "/health" => write_json(response, StatusCode::OK, &self.report("ok")),
            "/ready" if self.service.is_ready() => {
                write_json(response, StatusCode::OK, &self.report("ready"));
            }
            "/ready" => {
                let report = self.report("media_unavailable");
                write_json(response, StatusCode::SERVICE_UNAVAILABLE, &report);
                set(response, header::RETRY_AFTER, &RETRY_AFTER_S.to_string());
            }
            "/metrics" => {
                let text = self.service.metrics_text();
                write(response, StatusCode::OK, metrics::MEDIA_TYPE, text);
            }
            "/api/goodbye" if *request.method() != Method::POST => refuse_method(response, "POST"),
            "/api/goodbye" => self.goodbye(request, response).await,
            path if broadcast::http::is_ours(path) && is_read => {
                let room_id = broadcast::http::room_of(path);
                let admitted = self.service.admit_request(request.headers(), room_id.as_ref());
                if let Err(failure) = admitted {
                    return write_problem(response, &problem(failure));
                }
                let shelf = &self.service.broadcasts.shelf;
                broadcast::http::serve(shelf, path, request, response).await;
            }
            path if path.starts_with(INTERNAL_ROOMS) && is_read => {
                self.room(&path[INTERNAL_ROOMS.len()..], request, response).await;
            }
            path if calls::serve(&self.service, path, request, response).await => {}
            path if path.starts_with("/api/") || path.starts_with("/internal/") => {
                let detail = format!("this service has no {path}");
                write_problem(response, &Problem::new(ErrorCode::NotFound, detail));
            }
            _ if !is_read => refuse_method(response, "GET, HEAD"),
            path => page(path, request, response),
        }
    }
}

impl Site {
    /// Closes all sockets, and waits until what was sent to them has left.
    pub async fn close(&self) {
        self.io.close().await;
    }

    /// A request that is of no session opens one: before anybody knows whether he may come in.
    fn open_session(&self, request: &mut Request) -> Result<(), Failure> {
        // As Engine.IO reads it.
        let query = request.uri().query().unwrap_or_default();
        if query.split('&').any(|part| part.starts_with("sid=")) {
            return Ok(());
        }
        let address = address_of(request);
        self.service.may_open(address)?;
        let session = self.opened.begin_session(address)?;
        request.extensions_mut().insert(Arc::new(session));
        let bytes_max = self.service.settings.bytes_out_per_socket_max;
        request.extensions_mut().insert(MaxBufferBytes(bytes_max));
        Ok(())
    }

    fn report(&self, status: &str) -> Value {
        let (rooms, participants) = self.service.count();
        json!({
            "status": status,
            "version": env!("CARGO_PKG_VERSION"),
            "uptimeS": self.started.elapsed().as_secs(),
            "rooms": rooms,
            "participants": participants,
        })
    }

    /// A room's mode and who is in it.
    async fn room(&self, id: &str, request: &Request, response: &mut Response) {
        let asked = async {
            let id = Id::new(id).map_err(|_| Failure::not_found("room", id))?;
            self.service.admit_request(request.headers(), Some(&id))?;
            self.service.room_view(&id).await
        };
        match asked.await {
            Ok(view) => write_json(response, StatusCode::OK, &view),
            Err(failure) => write_problem(response, &problem(failure)),
        }
    }

    /// `navigator.sendBeacon` sends text without waiting for an answer: whatever the body says it
    /// is, it is read as JSON.
    async fn goodbye(&self, request: &mut Request, response: &mut Response) {
        let body = match request.payload_with_max_size(GOODBYE_BYTES_MAX).await {
            Ok(body) => body.clone(),
            Err(salvo::http::ParseError::PayloadTooLarge) => {
                let detail = format!("a goodbye has at most {GOODBYE_BYTES_MAX} bytes");
                return write_problem(response, &Problem::new(ErrorCode::TooLarge, detail));
            }
            Err(error) => return write_problem(response, &Problem::invalid("", error.to_string())),
        };
        let said = serde_json::from_slice(&body)
            .map_err(|error| Failure::invalid(error.to_string()))
            .and_then(|payload| self.service.goodbye(request.headers(), payload))
            .map_err(problem);
        match said {
            Ok(()) => response.status_code = Some(StatusCode::NO_CONTENT),
            Err(problem) => write_problem(response, &problem),
        }
    }
}

/// Where a request came from. Without a connection, as in a test, all come from one place.
pub(crate) fn address_of(request: &Request) -> IpAddr {
    let address = request.remote_addr().clone().into_std();
    address.map_or_else(|| Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

/// Hands a request to who serves sockets.
pub(crate) async fn socket(sockets: &SocketHttp, request: &mut Request, response: &mut Response) {
    if let Some(address) = request.remote_addr().clone().into_std() {
        request.extensions_mut().insert(RemoteAddress(address.ip()));
    }
    // A WebSocket has pings of its own, and may be silent for longer than a request.
    if request.headers().contains_key(header::UPGRADE)
        && let Some(connection) = request.extensions().get::<ConnCtrl>()
    {
        connection.relax_timeouts();
    }
    match request.strip_to_hyper::<ReqBody>() {
        Ok(request) => response.merge_hyper(sockets(request).await),
        Err(error) => {
            tracing::warn!(%error, "a request cannot be handed to the sockets");
            response.status_code = Some(StatusCode::BAD_REQUEST);
        }
    }
}

/// A failure as HTTP has it.
pub(crate) fn problem(failure: Failure) -> Problem {
    let problem = without_time(failure);
    match StatusCode::from_u16(problem.status) {
        Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
            problem.with_retry_after(RETRY_AFTER_S)
        }
        _ => problem,
    }
}

fn without_time(failure: Failure) -> Problem {
    match &*failure.code {
        "invalid_request" => Problem::invalid("", failure.message),
        "unauthorized" | "token_expired" => {
            Problem::new(ErrorCode::Unauthenticated, failure.message)
        }
        "forbidden" | "not_yours" => Problem::new(ErrorCode::Forbidden, failure.message),
        "store_unavailable" | "media_unavailable" => {
            Problem::new(ErrorCode::DataplaneUnavailable, failure.message)
        }
        // Those that the control API has, too.
        code => {
            let known = ErrorCode::ALL.into_iter().find(|known| known.as_str() == code);
            Problem::new(known.unwrap_or(ErrorCode::NotFound), failure.message)
        }
    }
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn write(response: &mut Response, status: StatusCode, kind: &str, body: impl Into<ResBody>) {
    response.status_code = Some(status);
    set(response, header::CONTENT_TYPE, kind);
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response.body(body);
}

pub(crate) fn write_json(response: &mut Response, status: StatusCode, value: &Value) {
    write(response, status, "application/json", value.to_string());
}

pub(crate) fn write_problem(response: &mut Response, problem: &Problem) {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    write(response, status, PROBLEM_MEDIA_TYPE, body);
    if let Some(seconds) = problem.retry_after {
        set(response, header::RETRY_AFTER, &seconds.to_string());
    }
    if status == StatusCode::UNAUTHORIZED {
        set(response, header::WWW_AUTHENTICATE, "Bearer");
    }
}

pub(crate) fn refuse_method(response: &mut Response, allowed: &str) {
    let problem = Problem {
        status: StatusCode::METHOD_NOT_ALLOWED.as_u16(),
        ..Problem::invalid("", format!("this path takes {allowed}"))
    };
    write_problem(response, &problem);
    set(response, header::ALLOW, allowed);
}

fn page(path: &str, request: &Request, response: &mut Response) {
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "index.html" } else { path };
    let Some(file) = Page::get(path) else {
        return missing(path, response);
    };
    let hash = file.metadata.sha256_hash();
    let tag = hash.iter().take(16).fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
    let tag = format!("\"{tag}\"");
    let known = request.headers().get(header::IF_NONE_MATCH);
    if known.is_some_and(|value| value == tag.as_str()) {
        response.status_code = Some(StatusCode::NOT_MODIFIED);
    } else {
        write(response, StatusCode::OK, content_type(path), file.data.into_owned());
    }
    set(response, header::ETAG, &tag);
    // The build puts a hash into the name of everything below assets/.
    let caching = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    set(response, header::CACHE_CONTROL, caching);
    protect(response);
}

fn protect(response: &mut Response) {
    set(response, header::REFERRER_POLICY, "no-referrer");
    set(response, header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
}

fn missing(path: &str, response: &mut Response) {
    let text = if path == "index.html" {
        "This service was built without its page. Build the page, then the service:\n\n  \
         cd controlplane/signaling/web && npm ci && npm run build\n  \
         cargo build -p ironcast-signaling\n"
    } else {
        "There is nothing here.\n"
    };
    write(response, StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text);
    protect(response);
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
