-- The store's database, version 2 (PRAGMA user_version).

create table run (
    seq integer primary key,
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
    primary key (run, number)
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
    logs text                           -- log name, and from to from to in bytes
);

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

create index run_parent on run (parent_run) where parent_run is not null;
