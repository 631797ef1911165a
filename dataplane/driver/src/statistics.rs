//! What the driver counts: plain numbers that only ever grow, written by the worker's thread and
//! read by its engine. Nothing here is shared between threads.

use ironcast_core::histogram::{Distribution, Numbers, Times};

/// Totals since the worker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Datagrams given to the engine.
    pub datagrams_in: u64,
    /// Their payload.
    pub bytes_in: u64,
    /// Datagrams handed to the kernel, those that it then refused among them.
    pub datagrams_out: u64,
    /// Their payload.
    pub bytes_out: u64,
    /// Sends handed to the kernel (a segmented send is one).
    pub sends: u64,
    /// Those of them with more than one segment.
    pub segmented_sends: u64,
    /// Datagrams dropped because a socket's send buffer was full.
    pub eagain_drops: u64,
    /// Datagrams dropped because of any other error of a send.
    pub send_errors: u64,
    /// Datagrams for a path that is closed, or a range outside of its slab.
    pub stale_sends: u64,
    /// Sends repeated once, after the error of an earlier datagram (ICMP).
    pub send_retries: u64,
    /// Paths whose segmentation the kernel refused; they send one by one from then on.
    pub segmentation_refused: u64,
    /// Datagrams that left as whole frames (AF_XDP), not among `sends`.
    pub xdp_datagrams: u64,
    /// System calls for them.
    pub xdp_calls: u64,
    /// Interfaces that went down or away under an AF_XDP socket.
    pub xdp_failures: u64,
    /// Receives that ended because no buffer was free; nothing is lost while the socket can queue.
    pub buffer_exhaustions: u64,
    /// Receives that ended because the peer's port is closed (ICMP).
    pub connections_refused: u64,
    /// Receives that ended with another error.
    pub receive_errors: u64,
    /// Receives armed again after they had ended.
    pub rearms: u64,
    /// Datagrams longer than a buffer, dropped.
    pub truncated: u64,
    /// Completions of sockets that are closed already, ignored.
    pub late_completions: u64,
    /// Datagrams that a socket got between bind and connect and that had no taker.
    pub strays_dropped: u64,
    /// Connections (ICE-TCP) that were accepted.
    pub tcp_accepted: u64,
    /// Those that were closed at once: over a limit, or for want of descriptors.
    pub tcp_refused: u64,
    /// Closed to make room for newer ones, before a valid check came.
    pub tcp_evicted: u64,
    /// Closed because no valid check came in time.
    pub tcp_timed_out: u64,
    /// Closed because too much came before a valid check, or on a port of all workers something else.
    pub tcp_strange: u64,
    /// Handed to the worker that they are for, on a port of all workers.
    pub tcp_handed_over: u64,
    /// Taken over from the worker that accepted them.
    pub tcp_adopted: u64,
    /// Closed because of a frame longer than a datagram may be.
    pub tcp_oversized: u64,
    /// Closed or reset by the peer.
    pub tcp_closed: u64,
    /// Failed because the peer took nothing for too long.
    pub tcp_stalled: u64,
    /// Datagrams of video dropped because a connection took no more.
    pub tcp_dropped_video: u64,
    /// The same of audio.
    pub tcp_dropped_audio: u64,
    /// The same of everything else.
    pub tcp_dropped_control: u64,
    /// Datagrams written for other workers.
    pub hop_datagrams_out: u64,
    /// Datagrams of other workers.
    pub hop_datagrams_in: u64,
    /// Datagrams dropped because another worker had not read what was written before.
    pub hop_dropped: u64,
    /// Datagrams dropped because the worker that they were for has ended, or was not named yet.
    pub hop_stale: u64,
    /// Times that the table of sockets gave memory back.
    pub table_trims: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Waits for a completion or a deadline.
    pub waits: u64,
    /// System calls of the ring (`io_uring_enter`), waits among them.
    pub enters: u64,
    /// Moments in which a turn was held for the rest of a frame.
    pub holds: u64,
    /// Wake-ups by the mailbox.
    pub wakes: u64,
    /// Messages of the mailbox given to the engine.
    pub messages: u64,
    /// Turns whose time for messages was over before the messages were: the rest had to wait.
    pub messages_deferred: u64,
    /// Datagrams from other threads that were dropped in the mailbox for newer ones.
    pub mail_dropped: u64,
    /// Turns whose time for receiving was over before the datagrams were.
    pub receives_deferred: u64,
    /// Turns whose time to send was over before all output had left.
    pub outputs_deferred: u64,
    /// Times that the kernel lost completions, after which all receives were armed anew.
    pub completions_lost: u64,
    /// Nanoseconds outside of waits; with `idle_ns` this gives the busy share.
    pub busy_ns: u64,
    /// Nanoseconds inside of waits.
    pub idle_ns: u64,
    /// How turns and sends are spread.
    pub spread: Spread,
}

/// What is recorded once a turn, or once a send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// A turn, without waits.
    pub turn: Times,
    /// Of it: receiving.
    pub receive: Times,
    /// Of it: messages, timers, sockets.
    pub work: Times,
    /// Of it: building the output and handing it to the kernel.
    pub send: Times,
    /// From the moment that the engine wanted its turn at to the turn.
    pub lag: Times,
    /// Datagrams of one send.
    pub run: Numbers,
    /// From one worker's output to another's turn.
    pub hop: Times,
}

impl Spread {
    /// All, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Distribution)> {
        [
            ("turn_ns", self.turn.distribution()),
            ("turn_receive_ns", self.receive.distribution()),
            ("turn_work_ns", self.work.distribution()),
            ("turn_send_ns", self.send.distribution()),
            ("lag_ns", self.lag.distribution()),
            ("run_datagrams", self.run.distribution()),
            ("hop_ns", self.hop.distribution()),
        ]
        .into_iter()
    }
}

impl Statistics {
    /// All counts with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("datagrams_in", self.datagrams_in),
            ("bytes_in", self.bytes_in),
            ("datagrams_out", self.datagrams_out),
            ("bytes_out", self.bytes_out),
            ("sends", self.sends),
            ("segmented_sends", self.segmented_sends),
            ("eagain_drops", self.eagain_drops),
            ("send_errors", self.send_errors),
            ("stale_sends", self.stale_sends),
            ("send_retries", self.send_retries),
            ("segmentation_refused", self.segmentation_refused),
            ("xdp_datagrams", self.xdp_datagrams),
            ("xdp_calls", self.xdp_calls),
            ("xdp_failures", self.xdp_failures),
            ("buffer_exhaustions", self.buffer_exhaustions),
            ("connections_refused", self.connections_refused),
            ("receive_errors", self.receive_errors),
            ("rearms", self.rearms),
            ("truncated", self.truncated),
            ("late_completions", self.late_completions),
            ("strays_dropped", self.strays_dropped),
            ("tcp_accepted", self.tcp_accepted),
            ("tcp_refused", self.tcp_refused),
            ("tcp_evicted", self.tcp_evicted),
            ("tcp_timed_out", self.tcp_timed_out),
            ("tcp_strange", self.tcp_strange),
            ("tcp_handed_over", self.tcp_handed_over),
            ("tcp_adopted", self.tcp_adopted),
            ("tcp_oversized", self.tcp_oversized),
            ("tcp_closed", self.tcp_closed),
            ("tcp_stalled", self.tcp_stalled),
            ("tcp_dropped_video", self.tcp_dropped_video),
            ("tcp_dropped_audio", self.tcp_dropped_audio),
            ("tcp_dropped_control", self.tcp_dropped_control),
            ("hop_datagrams_out", self.hop_datagrams_out),
            ("hop_datagrams_in", self.hop_datagrams_in),
            ("hop_dropped", self.hop_dropped),
            ("hop_stale", self.hop_stale),
            ("table_trims", self.table_trims),
            ("turns", self.turns),
            ("waits", self.waits),
            ("enters", self.enters),
            ("holds", self.holds),
            ("wakes", self.wakes),
            ("messages", self.messages),
            ("messages_deferred", self.messages_deferred),
            ("mail_dropped", self.mail_dropped),
            ("receives_deferred", self.receives_deferred),
            ("outputs_deferred", self.outputs_deferred),
            ("completions_lost", self.completions_lost),
            ("busy_ns", self.busy_ns),
            ("idle_ns", self.idle_ns),
        ]
        .into_iter()
    }
}
