-- What people wrote, for SQLite and PostgreSQL alike. Numbers count by room: they are the order.
CREATE TABLE chat_rooms (
    room_id TEXT PRIMARY KEY,
    last_number BIGINT NOT NULL,
    last_time_ms BIGINT NOT NULL
);
CREATE TABLE chat_messages (
    room_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    sender_id TEXT NOT NULL,
    sender_name TEXT NOT NULL,
    client_id TEXT,
    content TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    PRIMARY KEY (room_id, number)
);
CREATE UNIQUE INDEX chat_messages_by_client ON chat_messages (room_id, client_id);
CREATE INDEX chat_messages_by_time ON chat_messages (time_ms);
