//! The tests of two real processes over real sockets, one module a behaviour, in one binary:
//! linking dominates on small machines.

#[path = "all/api.rs"]
mod api;
#[path = "all/bad_frames.rs"]
mod bad_frames;
#[path = "all/bad_requests.rs"]
mod bad_requests;
#[path = "all/clock.rs"]
mod clock;
#[path = "all/common.rs"]
mod common;
#[path = "all/control_restart.rs"]
mod control_restart;
#[path = "all/doors.rs"]
mod doors;
#[path = "all/draining.rs"]
mod draining;
#[path = "all/failing_dataplane.rs"]
mod failing_dataplane;
#[path = "all/feedback.rs"]
mod feedback;
#[path = "all/ffmpeg.rs"]
mod ffmpeg;
#[path = "all/figures.rs"]
mod figures;
#[path = "all/fleet.rs"]
mod fleet;
#[path = "all/gstreamer.rs"]
mod gstreamer;
#[path = "all/half_open.rs"]
mod half_open;
#[path = "all/handshakes.rs"]
mod handshakes;
#[path = "all/hostile.rs"]
mod hostile;
#[path = "all/hosts.rs"]
mod hosts;
#[path = "all/ice.rs"]
mod ice;
#[path = "all/layers.rs"]
mod layers;
#[path = "all/leaving.rs"]
mod leaving;
#[path = "all/manager.rs"]
mod manager;
#[path = "all/media.rs"]
mod media;
#[path = "all/mutation.rs"]
mod mutation;
#[path = "all/observers.rs"]
mod observers;
#[path = "all/pipes.rs"]
mod pipes;
#[path = "all/placement.rs"]
mod placement;
#[path = "all/proofs.rs"]
mod proofs;
#[path = "all/protocol.rs"]
mod protocol;
#[path = "all/recovery.rs"]
mod recovery;
#[path = "all/shortage.rs"]
mod shortage;
#[path = "all/signaling.rs"]
mod signaling;
#[path = "all/spreading.rs"]
mod spreading;
#[path = "all/standing_by.rs"]
mod standing_by;
#[path = "all/starting.rs"]
mod starting;
#[path = "all/strangers.rs"]
mod strangers;
#[path = "all/streams.rs"]
mod streams;
#[path = "all/up.rs"]
mod up;
