//! Traces of the API's calls for an OpenTelemetry collector (`control.traces`): one span for each call
//! and each call of a batch, within the trace that the caller names by `traceparent` (W3C). Sent in
//! batches over OTLP as JSON; what waits is bounded, and a collector that is slow or away costs spans
//! and nothing else.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hyper::Uri;
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{
        Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::{runtime::Handle, sync::Mutex, time::timeout};

use crate::{
    auth::Principal,
    call::Answer,
    routes::Found,
    webhooks::{Connection, Endpoint, Reach, system_roots},
};

/// The header by which a caller names his trace.
pub const PARENT: &str = "traceparent";

/// A collector answers within so long, or what was sent counts as lost.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// See the head of this file.
pub struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Telemetry {
    /// To a collector: `http://host:4318`.
    pub fn start(url: &str) -> Result<Self, String> {
        let endpoint = format!("{}/v1/traces", url.trim_end_matches('/'));
        let client = Collector::new(&endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| error.to_string())?;
        let resource = Resource::builder_empty()
            .with_service_name("ironcast-controlplane")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self { tracer: provider.tracer("ironcast"), provider })
    }

    /// A call begins.
    pub fn begin(&self, found: &Found, caller: &Principal, parent: Option<&SpanContext>) -> Span {
        let route = found.route;
        let mut attributes = vec![
            KeyValue::new("http.request.method", route.method),
            KeyValue::new("http.route", format!("/v1{}", route.path)),
            KeyValue::new("ironcast.principal", caller.name.to_string()),
        ];
        attributes.extend(found.ids.first().map(|id| KeyValue::new("ironcast.id", id.to_string())));
        let parent = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(parent.clone())
        });
        let span = self
            .tracer
            .span_builder(format!("{} /v1{}", route.method, route.path))
            .with_kind(SpanKind::Server)
            .with_start_time(SystemTime::now())
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &parent);
        Span(span)
    }

    /// Sends what waits, and ends. Blocks.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// A call under way.
pub struct Span(opentelemetry_sdk::trace::Span);

impl Span {
    /// What calls within it belong to.
    pub fn context(&self) -> SpanContext {
        self.0.span_context().clone()
    }

    /// It is answered.
    pub fn end(mut self, answer: Result<&Answer, &ironcast_api::Problem>) {
        let status = match answer {
            Ok(answer) => answer.status,
            Err(problem) => {
                self.0.set_attribute(KeyValue::new("error.type", problem.code.to_string()));
                problem.status
            }
        };
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.0.set_status(Status::error(""));
        }
        self.0.end();
    }
}

/// The trace that a caller names, if it can be read.
pub fn parent(header: &str) -> Option<SpanContext> {
    let headers = HashMap::from([(PARENT.to_owned(), header.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// How the exporter, which has a thread of its own, reaches the collector: on the runtime.
struct Collector {
    runtime: Handle,
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    connection: Mutex<Connection>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Collector").field(&self.shared.endpoint).finish()
    }
}

impl Collector {
    fn new(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let roots = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(system_roots()?),
            _ => return Err(format!("{url}: it begins with http:// or https://")),
        };
        let endpoint = Endpoint::new(uri, roots, Reach::All)?;
        let shared = Shared { endpoint, connection: Mutex::default() };
        Ok(Self { runtime: Handle::current(), shared: Arc::new(shared) })
    }
}

#[salvo::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let body = String::from_utf8(request.into_body().into())?;
        let shared = Arc::clone(&self.shared);
        let sending = self.runtime.spawn(async move {
            let mut connection = shared.connection.lock().await;
            let headers = [("content-type", "application/json".to_owned())];
            timeout(ANSWER_MAX, connection.post(&shared.endpoint, &headers, body)).await
        });
        let status = sending.await???;
        Ok(Response::builder().status(status).body(Bytes::new())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_parent_is_one() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = parent(header).expect("the example of the specification");
        assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span_id().to_string(), "b7ad6b7169203331");
        for wrong in ["", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(super::parent(wrong).is_none(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_collector_has_an_address() {
        for wrong in ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "http://a b"] {
            assert!(Telemetry::start(wrong).is_err(), "{wrong}");
        }
    }
}
