-- One row: the number of the last change to clients or teams.
CREATE TABLE version (n BIGINT NOT NULL);
INSERT INTO version (n) VALUES (0);

-- A key is known by its digest alone. Rows stay when a key is revoked, so that a change is always seen.
CREATE TABLE clients (
  id TEXT PRIMARY KEY,
  digest {bytes} NOT NULL UNIQUE,
  previous {bytes} UNIQUE,
  previous_until_unix_ms BIGINT,
  name TEXT NOT NULL,
  team TEXT NOT NULL,
  terms TEXT NOT NULL,
  disabled BIGINT NOT NULL,
  created_unix_ms BIGINT NOT NULL,
  expires_unix_ms BIGINT,
  revoked_unix_ms BIGINT,
  version BIGINT NOT NULL
);
CREATE INDEX clients_version ON clients (version);

CREATE TABLE teams (
  name TEXT PRIMARY KEY,
  terms TEXT NOT NULL,
  disabled BIGINT NOT NULL,
  removed BIGINT NOT NULL,
  version BIGINT NOT NULL
);
CREATE INDEX teams_version ON teams (version);
