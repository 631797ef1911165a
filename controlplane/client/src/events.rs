//! The event stream: reads server-sent events and resumes behind the last one when the connection
//! breaks. Ends only when the server says that events are lost, or refuses.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf as _;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http::Method;
use ironcast_api::{ErrorCode, Event, EventSeq, Id};
use tokio::time::{sleep, timeout};

use crate::{
    Client, ClientError, EventsError,
    connection::{self, refusal_of, seq_of, unreachable},
};

/// The server writes a comment every 15 s: without one the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// Longest line that is read: the largest events name the routers of a whole worker.
const LINE_BYTES_MAX: usize = 4 << 20;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Events in order. Give it up by dropping it. After an error it has ended.
pub struct EventStream {
    inner: BoxStream<'static, Result<Event, EventsError>>,
}

impl Stream for EventStream {
    type Item = Result<Event, EventsError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStream")
    }
}

impl EventStream {
    pub(crate) fn new(
        client: Client,
        after: Option<EventSeq>,
        router_id: Option<Id>,
        with_children: bool,
    ) -> Self {
        let of_router = router_id.map(|id| format!("routerId={id}"));
        let fields: Vec<String> =
            of_router.into_iter().chain(with_children.then(|| "children=1".to_owned())).collect();
        let reader = Reader {
            client,
            after,
            path: format!("/v1/events?{}", fields.join("&")),
            stream: None,
            lines: Lines::default(),
            retry: RETRY_MIN,
            ended: false,
        };
        let inner = futures::stream::unfold(reader, |mut reader| async move {
            if reader.ended {
                return None;
            }
            let item = reader.next().await;
            reader.ended = item.is_err();
            Some((item, reader))
        });
        Self { inner: inner.boxed() }
    }
}

struct Reader {
    client: Client,
    after: Option<EventSeq>,
    path: String,
    stream: Option<connection::Stream>,
    lines: Lines,
    retry: Duration,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Event, EventsError> {
        loop {
            while let Some((name, data)) = self.lines.take_event() {
                match Event::parse(&name, &data) {
                    Ok(event) => {
                        self.after = Some(event.seq);
                        return Ok(event);
                    }
                    // A newer server may know more than we do.
                    Err(error) => tracing::debug!(name, %error, "an event was skipped"),
                }
            }
            // A stream with a filter says from time to time where it is.
            if let Some(id) = self.lines.last_id.as_deref().and_then(|id| id.parse().ok()) {
                self.after = Some(id);
            }
            if let Err(error) = self.read().await {
                self.stream = None;
                match error.code() {
                    Some(ErrorCode::EventsLost) => return Err(EventsError::Lost),
                    Some(_) if !error.is_temporary() => return Err(error.into()),
                    _ if matches!(error, ClientError::Settings(_)) => return Err(error.into()),
                    _ => {}
                }
                tracing::debug!(%error, "the event stream broke, resuming");
                sleep(self.retry).await;
                self.retry = (self.retry * 2).min(RETRY_MAX);
            }
        }
    }

    /// Opens the stream if need be and reads some bytes of it.
    async fn read(&mut self) -> Result<(), ClientError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = self.open().await?;
                self.retry = RETRY_MIN;
                self.stream.insert(stream)
            }
        };
        let part = timeout(SILENCE_MAX, stream.recv_data())
            .await
            .map_err(|_| ClientError::Unreachable("the event stream is silent".into()))?
            .map_err(unreachable)?;
        let Some(mut part) = part else {
            return Err(ClientError::Unreachable("the server ended the event stream".into()));
        };
        let bytes = part.copy_to_bytes(part.remaining());
        self.lines.push(&bytes)
    }

    async fn open(&mut self) -> Result<connection::Stream, ClientError> {
        self.lines = Lines::default();
        let mut headers = vec![("accept", "text/event-stream".to_owned())];
        if let Some(after) = self.after {
            headers.push(("last-event-id", after.to_string()));
        }
        let opening = async {
            let mut stream = self.client.open(Method::GET, &self.path, None, &headers).await?;
            let response = stream.recv_response().await.map_err(unreachable)?;
            Ok((response, stream))
        };
        let (response, mut stream) = timeout(Duration::from_secs(10), opening)
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout(10_000)))?;
        if !response.status().is_success() {
            return Err(refusal_of(response.status().as_u16(), &mut stream).await);
        }
        // Where a stream that began at "now" has to resume even if no event came.
        if self.after.is_none() {
            self.after = seq_of(response.headers());
        }
        Ok(stream)
    }
}

/// Cuts bytes into lines and lines into events (WHATWG HTML, section 9.2.6), as far as our server
/// uses the format: `\n` ends a line.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// What of the buffer was taken already: it is thrown away when more comes.
    taken: usize,
    /// Up to here there is no end of a line.
    searched: usize,
    name: String,
    data: String,
    has_data: bool,
    last_id: Option<String>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
        // Everything before was taken when it had an end.
        if self.buffer.len() > LINE_BYTES_MAX && !bytes.contains(&b'\n') {
            return Err(ClientError::Answer("a line of the event stream is too long".into()));
        }
        Ok(())
    }

    fn take_line(&mut self) -> Option<String> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + found + 1;
        let line = String::from_utf8_lossy(&self.buffer[self.taken..end]).into_owned();
        self.taken = end;
        self.searched = end;
        Some(line)
    }

    fn take_event(&mut self) -> Option<(String, String)> {
        while let Some(line) = self.take_line() {
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let name = std::mem::take(&mut self.name);
                let data = std::mem::take(&mut self.data);
                if std::mem::take(&mut self.has_data) {
                    return Some((name, data));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.name),
                "data" => {
                    if self.has_data {
                        self.data.push('\n');
                    }
                    self.data.push_str(value);
                    self.has_data = true;
                }
                "id" => self.last_id = Some(value.to_owned()),
                // Comments have an empty field name.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_out_of_any_pieces() {
        let text =
            ": hello\n\nid: 1-1\nevent: a\ndata: {\"x\":\ndata: 1}\n\nevent: b\ndata: 2\r\n\r\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut events = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece).unwrap();
                events.extend(std::iter::from_fn(|| lines.take_event()));
            }
            let expected = [("a", "{\"x\":\n1}"), ("b", "2")];
            assert_eq!(events, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!(lines.push(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
    }
}
