//! HTTP/3: accepts QUIC connections and hands their requests to the same handler as the other doors.
//! Ours and not the web framework's, because a peer can do most harm here before it has said who
//! it is: what it may have us keep, and for how long, is bounded in this file.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use h3::{error::Code, server::RequestResolver};
use rustls::pki_types::CertificateDer;
use salvo::{
    Service,
    conn::ConnCtrl,
    http::{ReqBody, ResBody, body::H3ReqBody, uri::Scheme},
    hyper::{self, Request, Response, service::Service as HyperService},
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{self, Admission, Slot},
    bounded::{self, Bounded},
};

/// Requests of one connection at once.
const STREAMS_MAX: u32 = 1_024;
/// The same before it has shown that it may call.
const STREAMS_MAX_UNPROVEN: u32 = 16;
/// Bytes of one stream, and of all of a connection's, that may wait to be read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A connection without a sign of life ends.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// A request whose header is not there by then is given up.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// With so many connections new ones have to prove that their address is theirs.
const RETRY_FROM: usize = 256;

/// Breaks off the answer of one request; found in the request's extensions.
#[derive(Debug, Clone, Default)]
pub struct BreakOff(CancellationToken);

impl BreakOff {
    /// Resets the stream that the answer is written to; everything else of the connection goes on.
    pub fn now(&self) {
        self.0.cancel();
    }
}

/// The client's certificate and those that lead to its CA; found in the request's extensions.
#[derive(Debug, Clone)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Takes connections.
pub struct QuicServer {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    admission: Arc<Admission>,
    stopping: Stopping,
}

/// Ends a server of this file.
#[derive(Debug, Clone, Default)]
pub struct Stopping {
    graceful: CancellationToken,
    forceful: CancellationToken,
}

impl Stopping {
    /// No new connections and requests; what is under way is finished.
    pub fn graceful(&self) {
        self.graceful.cancel();
    }

    /// All ends now.
    pub fn forceful(&self) {
        self.forceful.cancel();
    }
}

impl QuicServer {
    /// Listens. The certificates are in `config` already.
    pub fn bind(
        mut config: quinn::ServerConfig,
        address: SocketAddr,
        admission: Arc<Admission>,
    ) -> io::Result<Self> {
        let mut transport = quinn::TransportConfig::default();
        let idle = IDLE_MAX.try_into().map_err(io::Error::other)?;
        transport
            .max_concurrent_bidi_streams(STREAMS_MAX_UNPROVEN.into())
            .max_concurrent_uni_streams(8u32.into())
            .stream_receive_window(STREAM_WINDOW.into())
            .receive_window(CONNECTION_WINDOW.into())
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle));
        config.transport_config(Arc::new(transport));
        let socket = ironcast_udp::open(address)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)?;
        Ok(Self { endpoint, address, admission, stopping: Stopping::default() })
    }

    /// How to end it.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.stopping.clone()
    }

    /// Serves until it is stopped.
    pub async fn serve(self, service: Service) {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => incoming,
                    None => break,
                },
                Some(_) = connections.join_next() => continue,
                () = self.stopping.graceful.cancelled() => break,
                () = self.stopping.forceful.cancelled() => break,
            };
            let Some((connecting, slot)) = self.admit(incoming) else { continue };
            let peer = connecting.remote_address();
            // Its type has no name outside of the framework.
            let handler = service.hyper_handler(
                self.address.into(),
                peer.into(),
                Scheme::HTTPS,
                Some(admission::times()),
                ConnCtrl::new(),
                None,
            );
            let stop = self.stopping.graceful.clone();
            connections.spawn(async move {
                if let Err(error) = serve(connecting, slot, handler, stop).await {
                    tracing::debug!(%peer, %error, "a connection ended");
                }
            });
        }
        let farewell = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = farewell => {}
            () = self.stopping.forceful.cancelled() => {}
        }
        self.endpoint.close(0u32.into(), b"");
    }

    fn admit(&self, incoming: quinn::Incoming) -> Option<(quinn::Connecting, Slot)> {
        let peer = incoming.remote_address();
        let count = self.admission.count();
        if count >= RETRY_FROM && !incoming.remote_address_validated() {
            // Without memory of it: a forged address costs nothing.
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            return None;
        }
        if count >= self.admission.connections_max || !self.admission.has_room(peer.ip()) {
            incoming.refuse();
            return None;
        }
        Some((incoming.accept().ok()?, self.admission.enter(peer)))
    }
}

/// What answers requests.
trait Handler:
    HyperService<Request<ReqBody>, Response = Response<ResBody>, Error = hyper::Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Handler for T where
    T: HyperService<
            Request<ReqBody>,
            Response = Response<ResBody>,
            Error = hyper::Error,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

async fn serve(
    connecting: quinn::Connecting,
    slot: Slot,
    handler: impl Handler,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut proof = Box::pin(slot.proof());
    let connection = tokio::select! {
        connected = connecting => connected.map_err(io::Error::other)?,
        // Half a handshake has no request to wait for.
        () = stop.cancelled() => return Ok(()),
        _ = &mut proof => return Ok(()),
    };
    let serving = requests(connection.clone(), handler, stop);
    tokio::pin!(serving);
    let is_proven = tokio::select! {
        served = &mut serving => return served,
        is_proven = &mut proof => is_proven,
    };
    if !is_proven {
        connection.close(Code::H3_EXCESSIVE_LOAD.value().try_into().unwrap_or_default(), b"");
        return Ok(());
    }
    connection.set_max_concurrent_bi_streams(STREAMS_MAX.into());
    serving.await
}

/// All requests of a connection, until it ends.
async fn requests(
    connection: quinn::Connection,
    handler: impl Handler,
    stop: CancellationToken,
) -> io::Result<()> {
    let certificates = certificates_of(&connection);
    let mut http = h3::server::builder()
        .max_field_section_size(bounded::FRAME_BYTES_MAX)
        // Some clients wait for the end of a stream behind which such a frame was sent.
        .send_grease(false)
        .build(Bounded(h3_quinn::Connection::new(connection)))
        .await
        .map_err(io::Error::other)?;
    // Dropped with the connection: no answer outlives it.
    let mut answers = JoinSet::new();
    let mut is_stopping = false;
    loop {
        tokio::select! {
            accepted = http.accept() => match accepted {
                Ok(Some(resolver)) => {
                    let certificates = certificates.clone();
                    answers.spawn(answer(resolver, handler.clone(), certificates));
                }
                Ok(None) | Err(_) => return Ok(()),
            },
            Some(_) = answers.join_next() => {}
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                http.shutdown(0).await.map_err(io::Error::other)?;
            }
        }
    }
}

fn certificates_of(connection: &quinn::Connection) -> Option<PeerCertificates> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Some(PeerCertificates((*chain).into()))
}

async fn answer(
    resolver: RequestResolver<Bounded<h3_quinn::Connection>, Bytes>,
    handler: impl Handler,
    certificates: Option<PeerCertificates>,
) {
    let resolved = timeout(HEADER_TIME_MAX, resolver.resolve_request()).await;
    let (request, stream) = match resolved {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => return tracing::debug!(%error, "a request that cannot be read"),
        Err(_) => return tracing::debug!("a request whose header did not come"),
    };
    let (mut out, body) = stream.split();
    let break_off = BreakOff::default();
    let mut request: Request<ReqBody> = request.map(|()| H3ReqBody::new(body).into());
    request.extensions_mut().insert(break_off.clone());
    if let Some(certificates) = certificates {
        request.extensions_mut().insert(certificates);
    }
    let response = match handler.call(request).await {
        Ok(response) => response,
        Err(error) => return tracing::error!(%error, "a request was not handled"),
    };
    let code = tokio::select! {
        sent = send(&mut out, response) => match sent {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(error, "an answer was not taken");
                Code::H3_INTERNAL_ERROR
            }
        },
        () = break_off.0.cancelled() => Code::H3_REQUEST_CANCELLED,
    };
    // A broken answer must not look like a whole one.
    out.stop_stream(code);
}

type Out = h3::server::RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;

async fn send(out: &mut Out, response: Response<ResBody>) -> Result<(), String> {
    let (parts, mut body) = response.into_parts();
    let failed = |error: h3::error::StreamError| error.to_string();
    out.send_response(Response::from_parts(parts, ())).await.map_err(failed)?;
    while let Some(frame) = body.next().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Ok(data) = frame.into_data() {
            out.send_data(data).await.map_err(failed)?;
        }
    }
    out.finish().await.map_err(failed)
}
