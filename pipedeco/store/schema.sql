-- The store's database, version 4 (PRAGMA user_version).

create table run (
    seq integer primary key autoincrement,  -- never used again: cached steps name others by id
    id text not null unique,
    pipeline text not null,
    number integer not null,            -- counts the runs of a pipeline from 1
    version text,
    mode text not null,
    status text not null,
    epoch integer not null,             -- rises when another controller takes the run over
    owner text not null,                -- names the lock that its living controller holds
    parent_run text,
    parent_step text,
    started real not null,              -- seconds since the epoch, UTC
    ended real,
    steps integer,                      -- how many there were in the end
    args any,                           -- as step.args
    parameters text not null,           -- JSON: name -> preview
    reads blob,                         -- positions that the body read, in order (uint32)
    value any,                          -- as step.value
    preview text,
    error_type text,
    error_text text,
    traceback text,
    error blob,
    python text not null,
    host text not null,
    command text not null,              -- JSON: the command line
    cancel text,                        -- who asked its controller to cancel it
    module text not null,               -- where the pipeline is defined
    qualname text not null,
    file text,
    archived integer not null default 0,  -- hidden, and serves no cache hits
    code text,                          -- digest of the pipeline's code and all that it reaches
    parts text,                         -- JSON: [[what, digest], ...]
    sources text,                       -- JSON: what -> source.digest
    capture text,                       -- JSON: git, packages, platform, environment (capture.py)
    progress real,                      -- while it runs, 0 to 1
    unique (pipeline, number)
);

create table component (
    run integer not null references run(seq),
    number integer not null,            -- step.component refers to this
    name text not null,
    module text not null,
    qualname text not null,
    parameters text not null,           -- JSON: the names of its positional parameters
    file text,
    line integer,
    options text not null,              -- JSON: what was set to something unusual
    is_pipeline integer not null,
    code text,                          -- digest of its code and all that it reaches
    parts text,                         -- JSON: [[what, digest], ...] of what it reaches
    unproven text,                      -- JSON: sentences on what cannot be compared
    sources text,                       -- JSON: what -> source.digest
    facts text,                         -- JSON: stage, tags, monitors, where there are any
    primary key (run, number)
) without rowid;

create table source (                   -- text of functions and classes, shared by all runs
    digest text primary key,
    text text not null
) without rowid;

create table step (
    id integer primary key,             -- run.seq * 2^32 + position
    run integer not null,
    name text not null,
    component integer not null,
    state text not null,
    attempt integer not null,
    worker text,
    started real,
    duration real,
    args any,                           -- blob: pickled (args, kwargs); text: digest of a blob
    inputs blob,                        -- positions of the steps whose values stand in args (uint32)
    after blob,                         -- positions of depends_on (uint32)
    reads integer not null,             -- how many of run.reads came before the call
    line integer not null,
    value any,                          -- blob, or text: digest; null: None; empty: not recorded
    preview text,
    error_type text,
    error_text text,
    traceback text,
    error blob,                         -- the pickled exception
    reason text,
    logs text                           -- log name; from to of stdout, stderr, events in bytes; number
);

create table step_key (                 -- only of steps of cached components
    step integer primary key,
    key text,                           -- of the cache; null where equality cannot be proven
    parts text not null,                -- JSON: what the key is made of, and what was in the way
    fingerprint text,                   -- of its value, once a cached step has needed it
    origin integer                      -- the step that made the value of a cached one
);

create table cache (
    key text primary key,
    step integer not null,              -- whose value it is
    created real not null
) without rowid;

create table earlier (                  -- what a resumed run recorded before, until it ends
    run integer not null,
    name text not null,                 -- of the step
    row text not null,                  -- JSON of step, without what is beside it
    args any,
    value any,
    error blob,
    primary key (run, name)
) without rowid;

create table release (                  -- drafts that somebody releases, until their controller hears it
    run integer not null,
    step text not null,                 -- its name
    primary key (run, step)
) without rowid;

create table attempt (                  -- only attempts that were followed by another
    step integer not null,
    number integer not null,
    state text not null,
    worker text,
    started real not null,
    duration real not null,
    error_type text,
    error_text text,
    traceback text,
    logs text,
    primary key (step, number)
) without rowid;

create table reported (                 -- what runs are searched by; the rest stands in their events
    run integer not null,
    kind text not null,                 -- metric, param, tag, step_tag, option (of the pipeline), time
    name text not null,
    number real,                        -- the last value of a metric; seconds that the run took
    text text,                          -- the preview of a parameter, the value of an option
    time real not null default 0,       -- when it was reported; the last counts
    primary key (run, kind, name)
) without rowid;

create table attachment (               -- blobs that a run's events name
    run integer not null,
    digest text not null,
    primary key (run, digest)
) without rowid;

create index run_parent on run (parent_run) where parent_run is not null;
