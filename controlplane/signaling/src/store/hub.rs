//! What the nodes of a fleet say to each other, over Redis. Each participant is one record with a
//! version, written by the node that has his socket: the newest is in the hash
//! `room:{id}:presence`, and every change is told on `channel:room:{id}` by the same script that
//! writes it. So whoever reads the hash after subscribing misses nothing, and what comes late or
//! twice is seen by its version. Nodes are heard of on `channel:nodes`.
//!
//! Here is the connection, what is asked over it, and how answers are read; `news` has the words,
//! `scripts` what Redis does as a whole, `ear` what is heard of the others.

mod ear;
mod news;
mod scripts;

use std::collections::BTreeMap;
use std::time::Duration;

use ironcast_api::Id;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, Pipeline};

pub use ear::{Ear, Heard, Subscriber};
pub use news::{Member, News, Relayed, Shown, Told, Track};
pub use scripts::Write;

use super::{PRESENCE_TIME, Present, RoomRecord, StoreError};
use news::Stop;
use scripts::{Claim, NODES};

/// Longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Rooms that are looked at in one request.
const LOOKS_AT_ONCE: usize = 64;

/// A room as all nodes see it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its router, and its media host where there are several: `id@host`.
    pub router: String,
    /// `p2p` or `sfu`; none if nobody wrote it lately.
    pub mode: Option<String>,
    /// Its routers at other hosts, as the first.
    pub branches: Vec<String>,
    /// Everybody who is heard of.
    pub members: Vec<Member>,
    /// What is watched or recorded of it.
    pub shows: Vec<Shown>,
    /// Which of that is to end.
    pub stops: Vec<String>,
}

/// A room to look at.
#[derive(Debug, Clone)]
pub struct Look {
    /// Which.
    pub room_id: Id,
    /// Its router if it has none yet.
    pub router: String,
}

/// What became of a record that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It was taken away, by nobody but this call.
    Now,
    /// There was none any more.
    Before,
    /// He is at another node.
    NotThere,
}

/// The way to the other nodes. Lost connections are made again.
#[derive(Clone)]
pub struct Hub {
    client: Client,
    connection: ConnectionManager,
    /// This node's name.
    pub node: String,
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("not written by this service: {error}"))
}

fn late<E>(_: E) -> StoreError {
    StoreError::Unavailable("no answer in time".to_owned())
}

impl Hub {
    /// Connects as a node: `redis://host:port`.
    pub async fn connect(url: &str, node: String) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(WAIT_MAX))
            .set_connection_timeout(Some(WAIT_MAX))
            .set_max_delay(Duration::from_millis(500));
        let client = Client::open(url)?;
        let connection = client.get_connection_manager_with_config(config).await?;
        Ok(Self { client, connection, node })
    }

    async fn run<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        let asked = command.query_async(&mut connection);
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }

    async fn run_all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        let asked = pipeline.query_async(&mut connection);
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }

    /// Writes all of it, in order, in one request.
    pub async fn write(&self, all: &[Write]) -> Result<(), StoreError> {
        let mut pipeline = Pipeline::new();
        for write in all {
            pipeline.add_command(write.command()).ignore();
        }
        self.run_all(&pipeline).await
    }

    /// This node is there.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(NODES).arg(&self.node);
        self.run::<i64>(command).await.map(|_| ())
    }

    /// Says that this node serves rooms, and gives how all nodes see them, in the same order.
    pub async fn look(&self, rooms: &[Look], dead: &[String]) -> Result<Vec<View>, StoreError> {
        let mut views = Vec::with_capacity(rooms.len());
        for some in rooms.chunks(LOOKS_AT_ONCE) {
            let mut pipeline = Pipeline::new();
            for look in some {
                pipeline.add_command(scripts::look(look, &self.node, dead));
            }
            let answers: Vec<Vec<String>> = self.run_all(&pipeline).await?;
            for answer in answers {
                views.push(read_view(&answer)?);
            }
        }
        Ok(views)
    }

    /// A room is at a host, too, by this router there, or by the one that this gives.
    pub async fn branch(
        &self,
        room_id: &Id,
        host: &str,
        router: &str,
        dead: &[String],
    ) -> Result<String, StoreError> {
        self.run(scripts::branch(room_id, host, router, dead)).await
    }

    /// This node does not serve a room any more; gives its branches if it is over for all. `nodes`:
    /// those that are there.
    pub async fn close(
        &self,
        room_id: &Id,
        router: &str,
        nodes: &[String],
    ) -> Result<Option<Vec<String>>, StoreError> {
        let command = scripts::close(room_id, &self.node, router, nodes);
        let mut answer: Vec<String> = self.run(command).await?;
        let is_over = answer.first().is_some_and(|first| first == "1");
        Ok(is_over.then(|| answer.split_off(1)))
    }

    /// Takes a participant over from another node, if he is still there; gives whether he was. Of
    /// one whose node is gone the record may be gone, too.
    pub async fn claim(&self, member: &Member, may_miss: bool) -> Result<bool, StoreError> {
        let told = self.told(News::UserChanged(member.clone()));
        let claim = if may_miss { Claim::Unknown } else { Claim::Known };
        Ok(self.run::<i64>(scripts::enter(member, Some(&told), PRESENCE_TIME, claim)).await? == 1)
    }

    /// Removes a participant if he is still at a node.
    pub async fn remove(&self, who: &Present, news: News) -> Result<Removed, StoreError> {
        let told = self.told(news);
        Ok(match self.run::<i64>(scripts::leave(who, &who.node, &told)).await? {
            0 => Removed::NotThere,
            1 => Removed::Now,
            _ => Removed::Before,
        })
    }

    /// Begins a broadcast here, unless another one of its kind is at a node that is not `gone`; gives
    /// whether it may.
    pub async fn begin_show(
        &self,
        room_id: &Id,
        shown: &Shown,
        told: &Told,
        gone: &[String],
    ) -> Result<bool, StoreError> {
        Ok(self.run::<i64>(scripts::show(room_id, shown, told, Some(gone))).await? == 1)
    }

    /// A broadcast of a node that is gone is over; gives whether this call took its record away.
    pub async fn end_show(
        &self,
        room_id: &Id,
        shown: &Shown,
        told: &Told,
    ) -> Result<bool, StoreError> {
        Ok(self.run::<i64>(scripts::show(room_id, shown, told, None)).await? == 1)
    }

    /// Asks the node of a broadcast to end it; gives whether it is there.
    pub async fn stop_show(&self, room_id: &Id, shown: &Shown) -> Result<bool, StoreError> {
        let broadcast_id = shown.broadcast_id.clone();
        let told = self.told(News::StopBroadcast { broadcast_id });
        Ok(self.run::<i64>(scripts::stop(room_id, shown, &told)).await? == 1)
    }

    /// News from here.
    pub fn told(&self, news: News) -> Told {
        Told { node: self.node.clone(), news }
    }

    /// Begins to listen to the nodes.
    pub async fn listen(&self) -> Result<Ear, StoreError> {
        Ear::open(&self.client).await
    }
}

fn read_view(answer: &[String]) -> Result<View, StoreError> {
    let [router, record, branches, shows, rest @ ..] = answer else {
        return Err(unreadable("no router"));
    };
    let shows = shows.parse().ok().and_then(|count| rest.split_at_checked(count));
    let Some((shows, members)) = shows else { return Err(unreadable("no broadcasts")) };
    let record: Option<RoomRecord> = serde_json::from_str(record).ok();
    let mut newest: BTreeMap<Id, Member> = BTreeMap::new();
    for member in members {
        // A record that cannot be read is nobody's: it expires.
        if let Ok(member) = serde_json::from_str::<Member>(member) {
            newest.insert(member.who.participant_id.clone(), member);
        }
    }
    let mode = record.map(|record| record.mode);
    let branches = branches.lines().map(str::to_owned).collect();
    let stops = shows.iter().filter_map(|word| serde_json::from_str::<Stop>(word).ok());
    let stops = stops.map(|word| word.stop).collect();
    let shows = shows.iter().filter_map(|show| serde_json::from_str(show).ok()).collect();
    let members = newest.into_values().collect();
    Ok(View { router: router.clone(), mode, branches, members, shows, stops })
}
