//! What lasts, in SQL: an SQLite file in the state directory, or a PostgreSQL database that several
//! nodes share. Both read the same statements; `migrations/` says how the tables came about.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use futures::FutureExt;
use ironcast_api::Id;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{ColumnIndex, Decode, Row, SqlStr, Type};

use super::calls::{CallParticipant, CallRecord, CallSession, PARTICIPANTS_SHOWN_MAX, Status};
use super::{Answer, Kept, Lasting, Message, NewMessage, StoreError};

/// Longest wait for a connection of the pool.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Longest wait for an answer that somebody waits for. Longer than that for a connection, which says more.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The same for what nobody waits for.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// Connections to PostgreSQL at once.
const CONNECTIONS_MAX: u32 = 8;

/// Name of the file in the state directory.
pub const FILE: &str = "signaling.sqlite";

/// Every version of the tables, oldest first. One that was released is never changed.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "chat", include_str!("../../migrations/1_chat.sql")),
    (2, "calls", include_str!("../../migrations/2_calls.sql")),
    (3, "hosts", include_str!("../../migrations/3_hosts.sql")),
];

/// The next number of a room. The row stays locked until the end of the transaction: messages of
/// one room are kept one after the other, on all nodes.
const NEXT_NUMBER: &str = "INSERT INTO chat_rooms (room_id, last_number, last_time_ms) \
     VALUES ($1, 1, $2) ON CONFLICT (room_id) DO UPDATE SET \
     last_number = chat_rooms.last_number + 1, \
     last_time_ms = CASE WHEN excluded.last_time_ms > chat_rooms.last_time_ms \
     THEN excluded.last_time_ms ELSE chat_rooms.last_time_ms END \
     RETURNING last_number, last_time_ms";

const BY_CLIENT: &str = "SELECT number, sender_id, sender_name, content, time_ms \
     FROM chat_messages WHERE room_id = $1 AND client_id = $2";

const ADD: &str = "INSERT INTO chat_messages \
     (room_id, number, sender_id, sender_name, client_id, content, time_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";

const TRIM: &str = "DELETE FROM chat_messages WHERE room_id = $1 AND number <= $2";

const PAGE: &str = "SELECT number, sender_id, sender_name, content, time_ms \
     FROM chat_messages WHERE room_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3";

/// A call that has ended begins anew.
const NOTE_CALL: &str = "INSERT INTO call_sessions \
     (call_id, mode, router_id, rtp_capabilities, started_ms, ended_ms) \
     VALUES ($1, $2, $3, $4, $5, NULL) ON CONFLICT (call_id) DO UPDATE SET \
     started_ms = CASE WHEN call_sessions.ended_ms IS NULL \
     THEN call_sessions.started_ms ELSE excluded.started_ms END, \
     mode = excluded.mode, router_id = excluded.router_id, \
     rtp_capabilities = excluded.rtp_capabilities, ended_ms = NULL";

/// Not a call that another node began meanwhile, nor one that has ended: a room may be made and closed
/// without anybody in it.
const END_CALL: &str = "UPDATE call_sessions SET ended_ms = $2 \
     WHERE call_id = $1 AND started_ms <= $2 AND ended_ms IS NULL";

/// Who left stays so: a state of his may be written late by another node.
const NOTE_PARTICIPANT: &str = "INSERT INTO call_participants \
     (session, call_id, participant_id, name, status, joined_ms, left_ms, send_transport_id, \
     recv_transport_id, audio_producer_id, video_producer_id, media_host) \
     VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, $8, $9, $10, $11) ON CONFLICT (session) DO UPDATE SET \
     name = excluded.name, status = excluded.status, \
     send_transport_id = excluded.send_transport_id, \
     recv_transport_id = excluded.recv_transport_id, \
     audio_producer_id = excluded.audio_producer_id, \
     video_producer_id = excluded.video_producer_id, media_host = excluded.media_host \
     WHERE call_participants.left_ms IS NULL";

const LEAVE_CALL: &str = "UPDATE call_participants SET status = 'disconnected', left_ms = $2 \
     WHERE session = $1";

const CALL: &str = "SELECT mode, router_id, rtp_capabilities, started_ms, ended_ms \
     FROM call_sessions WHERE call_id = $1";

const CALL_PARTICIPANTS: &str = "SELECT session, participant_id, name, status, joined_ms, \
     left_ms, send_transport_id, recv_transport_id, audio_producer_id, video_producer_id, media_host \
     FROM call_participants WHERE call_id = $1 AND joined_ms >= $2 \
     ORDER BY joined_ms DESC LIMIT $3";

/// What began so long ago and never ended was left by a node that was killed.
const FORGET_CALLS: &str = "DELETE FROM call_sessions WHERE COALESCE(ended_ms, started_ms) < $1";
const FORGET_PARTICIPANTS: &str =
    "DELETE FROM call_participants WHERE COALESCE(left_ms, joined_ms) < $1";

const FORGET_MESSAGES: &str = "DELETE FROM chat_messages WHERE time_ms < $1";
const FORGET_ROOMS: &str = "DELETE FROM chat_rooms WHERE last_time_ms < $1";

/// A database.
#[derive(Debug, Clone)]
pub enum Sql {
    /// A file.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// The same statements for both: only the types of the connection differ.
macro_rules! with_pool {
    ($sql:expr, $pool:ident => $run:expr) => {
        match $sql {
            Sql::Sqlite($pool) => $run,
            Sql::Postgres($pool) => $run,
        }
    };
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let (kind, sql) = (MigrationType::Simple, SqlStr::from_static(sql));
        Migration::new(*version, (*name).into(), kind, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

impl Sql {
    /// Opens the file, and makes it if it is not there.
    pub async fn sqlite(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(WAIT_MAX);
        // One writes at a time in any case, and reads are short.
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT_MAX);
        let pool = pool.connect_with(options).await?;
        migrator().run(&pool).await?;
        Ok(Self::Sqlite(pool))
    }

    /// Connects to a server: `postgres://user:password@host/database`.
    pub async fn postgres(url: &str) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::from_str(url)?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(WAIT_MAX);
        let pool = pool.connect_with(options).await?;
        migrator().run(&pool).await?;
        Ok(Self::Postgres(pool))
    }
}

/// Reads a message out of a row of either database.
fn message<'r, R>(row: &'r R) -> Result<Message, StoreError>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(Message {
        number: row.try_get::<i64, _>("number")?.unsigned_abs(),
        sender_id: id_of(row.try_get("sender_id")?)?,
        sender_name: row.try_get("sender_name")?,
        content: row.try_get("content")?,
        time_ms: row.try_get::<i64, _>("time_ms")?.unsigned_abs(),
    })
}

fn id_of(text: String) -> Result<Id, StoreError> {
    Id::new(text).map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// Reads a call out of a row of either database.
fn session<'r, R>(row: &'r R, call_id: &Id) -> Result<CallSession, StoreError>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    let capabilities: Option<String> = row.try_get("rtp_capabilities")?;
    let ended_ms: Option<i64> = row.try_get("ended_ms")?;
    Ok(CallSession {
        call_id: call_id.clone(),
        mode: row.try_get("mode")?,
        router_id: row.try_get::<Option<String>, _>("router_id")?.map(id_of).transpose()?,
        rtp_capabilities: capabilities.and_then(|text| serde_json::from_str(&text).ok()),
        started_ms: row.try_get::<i64, _>("started_ms")?.unsigned_abs(),
        ended_ms: ended_ms.map(i64::unsigned_abs),
    })
}

/// The same of somebody in it.
fn participant<'r, R>(row: &'r R, call_id: &Id) -> Result<CallParticipant, StoreError>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    let id = |column: &'static str| -> Result<Option<Id>, StoreError> {
        row.try_get::<Option<String>, _>(column)?.map(id_of).transpose()
    };
    let left_ms: Option<i64> = row.try_get("left_ms")?;
    Ok(CallParticipant {
        call_id: call_id.clone(),
        session: id_of(row.try_get("session")?)?,
        participant_id: id_of(row.try_get("participant_id")?)?,
        name: row.try_get("name")?,
        status: Status::of_name(&row.try_get::<String, _>("status")?),
        joined_ms: row.try_get::<i64, _>("joined_ms")?.unsigned_abs(),
        left_ms: left_ms.map(i64::unsigned_abs),
        send_transport_id: id("send_transport_id")?,
        recv_transport_id: id("recv_transport_id")?,
        audio_producer_id: id("audio_producer_id")?,
        video_producer_id: id("video_producer_id")?,
        media_host: row.try_get("media_host")?,
    })
}

fn sqlite_message(row: SqliteRow) -> Result<Message, StoreError> {
    message(&row)
}

fn postgres_message(row: PgRow) -> Result<Message, StoreError> {
    message(&row)
}

/// A number as databases have them.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

macro_rules! add_message {
    ($pool:ident, $new:ident, $read:path) => {{
        // Whatever ends this before its end leaves nothing behind.
        let mut all = $pool.begin().await?;
        let next = sqlx::query(NEXT_NUMBER)
            .bind($new.room_id.as_str())
            .bind(number($new.time_ms))
            .fetch_one(&mut *all)
            .await?;
        if let Some(client_id) = &$new.client_id {
            let there = sqlx::query(BY_CLIENT)
                .bind($new.room_id.as_str())
                .bind(client_id.as_str())
                .fetch_optional(&mut *all)
                .await?;
            if let Some(row) = there {
                all.rollback().await?;
                let message = $read(row)?;
                if message.content != $new.content {
                    return Err(StoreError::Taken);
                }
                return Ok(Kept { message, is_new: false });
            }
        }
        let last: i64 = next.try_get("last_number")?;
        let time_ms: i64 = next.try_get("last_time_ms")?;
        sqlx::query(ADD)
            .bind($new.room_id.as_str())
            .bind(last)
            .bind($new.sender_id.as_str())
            .bind(&$new.sender_name)
            .bind($new.client_id.as_ref().map(Id::as_str))
            .bind(&$new.content)
            .bind(time_ms)
            .execute(&mut *all)
            .await?;
        let too_old = last - i64::from($new.kept_max);
        sqlx::query(TRIM).bind($new.room_id.as_str()).bind(too_old).execute(&mut *all).await?;
        all.commit().await?;
        let message = Message {
            number: last.unsigned_abs(),
            sender_id: $new.sender_id,
            sender_name: $new.sender_name,
            content: $new.content,
            time_ms: time_ms.unsigned_abs(),
        };
        Ok(Kept { message, is_new: true })
    }};
}

macro_rules! note_call {
    ($all:ident, $record:ident) => {
        match $record {
            CallRecord::Session(new) => {
                sqlx::query(NOTE_CALL)
                    .bind(new.call_id.as_str())
                    .bind(new.mode)
                    .bind(new.router_id.as_ref().map(Id::as_str))
                    .bind(new.rtp_capabilities.map(|value| value.to_string()))
                    .bind(number(new.started_ms))
                    .execute(&mut *$all)
                    .await?;
            }
            CallRecord::Ended { call_id, ended_ms } => {
                sqlx::query(END_CALL)
                    .bind(call_id.as_str())
                    .bind(number(ended_ms))
                    .execute(&mut *$all)
                    .await?;
            }
            CallRecord::Participant(new) => {
                sqlx::query(NOTE_PARTICIPANT)
                    .bind(new.session.as_str())
                    .bind(new.call_id.as_str())
                    .bind(new.participant_id.as_str())
                    .bind(&new.name)
                    .bind(new.status.name())
                    .bind(number(new.joined_ms))
                    .bind(new.send_transport_id.as_ref().map(Id::as_str))
                    .bind(new.recv_transport_id.as_ref().map(Id::as_str))
                    .bind(new.audio_producer_id.as_ref().map(Id::as_str))
                    .bind(new.video_producer_id.as_ref().map(Id::as_str))
                    .bind(new.media_host.as_deref())
                    .execute(&mut *$all)
                    .await?;
            }
            CallRecord::Left { session, left_ms, .. } => {
                sqlx::query(LEAVE_CALL)
                    .bind(session.as_str())
                    .bind(number(left_ms))
                    .execute(&mut *$all)
                    .await?;
            }
        }
    };
}

/// The call's row, and those of who is in it.
macro_rules! call {
    ($pool:ident, $call_id:ident) => {{
        let row = sqlx::query(CALL).bind($call_id.as_str()).fetch_optional($pool).await?;
        let Some(row) = row else { return Ok(None) };
        let call = session(&row, &$call_id)?;
        let rows = sqlx::query(CALL_PARTICIPANTS)
            .bind($call_id.as_str())
            .bind(number(call.started_ms))
            .bind(i64::from(PARTICIPANTS_SHOWN_MAX))
            .fetch_all($pool)
            .await?;
        let newest_first = rows.iter().map(|row| participant(row, &$call_id));
        let mut people = newest_first.collect::<Result<Vec<_>, _>>()?;
        people.reverse();
        Ok(Some((call, people)))
    }};
}

/// A server that takes a question and says nothing is away, too.
fn in_time<'a, T: Send + 'a>(
    answer: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    most: Duration,
) -> Answer<'a, T> {
    async move {
        let late = |_| Err(StoreError::Unavailable("no answer in time".to_owned()));
        tokio::time::timeout(most, answer).await.unwrap_or_else(late)
    }
    .boxed()
}

impl Lasting for Sql {
    fn add_message(&self, new: NewMessage) -> Answer<'_, Kept> {
        let adding = async move {
            match self {
                Self::Sqlite(pool) => add_message!(pool, new, sqlite_message),
                Self::Postgres(pool) => add_message!(pool, new, postgres_message),
            }
        };
        in_time(adding, ANSWER_MAX)
    }

    fn messages(&self, room_id: Id, before: Option<u64>, limit: u32) -> Answer<'_, Vec<Message>> {
        let reading = async move {
            let before = number(before.unwrap_or(u64::MAX));
            let mut page: Vec<Message> = match self {
                Self::Sqlite(pool) => {
                    let query = sqlx::query(PAGE).bind(room_id.as_str()).bind(before);
                    let rows = query.bind(i64::from(limit)).fetch_all(pool).await?;
                    rows.into_iter().map(sqlite_message).collect::<Result<_, _>>()?
                }
                Self::Postgres(pool) => {
                    let query = sqlx::query(PAGE).bind(room_id.as_str()).bind(before);
                    let rows = query.bind(i64::from(limit)).fetch_all(pool).await?;
                    rows.into_iter().map(postgres_message).collect::<Result<_, _>>()?
                }
            };
            page.reverse();
            Ok(page)
        };
        in_time(reading, ANSWER_MAX)
    }

    fn note_calls(&self, records: Vec<CallRecord>) -> Answer<'_, ()> {
        let writing = async move {
            with_pool!(self, pool => {
                let mut all = pool.begin().await?;
                for record in records {
                    note_call!(all, record);
                }
                all.commit().await?;
            });
            Ok(())
        };
        in_time(writing, WRITE_MAX)
    }

    fn call(&self, call_id: Id) -> Answer<'_, Option<(CallSession, Vec<CallParticipant>)>> {
        let reading = async move { with_pool!(self, pool => call!(pool, call_id)) };
        in_time(reading, ANSWER_MAX)
    }

    fn forget_before(&self, time_ms: u64) -> Answer<'_, ()> {
        async move {
            with_pool!(self, pool => {
                sqlx::query(FORGET_MESSAGES).bind(number(time_ms)).execute(pool).await?;
                sqlx::query(FORGET_ROOMS).bind(number(time_ms)).execute(pool).await?;
                sqlx::query(FORGET_CALLS).bind(number(time_ms)).execute(pool).await?;
                sqlx::query(FORGET_PARTICIPANTS).bind(number(time_ms)).execute(pool).await?;
            });
            Ok(())
        }
        .boxed()
    }
}
