-- At which media host somebody is, for SQLite and PostgreSQL alike.
ALTER TABLE call_participants ADD COLUMN media_host TEXT;
