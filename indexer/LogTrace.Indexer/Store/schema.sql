-- One file holds one UTC day of records, with the chains that began there. SqliteTraceStore applies this to every new file.
-- Times are microseconds since the epoch. trace_key is the first 64 bits of the trace_id's 128-bit hash, 0 for records without a
-- trace: small, and the index below then keeps the records of a trace together.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE
);

-- The line as it was read is the record; the other columns are derived from it, for search and SQL.
-- Rows are appended in the order of arrival, so that writing touches few pages whatever the trace_ids are.
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    trace_key INTEGER NOT NULL,
    record_id BLOB NOT NULL,
    trace_id TEXT,
    line_hash BLOB NOT NULL,
    source INTEGER NOT NULL REFERENCES sources (id),
    source_offset INTEGER NOT NULL,
    timestamp_us INTEGER NOT NULL,
    ingested_us INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    duration_us INTEGER,
    name TEXT,
    kind TEXT NOT NULL,
    rpc_id TEXT,
    rpc_depth INTEGER,
    rpc_parent TEXT,
    rpc_sort TEXT,
    service TEXT,
    service_certain INTEGER NOT NULL,
    is_error INTEGER NOT NULL,
    code_num INTEGER,
    route TEXT,
    action_key TEXT,
    error_key TEXT,
    peer TEXT,
    tags TEXT,
    line BLOB NOT NULL
);

-- Identity and access by trace in one index: the same record_id means the same line, hence the same trace.
CREATE UNIQUE INDEX records_by_trace ON records (trace_key, record_id);

-- The words of msg, by the record's id. The text itself is in the line. (contentless_delete would spare telling it again when a record goes,
-- but needs SQLite 3.43, and these files are to be read by older programs, too.)
CREATE VIRTUAL TABLE texts USING fts5 (msg, content = '', tokenize = 'unicode61 remove_diacritics 0');

-- What FindStaleTraces compares with the chains, kept with every write so that it never counts records.
CREATE TABLE traces (
    trace_key INTEGER NOT NULL,
    trace_id TEXT NOT NULL,
    record_count INTEGER NOT NULL,
    last_ingested_us INTEGER NOT NULL,
    PRIMARY KEY (trace_key, trace_id)
) WITHOUT ROWID;

CREATE INDEX traces_by_ingestion ON traces (last_ingested_us);

-- Used in the overflow file only: the days of its records, so that a record of such a day is looked for here before its day's file takes it.
CREATE TABLE overflow_days (
    day INTEGER PRIMARY KEY
);

CREATE TABLE chains (
    id INTEGER PRIMARY KEY,
    trace_key INTEGER NOT NULL,
    trace_id TEXT NOT NULL,
    start_us INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    entry_service TEXT,
    entry_action TEXT,
    entry_code TEXT,
    services TEXT NOT NULL,
    edges TEXT NOT NULL,
    record_count INTEGER NOT NULL,
    node_count INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    placeholder_count INTEGER NOT NULL,
    gap_count INTEGER NOT NULL,
    callee_only_count INTEGER NOT NULL,
    likely_loss_count INTEGER NOT NULL,
    ambiguous_count INTEGER NOT NULL,
    error_count INTEGER NOT NULL,
    alarm_count INTEGER NOT NULL,
    debug INTEGER NOT NULL,
    sampled INTEGER NOT NULL,
    uid TEXT,
    complete INTEGER NOT NULL,
    resolved INTEGER NOT NULL,
    last_record_us INTEGER NOT NULL,
    -- Rules of keeping: when its last record came while it is not decided on, else 0; and 1 if they decided against it: then only this row is left.
    undecided INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    rows_total INTEGER NOT NULL,
    rows TEXT NOT NULL
);

CREATE UNIQUE INDEX chains_by_trace ON chains (trace_key, trace_id);
-- With what is asked for most, so that a search that goes through all chains does not touch their rows, which are wide.
CREATE INDEX chains_by_start ON chains (start_us, dropped, entry_action, duration_us);
CREATE INDEX chains_with_errors ON chains (start_us) WHERE error_count > 0;
CREATE INDEX chains_by_user ON chains (uid, start_us) WHERE uid IS NOT NULL;
CREATE INDEX chains_to_decide ON chains (undecided) WHERE undecided > 0;
CREATE INDEX chains_dropped ON chains (trace_key) WHERE dropped = 1;

-- Chains by the services that take part, newest first, so that the few with errors of a busy service are found at once.
CREATE TABLE chain_services (
    service TEXT NOT NULL,
    began_us INTEGER NOT NULL,
    chain INTEGER NOT NULL REFERENCES chains (id),
    failed INTEGER NOT NULL,
    PRIMARY KEY (service, began_us, chain)
) WITHOUT ROWID;

CREATE INDEX chain_services_failed ON chain_services (service, began_us) WHERE failed = 1;

CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    trace_key INTEGER NOT NULL,
    call_id BLOB NOT NULL,
    trace_id TEXT NOT NULL,
    rpc_id TEXT NOT NULL,
    execution INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    entry_service TEXT,
    entry_action TEXT,
    caller TEXT,
    callee TEXT,
    peer TEXT,
    kind TEXT,
    action_key TEXT,
    duration_us INTEGER,
    network_us INTEGER,
    is_error INTEGER NOT NULL,
    loss_state TEXT NOT NULL,
    gap_count INTEGER NOT NULL,
    caller_host TEXT,
    callee_host TEXT
);

CREATE UNIQUE INDEX calls_by_trace ON calls (trace_key, call_id);
