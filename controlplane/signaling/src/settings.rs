//! Limits and waiting times of the service, with defaults that suit a reference deployment.
//! Made once by `main`, read everywhere; tests make them short.

use std::time::Duration;

use ironcast_config::HostPlacement;

use crate::access::Access;
use crate::broadcast;
use crate::ice::IceServers;
use crate::identity::Tokens;
use crate::rooms::mode::Rules;
use crate::store::PRESENCE_TIME;

/// How the nodes of a fleet know of each other.
#[derive(Debug, Clone, Copy)]
pub struct FleetTimes {
    /// A node says so often that it is there.
    pub beat: Duration,
    /// One that was not heard of for so long is gone.
    pub node: Duration,
    /// What is believed is compared with what is written so often.
    pub look: Duration,
    /// After Redis was lost all nodes write down again what they know: before that nothing is
    /// concluded from what is missing.
    pub settle: Duration,
}

impl Default for FleetTimes {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            node: Duration::from_secs(5),
            look: Duration::from_secs(3),
            settle: Duration::from_secs(2),
        }
    }
}

/// What may be how many, and how long we wait for what.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rooms at once.
    pub rooms_max: usize,
    /// Participants in a room.
    pub participants_per_room_max: usize,
    /// Above so many people a room is told that turning cameras off would help; 0: never.
    pub audio_only_above: usize,
    /// Producers of a participant (camera, microphone, screen, ...).
    pub producers_per_participant_max: usize,
    /// Consumers of a participant.
    pub consumers_per_participant_max: usize,
    /// Messages of one socket that wait for their turn.
    pub requests_per_socket_max: usize,
    /// Messages of one socket that are done in a second; what is above waits.
    pub requests_per_socket_per_s: u32,
    /// Messages of one socket that are done without waiting, when it was silent before.
    pub requests_per_socket_burst: u32,
    /// Sockets that one address opens in a second (ten times as many at once); 0 for no limit.
    pub sockets_per_address_per_s: u32,
    /// A socket that is opened and does not come in within this time is closed.
    pub come_in_time_max: Duration,
    /// Joins of one address in a second (ten times as many at once); 0 for no limit.
    pub joins_per_address_per_s: u32,
    /// Rooms that one address makes in a second (ten times as many at once); 0 for no limit.
    pub rooms_per_address_per_s: u32,
    /// A connection that does not bring a request's head within this time is closed.
    pub header_time_max: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections of one address at once.
    pub connections_per_address_max: usize,
    /// Messages to one socket that wait to be sent; beyond, the socket is closed.
    pub messages_out_per_socket_max: usize,
    /// Bytes of them that wait; beyond, the socket is closed.
    pub bytes_out_per_socket_max: usize,
    /// Largest message of a browser, bytes.
    pub message_bytes_max: usize,
    /// A socket that comes back within this time finds its participant and his media.
    pub reconnect_window: Duration,
    /// An empty room keeps its router for this long.
    pub empty_room_grace: Duration,
    /// A made room that nobody joins is dropped after this long.
    pub unjoined_room_grace: Duration,
    /// Who was in a call when the service stopped may come back for this long after the next start.
    pub takeover_window: Duration,
    /// Changes of what a room sends are collected for this long before its list is told.
    pub list_delay: Duration,
    /// A request is tried again for this long while the media server does not answer.
    pub media_patience: Duration,
    /// A media server whose health check fails for this long is away.
    pub media_away: Duration,
    /// Where a room's media goes, where there are several media servers.
    pub placement: HostPlacement,
    /// People of a room at one media host, as far as another one takes the next of them; 0: as many as
    /// it takes.
    pub people_per_host: usize,
    /// A track of another media host of the room is waited for so long.
    pub pipe_patience: Duration,
    /// Where a reverse proxy says in which region a browser is.
    pub region_header: Option<String>,
    /// Between two pings of a socket.
    pub ping_interval: Duration,
    /// A socket without an answer to a ping for this long is gone.
    pub ping_timeout: Duration,
    /// Who joined over HTTP, has no socket and asks for nothing for so long is lost.
    pub caller_silence_max: Duration,
    /// Messages that one participant may write in a second (five times as many at once); 0 for no
    /// limit.
    pub chat_per_participant_per_s: u32,
    /// Older messages of a room than so many are forgotten.
    pub chat_kept_per_room_max: u32,
    /// When two people talk directly.
    pub ways: Rules,
    /// STUN and TURN servers that browsers are told of.
    pub ice_servers: IceServers,
    /// Rooms that are watched or recorded.
    pub broadcast: broadcast::Settings,
    /// Marks our routers at the media server, so that a restarted service finds what it left.
    pub instance: String,
    /// Makes and checks resume tokens.
    pub tokens: Tokens,
    /// Who may do what; none: everybody everything but what needs a moderator.
    pub access: Option<Access>,
    /// Where rooms are spread over several nodes.
    pub fleet: FleetTimes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rooms_max: 1_000,
            participants_per_room_max: 100,
            audio_only_above: 40,
            producers_per_participant_max: 8,
            consumers_per_participant_max: 512,
            requests_per_socket_max: 512,
            requests_per_socket_per_s: 50,
            requests_per_socket_burst: 200,
            sockets_per_address_per_s: 100,
            come_in_time_max: Duration::from_secs(10),
            joins_per_address_per_s: 20,
            rooms_per_address_per_s: 5,
            header_time_max: Duration::from_secs(10),
            connections_max: 10_000,
            connections_per_address_max: 2_000,
            messages_out_per_socket_max: 1_024,
            bytes_out_per_socket_max: 4 * 1024 * 1024,
            message_bytes_max: 128 * 1024,
            reconnect_window: Duration::from_secs(5),
            empty_room_grace: Duration::from_secs(3),
            unjoined_room_grace: Duration::from_secs(60),
            takeover_window: Duration::from_secs(10),
            list_delay: Duration::from_millis(150),
            media_patience: Duration::from_secs(2),
            media_away: Duration::from_secs(2),
            placement: HostPlacement::default(),
            people_per_host: 0,
            pipe_patience: Duration::from_secs(4),
            region_header: None,
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(10),
            caller_silence_max: PRESENCE_TIME,
            chat_per_participant_per_s: 2,
            chat_kept_per_room_max: 10_000,
            ways: Rules::default(),
            ice_servers: IceServers::default(),
            broadcast: broadcast::Settings::default(),
            instance: "ironcast-signaling".to_owned(),
            tokens: Tokens::default(),
            access: None,
            fleet: FleetTimes::default(),
        }
    }
}
