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

use super::{Answer, Kept, Lasting, Message, NewMessage, StoreError};

/// Longest wait for a connection of the pool.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Connections to PostgreSQL at once.
const CONNECTIONS_MAX: u32 = 8;

/// Name of the file in the state directory.
pub const FILE: &str = "signaling.sqlite";

/// Every version of the tables, oldest first. One that was released is never changed.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "chat", include_str!("../../migrations/1_chat.sql"))];

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
    let sender_id: String = row.try_get("sender_id")?;
    Ok(Message {
        number: row.try_get::<i64, _>("number")?.unsigned_abs(),
        sender_id: Id::new(sender_id)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?,
        sender_name: row.try_get("sender_name")?,
        content: row.try_get("content")?,
        time_ms: row.try_get::<i64, _>("time_ms")?.unsigned_abs(),
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

impl Lasting for Sql {
    fn add_message(&self, new: NewMessage) -> Answer<'_, Kept> {
        async move {
            match self {
                Self::Sqlite(pool) => add_message!(pool, new, sqlite_message),
                Self::Postgres(pool) => add_message!(pool, new, postgres_message),
            }
        }
        .boxed()
    }

    fn messages(&self, room_id: Id, before: Option<u64>, limit: u32) -> Answer<'_, Vec<Message>> {
        async move {
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
        }
        .boxed()
    }

    fn forget_before(&self, time_ms: u64) -> Answer<'_, ()> {
        async move {
            with_pool!(self, pool => {
                sqlx::query(FORGET_MESSAGES).bind(number(time_ms)).execute(pool).await?;
                sqlx::query(FORGET_ROOMS).bind(number(time_ms)).execute(pool).await?;
            });
            Ok(())
        }
        .boxed()
    }
}
