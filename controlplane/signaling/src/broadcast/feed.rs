//! The mixer at work: the socket that the media server sends to, and the datagrams to FFmpeg. One
//! task for a broadcast; it ends with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ironcast_api::Id;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::mixer::{Datagram, Mixer, Target};
use super::rtp::Codec;

/// Between two looks at what has to be filled.
const TICK: Duration = Duration::from_millis(10);

/// Largest datagram.
const DATAGRAM_MAX: usize = 2048;

/// Receives, mixes, sends.
#[derive(Debug)]
pub struct Feed {
    address: SocketAddr,
    inside: Arc<Inside>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Inside {
    mixer: Mutex<Mixer>,
    began: Instant,
    from_server: UdpSocket,
    to_ffmpeg: std::net::UdpSocket,
}

impl Inside {
    fn mixer(&self) -> MutexGuard<'_, Mixer> {
        self.mixer.lock().expect("nobody panics with it")
    }

    fn now_us(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn send(&self, datagrams: &[Datagram]) {
        for Datagram { port, bytes } in datagrams {
            // FFmpeg may have just gone; its end is noticed elsewhere.
            let _ = self.to_ffmpeg.send_to(bytes, (Ipv4Addr::LOCALHOST, *port));
        }
    }

    async fn run(&self) {
        let (mut buffer, mut out) = ([0; DATAGRAM_MAX], Vec::new());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.from_server.recv(&mut buffer) => match received {
                    Ok(length) => self.mixer().receive(&buffer[..length], self.now_us(), &mut out),
                    Err(error) => tracing::debug!(%error, "nothing received"),
                },
                _ = ticks.tick() => self.mixer().tick(self.now_us(), &mut out),
            }
            self.send(&out);
            out.clear();
        }
    }
}

impl Feed {
    /// Listens for a media server at an address of this host.
    pub async fn open(ip: IpAddr) -> std::io::Result<Self> {
        let from_server = UdpSocket::bind((ip, 0)).await?;
        let address = from_server.local_addr()?;
        let to_ffmpeg = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        to_ffmpeg.set_nonblocking(true)?;
        let (mixer, began) = (Mutex::default(), Instant::now());
        let inside = Arc::new(Inside { mixer, began, from_server, to_ffmpeg });
        let running = Arc::clone(&inside);
        let task = tokio::spawn(async move { running.run().await });
        Ok(Self { address, inside, task })
    }

    /// Where the media server sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody but the media server is heard.
    pub async fn hear_only(&self, server: SocketAddr) -> std::io::Result<()> {
        self.inside.from_server.connect(server).await
    }

    /// FFmpeg listens.
    pub fn begin(&self, targets: &[Target]) {
        let datagrams = self.inside.mixer().begin(targets, self.inside.now_us());
        self.inside.send(&datagrams);
    }

    /// FFmpeg is gone.
    pub fn end(&self) {
        self.inside.mixer().end();
    }

    /// A consumer was made.
    pub fn add(&self, ssrc: u32, producer: Id, codec: Codec) {
        self.inside.mixer().add(ssrc, producer, codec);
    }

    /// A consumer is gone.
    pub fn remove(&self, producer: &Id) {
        self.inside.mixer().remove(producer);
    }

    /// Whose packets each input of FFmpeg gets.
    pub fn assign(&self, producers: &[Option<Id>]) {
        self.inside.mixer().assign(producers);
    }

    /// Whose key frame is missing.
    pub fn without_key_frame(&self) -> Vec<Id> {
        self.inside.mixer().without_key_frame(self.inside.now_us())
    }

    /// Whose pictures are shown.
    pub fn live(&self) -> Vec<Id> {
        self.inside.mixer().live()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
