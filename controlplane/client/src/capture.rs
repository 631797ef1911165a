//! A capture: the packets of a transport in the clear, as the bytes of a pcapng file.

use bytes::{Buf as _, Bytes};
use http::Method;
use ironcast_api::Id;

use crate::{
    Client, ClientError,
    connection::{self, refusal_of, unreachable},
};

/// A file that grows. Drop it to end the capture.
pub struct Capture(connection::Stream);

impl Client {
    /// `GET /transports/{id}/capture` for so many seconds: the headers of its packets, and with
    /// `payload` (scope `admin`) what they carry.
    pub async fn capture(
        &self,
        id: &Id,
        payload: bool,
        seconds: u32,
    ) -> Result<Capture, ClientError> {
        let payload = u8::from(payload);
        let path = format!("/v1/transports/{id}/capture?payload={payload}&seconds={seconds}");
        let mut stream = self.open(Method::GET, &path, None, &[]).await?;
        let response = stream.recv_response().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(refusal_of(response.status().as_u16(), &mut stream).await);
        }
        Ok(Capture(stream))
    }
}

impl Capture {
    /// The next bytes; none at the end: the time is over, or the transport is gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let part = self.0.recv_data().await.map_err(unreachable)?;
        Ok(part.map(|mut part| part.copy_to_bytes(part.remaining())))
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capture")
    }
}
