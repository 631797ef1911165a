//! The workers' figures: asked of all, answered in one.

use ironcast_protocol::{Command, CommandError, ErrorCode, Reply, WorkerId, stats::WorkerStats};

use super::{Hub, Pending, Then};
use crate::messages::{Answer, ToWorker};

/// Several questions, one answer.
pub(super) struct Gather {
    connection: u64,
    request: u64,
    left: usize,
    workers: Vec<WorkerStats>,
}

impl Hub {
    pub(super) fn gather_workers(&mut self, connection: u64, request: u64) {
        self.next_token += 1;
        let id = self.next_token;
        let left = self.mailboxes.len();
        self.gathers.insert(id, Gather { connection, request, left, workers: Vec::new() });
        for index in 0..left {
            self.next_token += 1;
            let (token, worker) = (self.next_token, index as WorkerId);
            let pending = Pending { connection, request, worker, then: Then::Workers(id) };
            let message = ToWorker::Command { token, command: Box::new(Command::Workers) };
            if let Err(error) = self.ask(token, pending, message) {
                self.receive_stats(id, worker, Err(error));
            }
        }
    }

    pub(super) fn receive_stats(
        &mut self,
        gather: u64,
        worker: WorkerId,
        answer: Result<Answer, CommandError>,
    ) {
        let slot = self.stats.get_mut(usize::from(worker));
        let stats = match (answer, slot) {
            (Ok(Answer::Reply(Reply::Workers(mut stats))), Some(slot)) => {
                *slot = stats.pop();
                slot.clone()
            }
            // It has more to do than to answer: that is no reason to take it for dead.
            (Err(error), Some(slot)) if error.code == ErrorCode::NoCapacity => slot.clone(),
            _ => None,
        };
        let stats = stats.unwrap_or_else(|| self.unheard(worker));
        let Some(entry) = self.gathers.get_mut(&gather) else { return };
        entry.left -= 1;
        entry.workers.push(stats);
        if entry.left > 0 {
            return;
        }
        if let Some(mut all) = self.gathers.remove(&gather) {
            all.workers.sort_by_key(|worker| worker.id);
            self.respond(all.connection, all.request, Ok(Reply::Workers(all.workers)));
        }
    }

    /// A worker that does not run, or has not said anything yet.
    fn unheard(&self, worker: WorkerId) -> WorkerStats {
        let core = self.parts.cores.get(usize::from(worker)).copied().unwrap_or_default();
        let running = self.mailboxes.get(usize::from(worker)).is_some_and(Option::is_some);
        WorkerStats { id: worker, core, running, ..WorkerStats::default() }
    }
}
