-- Calls and who was in them, for SQLite and PostgreSQL alike. A room's row is its last call.
CREATE TABLE call_sessions (
    call_id TEXT PRIMARY KEY,
    mode TEXT NOT NULL,
    router_id TEXT,
    rtp_capabilities TEXT,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT
);
CREATE TABLE call_participants (
    session TEXT PRIMARY KEY,
    call_id TEXT NOT NULL,
    participant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    joined_ms BIGINT NOT NULL,
    left_ms BIGINT,
    send_transport_id TEXT,
    recv_transport_id TEXT,
    audio_producer_id TEXT,
    video_producer_id TEXT
);
CREATE INDEX call_participants_by_call ON call_participants (call_id, joined_ms);
CREATE INDEX call_participants_by_time ON call_participants (left_ms);
