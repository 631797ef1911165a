//! The workers' figures: asked of all, answered in one.

use ironcast_protocol::{
    Command, CommandError, ErrorCode, Reply, WorkerId,
    stats::{Hottest, WorkerStats},
};

use super::{Hub, Pending, Then};
use crate::messages::{Answer, ToWorker};

/// Several questions, one answer.
pub(super) struct Gather {
    connection: u64,
    request: u64,
    left: usize,
    figures: Figures,
}

/// What is asked for.
enum Figures {
    Workers(Vec<WorkerStats>),
    Hottest(Hottest),
}

impl Hub {
    pub(super) fn gather(&mut self, connection: u64, request: u64, command: &Command) {
        self.next_token += 1;
        let id = self.next_token;
        let left = self.mailboxes.len();
        let figures = match command {
            Command::Hottest(_) => Figures::Hottest(Hottest::default()),
            _ => Figures::Workers(Vec::new()),
        };
        self.gathers.insert(id, Gather { connection, request, left, figures });
        for index in 0..left {
            self.next_token += 1;
            let (token, worker) = (self.next_token, index as WorkerId);
            let pending = Pending { connection, request, worker, then: Then::Gather(id) };
            let message = ToWorker::Command { token, command: Box::new(command.clone()) };
            if let Err(error) = self.ask(token, pending, message) {
                self.receive_figures(id, worker, Err(error));
            }
        }
    }

    pub(super) fn receive_figures(
        &mut self,
        gather: u64,
        worker: WorkerId,
        answer: Result<Answer, CommandError>,
    ) {
        let Some(mut entry) = self.gathers.remove(&gather) else { return };
        match &mut entry.figures {
            Figures::Workers(workers) => workers.push(self.stats_of(worker, answer)),
            Figures::Hottest(all) => {
                // Of a worker that does not answer now, nothing is known now.
                if let Ok(Answer::Reply(Reply::Hottest(its))) = answer {
                    all.routers.extend(its.routers);
                    all.transports.extend(its.transports);
                }
            }
        }
        entry.left -= 1;
        if entry.left > 0 {
            self.gathers.insert(gather, entry);
            return;
        }
        let reply = match entry.figures {
            Figures::Workers(mut workers) => {
                workers.sort_by_key(|worker| worker.id);
                Reply::Workers(workers)
            }
            Figures::Hottest(all) => Reply::Hottest(all),
        };
        self.respond(entry.connection, entry.request, Ok(reply));
    }

    fn stats_of(&mut self, worker: WorkerId, answer: Result<Answer, CommandError>) -> WorkerStats {
        let slot = self.stats.get_mut(usize::from(worker));
        let stats = match (answer, slot) {
            (Ok(Answer::Reply(Reply::Workers(mut stats))), Some(slot)) => {
                *slot = stats.pop();
                slot.clone()
            }
            // It has more to do than to answer: that is no reason to take it for dead.
            (Err(error), Some(slot)) if error.code == ErrorCode::Busy => slot.clone(),
            _ => None,
        };
        stats.unwrap_or_else(|| self.unheard(worker))
    }

    /// A worker that does not run, is stuck, or has not said anything yet.
    fn unheard(&self, worker: WorkerId) -> WorkerStats {
        let core = self.parts.cores.get(usize::from(worker)).copied().unwrap_or_default();
        let runs = self.mailboxes.get(usize::from(worker)).is_some_and(Option::is_some);
        let running = runs && !self.stuck.contains(&worker);
        WorkerStats { id: worker, core, running, ..WorkerStats::default() }
    }
}
