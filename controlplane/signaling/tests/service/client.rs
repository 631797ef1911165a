//! A Socket.IO client, as small as the tests need it: Engine.IO version 4 over a WebSocket.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longest that anything may take in a test.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than anything takes that a test waits for, on a machine that does other things too.
const EVENT_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_ack: u64,
    /// Events that came while we waited for something else.
    seen: Vec<(String, Value)>,
}

enum Incoming {
    Event(String, Value),
    Ack(u64, Value),
}

impl Client {
    pub(crate) async fn connect(port: u16) -> Self {
        Self::connect_with(port, &[], None).await.expect("the server says hello")
    }

    /// With headers, and with something for the handshake; gives why it is refused.
    pub(crate) async fn connect_with(
        port: u16,
        headers: &[(&'static str, &str)],
        auth: Option<Value>,
    ) -> Result<Self, String> {
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        Self::enter(socket, auth).await
    }

    /// From another address of this host; none if the server does not take the connection.
    pub(crate) async fn connect_from(source: Ipv4Addr, port: u16) -> Option<Self> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.ok()?;
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let stream = MaybeTlsStream::Plain(stream);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
        Self::enter(socket, None).await.ok()
    }

    /// With a connection that holds little of what is not read.
    pub(crate) async fn connect_narrowly(port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
        let url = format!("ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket");
        let stream = MaybeTlsStream::Plain(stream);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Self::enter(socket, None).await.expect("the server says hello")
    }

    async fn enter(
        socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
        auth: Option<Value>,
    ) -> Result<Self, String> {
        let mut client = Self { socket, next_ack: 0, seen: Vec::new() };
        client.send(&format!("40{}", auth.map(|it| it.to_string()).unwrap_or_default())).await;
        loop {
            let text = client.text().await.expect("the server answers");
            if text.starts_with("40") {
                return Ok(client);
            }
            if let Some(problem) = text.strip_prefix("44") {
                let problem: Value = serde_json::from_str(problem).unwrap();
                return Err(problem["message"].as_str().unwrap().to_owned());
            }
        }
    }

    async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).await.unwrap();
    }

    /// The next message of Socket.IO; pings are answered on the way. None when closed.
    async fn text(&mut self) -> Option<String> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("the server says something")?;
            match message {
                Ok(Message::Text(text)) if text.as_str() == "2" => self.send("3").await,
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn incoming(&mut self) -> Option<Incoming> {
        loop {
            let text = self.text().await?;
            if let Some(rest) = text.strip_prefix("43") {
                let digits = rest.find('[').unwrap();
                let payload: Vec<Value> = serde_json::from_str(&rest[digits..]).unwrap();
                return Some(Incoming::Ack(rest[..digits].parse().unwrap(), payload[0].clone()));
            }
            if let Some(rest) = text.strip_prefix("42") {
                let (name, payload): (String, Value) = serde_json::from_str(rest).unwrap();
                return Some(Incoming::Event(name, payload));
            }
            if text.starts_with("41") {
                return None;
            }
        }
    }

    /// Sends an event and waits for its acknowledgement.
    pub(crate) async fn ask(&mut self, event: &str, payload: Value) -> Value {
        self.next_ack += 1;
        let id = self.next_ack;
        self.send(&format!("42{id}{}", json!([event, payload]))).await;
        self.answer(id).await
    }

    /// Sends an event without any payload and waits for its acknowledgement.
    pub(crate) async fn ask_bare(&mut self, event: &str) -> Value {
        self.next_ack += 1;
        let id = self.next_ack;
        self.send(&format!("42{id}{}", json!([event]))).await;
        self.answer(id).await
    }

    async fn answer(&mut self, id: u64) -> Value {
        loop {
            match self.incoming().await.expect("the socket is open") {
                Incoming::Ack(ack, payload) if ack == id => return payload,
                Incoming::Ack(ack, _) => panic!("acknowledgement {ack} came before {id}"),
                Incoming::Event(name, payload) => self.seen.push((name, payload)),
            }
        }
    }

    /// The same, and it must have worked.
    pub(crate) async fn must(&mut self, event: &str, payload: Value) -> Value {
        let answer = self.ask(event, payload).await;
        assert!(answer.get("error").is_none(), "{event}: {answer}");
        answer
    }

    /// The same, and it must have been refused; gives the code.
    pub(crate) async fn refused(&mut self, event: &str, payload: Value) -> String {
        let answer = self.ask(event, payload).await;
        let code = answer["error"]["code"].as_str();
        let code = code.unwrap_or_else(|| panic!("{event} was not refused: {answer}"));
        assert!(answer["error"]["message"].is_string());
        code.to_owned()
    }

    /// Sends an event without wanting an acknowledgement.
    pub(crate) async fn emit(&mut self, event: &str, payload: Value) {
        self.send(&format!("42{}", json!([event, payload]))).await;
    }

    /// Sends an event many times at once, so that the server reads thousands in one go, without
    /// wanting acknowledgements.
    pub(crate) async fn flood(&mut self, event: &str, payload: Value, times: usize) {
        let text = format!("42{}", json!([event, payload]));
        self.burst(std::iter::repeat_n(text, times)).await;
    }

    /// The same, wanting an acknowledgement for each.
    pub(crate) async fn flood_of_questions(&mut self, event: &str, payload: Value, times: u64) {
        let ids = self.next_ack + 1..=self.next_ack + times;
        self.next_ack += times;
        self.burst(ids.map(|id| format!("42{id}{}", json!([event, payload])))).await;
    }

    /// What comes meanwhile is read and kept: two sides that both only write wait for each other
    /// as soon as the buffers between them are full.
    async fn burst(&mut self, texts: impl Iterator<Item = String>) {
        let (mut writer, mut reader) = (&mut self.socket).split();
        let writing = async {
            for text in texts {
                writer.feed(Message::text(text)).await.unwrap();
            }
            writer.flush().await.unwrap();
        };
        tokio::pin!(writing);
        loop {
            let message = tokio::select! {
                () = &mut writing => return,
                message = reader.next() => message.expect("the socket is open").unwrap(),
            };
            if let Some(rest) = message.to_text().unwrap().strip_prefix("42") {
                self.seen.push(serde_json::from_str(rest).unwrap());
            }
        }
    }

    /// The next event of this name; what else comes is kept.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |_| true).await
    }

    /// The next event of this name that looks as wanted.
    pub(crate) async fn event_where(
        &mut self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let fits = |(seen, payload): &(String, Value)| seen == name && wanted(payload);
        if let Some(index) = self.seen.iter().position(fits) {
            return self.seen.remove(index).1;
        }
        // Pings come for ever: they are no sign that the event will.
        let end = tokio::time::Instant::now() + EVENT_PATIENCE;
        loop {
            let incoming = tokio::time::timeout_at(end, self.incoming()).await;
            let Ok(incoming) = incoming else { panic!("no {name} came; seen: {:?}", self.seen) };
            match incoming.expect("the socket is open") {
                Incoming::Event(seen, payload) if seen == name && wanted(&payload) => {
                    return payload;
                }
                Incoming::Event(seen, payload) => self.seen.push((seen, payload)),
                Incoming::Ack(id, _) => panic!("nobody waits for acknowledgement {id}"),
            }
        }
    }

    /// Names of all events that have come until now: what was sent before the answer to a
    /// heartbeat has arrived with it.
    pub(crate) async fn names_seen(&mut self) -> Vec<String> {
        self.must("heartbeat", json!({})).await;
        self.seen.drain(..).map(|(name, _)| name).collect()
    }

    /// The same, with what they say.
    pub(crate) async fn events_seen(&mut self) -> Vec<(String, Value)> {
        self.must("heartbeat", json!({})).await;
        std::mem::take(&mut self.seen)
    }

    /// Waits until the server closes the socket.
    pub(crate) async fn closed(&mut self) {
        let closed = async { while self.incoming().await.is_some() {} };
        tokio::time::timeout(PATIENCE, closed).await.expect("the server closes the socket");
    }

    /// Leaves the namespace and asks to come back as another socket over the same connection: when
    /// this is done, the service has noticed that the first one is gone. Gives whether it came.
    pub(crate) async fn be_another_socket(&mut self, auth: Option<&Value>) -> bool {
        self.send("41").await;
        self.enter_again(auth).await
    }

    /// Asks once more; gives whether it came.
    pub(crate) async fn enter_again(&mut self, auth: Option<&Value>) -> bool {
        self.send(&format!("40{}", auth.map(Value::to_string).unwrap_or_default())).await;
        loop {
            let text = self.text().await.expect("the server answers");
            if text.starts_with("40") || text.starts_with("44") {
                return text.starts_with("40");
            }
        }
    }

    /// Asks until it comes.
    pub(crate) async fn enter_at_last(&mut self, auth: Option<&Value>) {
        let entering = async { while !self.enter_again(auth).await {} };
        tokio::time::timeout(PATIENCE, entering).await.expect("the server lets it in");
    }

    /// Reads nothing any more, and says all the time that it is there, until the connection ends.
    pub(crate) async fn be_deaf(mut self) {
        while self.socket.send(Message::text("3")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The network is gone: no goodbye of any kind.
    pub(crate) fn cut(self) {
        drop(self.socket);
    }
}
