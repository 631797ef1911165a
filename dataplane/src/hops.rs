//! Transports to other workers of this process: what the core knows as a path, the driver as an end of
//! a ring. Called by the engine for commands.

use ironcast_core::{Nanos, batch::PathId, worker::Worker};
use ironcast_driver::Io;
use ironcast_protocol::{
    CommandError, ErrorCode, Reply, WorkerId,
    hop::{ConnectHop, CreateHop, HopEnd},
};

/// Makes this worker's end.
///
/// # Errors
/// `NotFound` (router), `AlreadyExists`, `NoCapacity`.
pub fn create(
    core: &mut Worker,
    worker: WorkerId,
    create: &CreateHop,
    io: &mut Io,
    now: Nanos,
) -> Result<Reply, CommandError> {
    let no_room =
        |error: std::io::Error| CommandError::new(ErrorCode::NoCapacity, error.to_string());
    let path = io.open_hop().map_err(no_room)?;
    if let Err(error) = core.apply_create_hop(&create.id, &create.router, path, now) {
        io.close_path(path);
        return Err(error);
    }
    let PathId { slot, generation } = path;
    Ok(Reply::HopCreated(HopEnd { worker, slot, generation }))
}

/// Tells it where the other end is.
///
/// # Errors
/// `NotFound`, `WrongState`, `WorkerUnavailable` (the other worker does not run).
pub fn connect(
    core: &mut Worker,
    connect: &ConnectHop,
    io: &mut Io,
    now: Nanos,
) -> Result<Reply, CommandError> {
    let path = core.end_of_hop(&connect.id)?;
    let HopEnd { worker, slot, generation } = connect.far;
    io.connect_hop(path, worker, PathId { slot, generation })
        .map_err(|error| CommandError::new(ErrorCode::WorkerUnavailable, error.to_string()))?;
    core.apply_connect_hop(&connect.id, now)?;
    Ok(Reply::Done)
}
