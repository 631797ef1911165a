//! Workers that run and make no turns. Whoever asks such a worker is told so at once: its rooms cannot
//! be had, and nobody may wait for it, or one stuck worker would hold up the control plane of all.
//! When it moves after all, it carries out what was refused in the meantime; then the control plane
//! takes the whole state anew, because what it knows of that worker may be wrong.

use ironcast_protocol::{CommandError, ErrorCode, WorkerId};

use super::{Hub, Then};
use crate::counters::Counter;

/// The number of no connection: an answer to it is noted and not sent.
const NOBODY: u64 = 0;

impl Hub {
    /// An error where a worker is stuck.
    pub(super) fn check_moves(&self, worker: WorkerId) -> Result<(), CommandError> {
        if !self.stuck.contains(&worker) {
            return Ok(());
        }
        let message = format!("worker {worker} is stuck");
        Err(CommandError::new(ErrorCode::WorkerUnavailable, message))
    }

    pub(super) fn worker_is_stuck(&mut self, worker: WorkerId) {
        if !self.stuck.insert(worker) {
            return;
        }
        self.parts.counters.count(Counter::WorkersStuck);
        let waiting: Vec<u64> =
            self.pending.iter().filter(|(_, p)| p.worker == worker).map(|(t, _)| *t).collect();
        for token in waiting {
            let Err(error) = self.check_moves(worker) else { return };
            let Some(pending) = self.pending.get_mut(&token) else { continue };
            match pending.then {
                Then::Gather(_) | Then::Snapshot(_) | Then::Dump(_) => {
                    self.receive_answer(token, Err(error));
                }
                // It is still to be noted what becomes of these.
                Then::Relay
                | Then::Create(..)
                | Then::Connect(..)
                | Then::ConnectPlain(..)
                | Then::ConnectHop(..)
                | Then::Restart(..) => {
                    let (connection, request) = (pending.connection, pending.request);
                    pending.connection = NOBODY;
                    self.respond(connection, request, Err(error));
                }
            }
        }
    }

    pub(super) fn worker_moves(&mut self, worker: WorkerId) {
        if !self.stuck.remove(&worker) {
            return;
        }
        tracing::warn!(worker, "it moves again; the control plane is to take the state anew");
        if let Some(controller) = &self.controller {
            controller.close();
        }
    }
}
