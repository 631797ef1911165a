//! What people read in the OpenAPI document and on the page made of it.

use serde_json::{Value, json};

use crate::routes::{Op, Route};

pub const ABOUT: &str = "\
An Ironcast host forwards audio and video between WebRTC clients. A signaling service tells it by \
this API what should exist, and is told by events what happens.

**Nouns.** A *router* is a room: what is sent in it can be received in it. A *transport* is one \
client's connection, by ICE, DTLS and SRTP; a client commonly has one to send and one to receive. A \
*producer* is a track that a client sends, a *consumer* a track that it receives: each consumer takes \
one producer. An *observer* tells who speaks. Shapes and names of RTP are those of mediasoup, so that mediasoup-client takes the \
answers as they are.

**A call, in order.** `create_router`; its `rtpCapabilities` go to `device.load()`. For each client \
two `create_transport`. On the client's `connect` event `connect_transport`, on its `produce` event \
`create_producer`. For each track of somebody else `create_consumer` with `paused: true`, whose \
answer goes to `recvTransport.consume()`, then `resume_consumer`. At the end `leave` or \
`delete_router`. `batch` does many of these in one round trip.

**Repeating is safe.** Who chooses the `id` may send the same create again: it answers 200 with what \
is there. Another body for the same id is 409, and so is an id that was deleted within the last \
minute. Closing what is not there is 204.

**Errors** are problem documents (RFC 9457, `application/problem+json`). Programs compare `code`, \
which is stable; `detail` is for people.

**Order.** Each answer carries `Ironcast-Seq`, the number of the last event that it includes. Events \
with a greater number happened later.

**Paths** begin with `/v1`; the same without it is the same call. Besides what is said at each call, \
a path that does not exist is 404 `not_found`, and a method that it lacks is 405 \
`method_not_allowed` with the header `Allow`. `HEAD` answers as `GET` does, without the body. What is \
in no schema here is refused in a request, except within `rtpParameters`, `rtpCapabilities`, \
`dtlsParameters` and `appData`; answers may have more fields in later versions. Whole numbers are \
written without a point: `7`, not `7.0`.

**Who sees what.** A caller sees and touches the routers that it made, and what hangs below them. \
Who has the scope `admin` sees all.";

pub const BEARER: &str = "`Authorization: Bearer TOKEN`: a token of `control.token_file`, or a JSON \
Web Token (EdDSA, ES256, RS256) with `sub`, `exp`, `aud` and `scope`, signed by a key of \
`control.jwt_keys`. Scopes are `read`, `control` and `admin`; each includes those before it.";

pub const CERTIFICATE: &str = "A client certificate of `control.client_ca` that is not on \
`control.client_crl`. Its organizational units called `read`, `control` or `admin` are its scopes.";

pub const LAST_EVENT_ID: &str = "The `id:` of the last event that was read: the stream goes on behind \
it. Browsers' `EventSource` sends it by itself.";

pub const EVENTS: &str = "The events of the stream: for each name, which stands in `event:`, what \
stands in `data:`. A map for generators of types; no message has this form.";

pub const WEBHOOK: &str = "\
Sent by the server to the receivers of `control.webhooks` and those that `create_webhook` made, in the order of the stream, at least once; \
what was not taken is repeated with growing pauses. Signed as the Standard Webhooks specification \
says: compare the signature in constant time, and refuse a timestamp that is more than five minutes \
off. Too many waiting events are dropped at the old end, and `events_lost` says so where they stood; \
after a restart of the control plane it comes with the reason `new_epoch`: take a snapshot then.";

pub const OK: &str = "Done.";
pub const MADE: &str = "It was made.";
pub const WAS_THERE: &str = "The same request made it before: this is its current state.";
pub const DONE: &str = "Done. There is nothing to say.";

/// Headers of answers.
pub fn headers() -> Value {
    let header = |description: &str, schema: Value, is_always_there: bool| json!({ "description": description, "schema": schema, "required": is_always_there });
    json!({
        "Ironcast-Seq": header(
            "The number of the last event that the answer includes.",
            json!({ "type": "string", "pattern": "^[0-9]+-[0-9]+$", "example": "1795911870935-42" }),
            true,
        ),
        "Retry-After": header(
            "Seconds to wait before the call is repeated; where it makes sense to.",
            json!({ "type": "integer", "minimum": 1 }),
            false,
        ),
        "WWW-Authenticate": header(
            "How to show who calls.",
            json!({ "type": "string", "const": "Bearer" }),
            true,
        ),
    })
}

/// In the order in which a reader needs them.
pub fn tags() -> Value {
    let tags = [
        ("Routers", "Rooms. What is sent in one can be received in it."),
        ("Transports", "Connections of clients, and the participants that they belong to."),
        ("Producers", "Tracks that clients send."),
        ("Consumers", "Tracks that clients receive."),
        ("Observers", "Who of those who send speaks."),
        ("Events", "What happens, as it happens, and what there is."),
        ("Batch", "Many calls in one round trip."),
        ("Host", "The server itself: health, load, figures."),
        ("Admin", "For who runs the host."),
    ];
    tags.map(|(name, description)| json!({ "name": name, "description": description })).into()
}

pub fn tag(route: &Route) -> &'static str {
    match route.path.split('/').nth(1).unwrap_or_default() {
        "routers" => "Routers",
        "transports" | "participants" => "Transports",
        "producers" => "Producers",
        "consumers" => "Consumers",
        "observers" => "Observers",
        "events" | "snapshot" => "Events",
        "batch" => "Batch",
        "admin" | "audit" | "webhooks" => "Admin",
        _ => "Host",
    }
}

/// What the id in the path is.
pub fn id_of(route: &Route) -> &'static str {
    match route.path.split('/').nth(1).unwrap_or_default() {
        "routers" => "The router's id.",
        "transports" => "The transport's id.",
        "participants" => "The `participantId` that the transports were made with.",
        "producers" => "The producer's id.",
        "consumers" => "The consumer's id.",
        "observers" => "The observer's id.",
        "webhooks" => "The receiver's id.",
        _ => "The worker's id.",
    }
}

/// What a call does, and what who makes it should know.
pub fn description(route: &Route) -> &'static str {
    match route.op {
        Op::Health => {
            "Whether the control plane works, what it calls itself, and whether it is attached to \
             the dataplane. 200 for as long as the process works. Also on the ops door, where nobody \
             is asked who he is."
        }
        Op::Ready => {
            "For load balancers: 200 if a router could be made now, 503 while the host drains or has \
             no dataplane. Also on the ops door."
        }
        Op::Snapshot => {
            "All routers with their transports, producers and consumers: what to list again after \
             `events_lost`. Go on with `GET /events?after=` and its `seq`. It is written while it is \
             read, so a large one takes no memory; with `limit` it comes in pages of routers."
        }
        Op::Workers => {
            "Each worker is one thread on one core; a router lives on one of them. `load` is what new \
             routers are placed by."
        }
        Op::Worker => "One of them.",
        Op::OpenApi => "This document, generated from the server's code. `GET /docs` shows it.",
        Op::Metrics => "Counters, gauges and histograms. Also on the ops door.",
        Op::Audit => {
            "The last entries, the newest last. All of them are in `control.audit_file`, if there is \
             one. What changed nothing is no entry."
        }
        Op::Reload => {
            "Certificates, tokens, keys, limits, log levels, announced addresses: what may change \
             while calls go on. All of it is taken or, if anything is wrong, nothing. The answer says \
             what is different now, and what is only after a restart."
        }
        Op::Batch => {
            "Each call is done as if it had come alone, in order; the answers have the same order. \
             Each has a status of its own, so the batch is 200 even if all of them failed. \
             `/events`, `/snapshot`, `/metrics`, `/openapi.json` and `/batch` cannot be in it."
        }
        Op::Events => {
            "Server-sent events: `id:` is the number of the event, `event:` its name, `data:` JSON \
             (schema `EventsByName`). The stream begins behind `Last-Event-ID` or `after`, else now. \
             Events are kept for a minute; who asks for older ones is answered 410 `events_lost`. A \
             comment each 15 s keeps the stream alive. Who reads too slowly is cut off. Of scores only \
             the newest is told, and they are not repeated."
        }
        Op::CreateRouter => {
            "Makes a room on the worker with the lowest load, unless `workerId` or `placement` say \
             otherwise. Without `mediaCodecs` it takes Opus, VP8, VP9, H264 and AV1."
        }
        Op::ListRouters => {
            "A page of routers in ascending order of ids, each with how much is in it."
        }
        Op::GetRouter => {
            "One router with the ids of its transports, producers, consumers and observers."
        }
        Op::DeleteRouter => {
            "Closes it with all transports, producers and consumers. The event `router.closed` implies \
             theirs. Safe to repeat."
        }
        Op::CanConsume => {
            "Whether a receiver with these capabilities could take this producer, as far as codecs go."
        }
        Op::CreateTransport => {
            "Makes a client's connection. `id`, `iceParameters`, `iceCandidates` and `dtlsParameters` \
             of the answer go to `createSendTransport` or `createRecvTransport` of mediasoup-client. \
             The type `plain` is for peers without ICE and DTLS (FFmpeg, GStreamer), the type `pipe` for \
             another host: the answer's `tuple` says where they send to. `participantId` is a name of the caller's choice: \
             `leave` closes all transports that carry it."
        }
        Op::ListTransports => "A page of transports in ascending order of ids.",
        Op::GetTransport => "One transport with the states of ICE and DTLS.",
        Op::PatchTransport => {
            "Limits of the bit rate. A missing field stays as it is, 0 takes a limit away."
        }
        Op::DeleteTransport => "Closes it with its producers and consumers. Safe to repeat.",
        Op::ConnectTransport => {
            "Tells the client's role and the fingerprints of its certificate, as mediasoup-client's \
             `connect` event gives them; of a plain or pipe transport where its peer is (`ip`, `port`, \
             `rtcpPort`; not with `comedia`) and what it seals with (`srtpParameters`). Once for each transport; the same again is 200, others are \
             409 `wrong_state`."
        }
        Op::RestartIce => {
            "New credentials, for `restartIce` of mediasoup-client, when a client's network has \
             changed. Media flows on by the old path meanwhile."
        }
        Op::TransportStats => {
            "Bytes, bit rates, losses and the estimate of the path, as a list of one record."
        }
        Op::TransportDump | Op::ProducerDump | Op::ConsumerDump | Op::ObserverDump => {
            "Everything that the dataplane knows about it, for people who look for a fault. Its form \
             may change with each version."
        }
        Op::TransportSdp => {
            "What a plain transport's consumers send, for FFmpeg and GStreamer to receive it: 409 \
             `wrong_state` until there is a consumer and the peer's address is known."
        }
        Op::Capture => {
            "The transport's packets in the clear, both ways, as a pcapng file that is written while \
             they come: RTP with its headers, RTCP whole. It ends after `seconds`, with the transport, \
             or with its reader. What finds no room is dropped and counted in the last block."
        }
        Op::Leave => {
            "Closes all transports of a router that carry this `participantId`, and answers which. \
             Safe to repeat."
        }
        Op::CreateProducer => {
            "Takes a track of a client. `kind` and `rtpParameters` are those of mediasoup-client's \
             `produce` event."
        }
        Op::ListProducers => "A page of producers in ascending order of ids.",
        Op::GetProducer => "One producer and how well its streams arrive.",
        Op::DeleteProducer => "Closes it and the consumers that take it. Safe to repeat.",
        Op::PauseProducer => {
            "Its packets are dropped until it is resumed. Its consumers are told. Safe to repeat."
        }
        Op::ResumeProducer => "Its packets are forwarded again. Safe to repeat.",
        Op::ProducerStats => {
            "One record for each stream that arrives: packets, losses, jitter, bit rates."
        }
        Op::CreateConsumer => {
            "Lets a transport receive a producer of the same router. `id`, `producerId`, `kind` and \
             `rtpParameters` of the answer go to `consume` of mediasoup-client. Make it with `paused: \
             true` and resume it when the client has it, so that its first packet is of a key frame. On \
             a pipe transport it takes every stream of the producer, for `POST /producers` at the other \
             host, and needs no capabilities."
        }
        Op::ListConsumers => "A page of consumers in ascending order of ids.",
        Op::GetConsumer => "One consumer, how well it receives, and which layers.",
        Op::PatchConsumer => {
            "The layers that the receiver wants at most, and who gets better layers first where the \
             path is narrow. A missing field stays as it is."
        }
        Op::DeleteConsumer => "Closes it. Safe to repeat.",
        Op::PauseConsumer => "Nothing of it is sent until it is resumed. Safe to repeat.",
        Op::ResumeConsumer => {
            "It is sent again; video begins with a key frame, which is asked for. Safe to repeat."
        }
        Op::RequestKeyFrame => {
            "Asks the producer for a key frame, for a receiver that cannot go on without one."
        }
        Op::ConsumerStats => {
            "The stream that is sent, then the producer's stream that it comes from; of a pipe all \
             streams that are sent."
        }
        Op::TraceTransport => {
            "What of this transport is told as `trace` events from now on: `bwe`, what is estimated \
             that its client can receive. `probation` is taken and never told: nothing is probed with \
             padding. No types end it; so does the transport's end."
        }
        Op::TraceProducer => {
            "What of this producer is told as `trace` events from now on: `rtp`, `keyframe`, `nack`, \
             `pli`, `fir`, `sr`. No types end it. A worker tells at most 500 of these events a second, \
             and traces 64 resources at once: it is for looking at one, not for watching all."
        }
        Op::TraceConsumer => {
            "What of this consumer is told as `trace` events from now on: `rtp`, `keyframe`, `nack`, \
             `pli`, `fir`. As for producers."
        }
        Op::CreateObserver => {
            "Makes somebody who listens to audio producers of a router, by the levels that clients \
             write into their packets (RFC 6464), and tells who speaks. `audiolevel` tells the loudest \
             and their volumes each `interval` (`observer.volumes`), and when nobody is louder than \
             `threshold` any more (`observer.silence`). `activespeaker` tells the dominant speaker when \
             it changes (`observer.dominantspeaker`). It listens to nobody until it is told whom to."
        }
        Op::ListObservers => "A page of observers in ascending order of ids.",
        Op::GetObserver => "One observer and the producers that it listens to.",
        Op::DeleteObserver => "Closes it. Safe to repeat.",
        Op::PauseObserver => "It tells nothing until it is resumed. Safe to repeat.",
        Op::ResumeObserver => "It tells again, from now on. Safe to repeat.",
        Op::ObserveProducer => {
            "It listens to this audio producer of its router too, until that is closed. Safe to repeat."
        }
        Op::UnobserveProducer => "It does not listen to this producer any more. Safe to repeat.",
        Op::CreateWebhook => {
            "Makes somebody who is sent events, from now on (see the webhook `events`). Only over \
             `https`, with a certificate that is trusted, to a public address unless the server allows \
             more. The answer has the secret that deliveries are signed with, and no later one has. It \
             outlives the control plane."
        }
        Op::ListWebhooks => {
            "All receivers: those of the file `control.webhooks`, and those that were made here."
        }
        Op::GetWebhook => "One receiver, what it is sent, and what waits for it.",
        Op::DeleteWebhook => {
            "It is sent nothing more, and what waits for it is dropped. Those of the file are 409 \
             `wrong_state`. Safe to repeat."
        }
        Op::CreatePipe => {
            "Makes a producer of this host one of another router as well, with every layer: a pipe \
             transport and a consumer at its router, their counterparts at the other one. That is of \
             another host with `remote.url` (one of `pipes.remotes`), whose control API is asked; of \
             this host without, where the producer gets another id. Transports are made for the first pipe between two \
             routers and shared by the others. Pauses and the end of the source are carried over; when \
             the producer there is closed, the consumer here is. The same again is 409 \
             `already_exists`, back to where it came from 409 `wrong_state`."
        }
        Op::Top => {
            "For an operator's view: what there is, all workers with what they dropped, and the \
             routers and transports with the most traffic."
        }
        Op::GetDrain => "Whether the host takes new routers, since when not, and what is left.",
        Op::Drain => {
            "Takes the host out of service: new routers are refused with `draining`, those that are \
             there end by themselves or at the deadline. Repeated, it sets the deadline anew."
        }
        Op::Undrain => "Takes new routers again.",
        Op::Unsupported => "Not in this version.",
    }
}
