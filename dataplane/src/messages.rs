//! What the threads of this process say to each other: the hub (one thread, owns the registry and
//! the controller's connection), the workers (one a core), the connections' readers.

use std::net::SocketAddr;

use ironcast_core::{batch::PathId, figures::ResourceState};
use ironcast_driver::{AcceptedStream, mailbox::Sender};
use ironcast_handshake::Output;
use ironcast_protocol::{Command, CommandError, Event, Frame, Reply, WorkerId};

use crate::{
    connection::{Connection, Turn},
    registry::Name,
};

/// What changes on resources, of those that are there.
pub type States = Vec<(Name, ResourceState)>;

/// To a worker, through its mailbox.
#[derive(Debug)]
pub enum ToWorker {
    /// A command of the control plane; answered to the hub with the token.
    Command {
        /// The hub's number of it.
        token: u64,
        /// What is asked.
        command: Box<Command>,
    },
    /// The states of some resources; answered to the hub with the token.
    States {
        /// The hub's number of it.
        token: u64,
        /// Which.
        names: Vec<Name>,
    },
    /// A STUN datagram that came in on another core.
    Stun {
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
        /// The worker and its connected socket that it came by, if it did.
        holder: Option<(WorkerId, PathId)>,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// A connection that came in on another core (`rtc.single_port`).
    Stream(AcceptedStream),
    /// A connected socket is to be closed if its transports are silent: its peer's address belongs to
    /// another worker's transport now.
    YieldPath {
        /// The socket.
        path: PathId,
    },
    /// The other end of a pipe within this process is connected: see `neighbours.rs`.
    Neighbour {
        /// The end here.
        end: PathId,
        /// The other one's worker.
        worker: WorkerId,
        /// Its end.
        far: PathId,
    },
    /// From the handshake thread.
    Handshake {
        /// Which transport.
        transport: u64,
        /// What it wants.
        output: Output,
    },
}

/// A worker's answer.
#[derive(Debug)]
pub enum Answer {
    /// To a command.
    Reply(Reply),
    /// To `States`.
    States(States),
}

/// To the hub.
pub enum ToHub {
    /// Somebody connected to the control socket and said a valid hello.
    Attached(Connection),
    /// Somebody wants to know who is attached: the name.
    Watch(std::sync::mpsc::Sender<Option<String>>),
    /// A frame of a connection.
    Frame {
        /// Which.
        connection: u64,
        /// What.
        frame: Frame,
        /// The connection's reader waits while too many are not dealt with.
        turn: Turn,
    },
    /// A connection that was behind has read most of what it was sent.
    Drained {
        /// Which.
        connection: u64,
    },
    /// A connection is over.
    Detached {
        /// Which.
        connection: u64,
    },
    /// A worker answers.
    Answer {
        /// The hub's number of the question.
        token: u64,
        /// The answer.
        answer: Result<Answer, CommandError>,
    },
    /// A worker reports.
    Events(Vec<Event>),
    /// A worker runs: it has made its first turn.
    Running {
        /// Which.
        worker: WorkerId,
        /// Its mailbox.
        mailbox: Sender<ToWorker>,
    },
    /// A worker panicked, or its driver failed, perhaps at its start.
    Died {
        /// Which.
        worker: WorkerId,
        /// What it said.
        reason: String,
    },
    /// A worker runs, but has made no turn for too long.
    Stuck {
        /// Which.
        worker: WorkerId,
    },
    /// One that was stuck makes turns again.
    Moves {
        /// Which.
        worker: WorkerId,
    },
    /// Is it alive?
    Sign,
    /// The process is to end when its rooms have.
    Drain,
    /// The process is to end.
    Stop,
}
