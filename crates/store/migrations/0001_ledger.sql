-- Who and what a request was for. A busy gateway has few of these, so rows and sums name them by a number.
CREATE TABLE series (
  id {serial},
  client TEXT NOT NULL,
  team TEXT NOT NULL,
  model TEXT NOT NULL,
  provider TEXT NOT NULL,
  key_name TEXT NOT NULL,
  account TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  last_hour BIGINT NOT NULL,
  UNIQUE (client, team, model, provider, key_name, account, endpoint)
);
CREATE INDEX series_last_hour ON series (last_hour);

-- Each request once, for as long as retention says.
CREATE TABLE requests (
  n {serial},
  id TEXT NOT NULL UNIQUE,
  generation TEXT,
  series BIGINT NOT NULL,
  tags TEXT,
  status BIGINT NOT NULL,
  outcome TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  queue_us BIGINT NOT NULL,
  first_output_us BIGINT,
  total_us BIGINT NOT NULL,
  started_unix_ms BIGINT NOT NULL,
  charged_unix_ms BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  cached_input_tokens BIGINT NOT NULL,
  cache_write_tokens BIGINT NOT NULL,
  input_audio_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  output_audio_tokens BIGINT NOT NULL,
  cost_nano_usd BIGINT,
  cost_source BIGINT NOT NULL,
  estimated BIGINT NOT NULL
);
CREATE INDEX requests_generation ON requests (generation) WHERE generation IS NOT NULL;

-- What exports read.
CREATE TABLE hourly (
  hour BIGINT NOT NULL,
  series BIGINT NOT NULL,
  requests BIGINT NOT NULL,
  answered BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL,
  cached_input_tokens BIGINT NOT NULL,
  cache_write_tokens BIGINT NOT NULL,
  output_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL,
  cost_nano_usd BIGINT NOT NULL,
  cost_unknown BIGINT NOT NULL,
  estimated BIGINT NOT NULL,
  unknown BIGINT NOT NULL,
  queue_us BIGINT NOT NULL,
  total_us BIGINT NOT NULL,
  PRIMARY KEY (hour, series)
) {clustered};

-- What budgets read: by day (of 1970, in UTC), kind ('client' or 'team') and name. Day -1 holds all days that were
-- too old to keep apart.
CREATE TABLE spend (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  day BIGINT NOT NULL,
  cost_nano_usd BIGINT NOT NULL,
  PRIMARY KEY (kind, name, day)
) {clustered};
