-- Statements of house-keeping, by name; read when a store is kept, never by a run.

-- name: run_facts
select seq, id, pipeline, number, status, owner, parent_run, parent_step, started, ended, archived
from run where id = :id;

-- name: children
select seq, id, pipeline, number, status, owner, parent_run, parent_step, started, ended, archived
from run where parent_run = :id and parent_step is not null order by seq;

-- name: prunable
select seq, id, pipeline, number, status, owner, parent_run, parent_step, started, ended, archived
from run where parent_step is null and not archived and (:pipeline is null or pipeline = :pipeline)
order by started desc, seq desc;

-- name: running
select id, owner, started, status from run where status = 'running';

-- name: run_ids
select id from run;

-- name: set_archived
update run set archived = :archived where seq = :seq;

-- name: make_doomed
create temp table if not exists doomed (seq integer primary key);

-- name: doom
insert into doomed values (:seq);

-- name: rm_attempts
delete from attempt where step >= :first and step < :last;

-- name: rm_keys
delete from step_key where step >= :first and step < :last;

-- name: rm_steps
delete from step where id >= :first and id < :last;

-- name: rm_earlier
delete from earlier where run = :seq;

-- name: rm_releases
delete from release where run = :seq;

-- name: rm_components
delete from component where run = :seq;

-- name: rm_reported
delete from reported where run = :seq;

-- name: rm_attachments
delete from attachment where run = :seq;

-- name: rm_run
delete from run where seq = :seq;

-- name: rm_cached
delete from cache where step >> 32 in (select seq from doomed);

-- name: rm_sources
delete from source where digest not in
    (select named.value
     from component, json_each(iif(json_valid(sources), sources, null)) as named
     where named.value is not null
     union select named.value
     from run, json_each(iif(json_valid(sources), sources, null)) as named
     where named.value is not null);

-- name: digests_of_run
select args from step where id >= :first and id < :last and typeof(args) = 'text'
union select value from step where id >= :first and id < :last and typeof(value) = 'text'
union select args from earlier where run = :seq and typeof(args) = 'text'
union select value from earlier where run = :seq and typeof(value) = 'text'
union select args from run where seq = :seq and typeof(args) = 'text'
union select value from run where seq = :seq and typeof(value) = 'text'
union select digest from attachment where run = :seq;

-- name: digests
select args from step where typeof(args) = 'text'
union all select value from step where typeof(value) = 'text'
union all select args from earlier where typeof(args) = 'text'
union all select value from earlier where typeof(value) = 'text'
union all select args from run where typeof(args) = 'text'
union all select value from run where typeof(value) = 'text'
union all select digest from attachment;

-- name: holders
select 'the arguments of step ' || step.name || ' of run ' || coalesce(run.id, '?'), step.args
from step left join run on run.seq = step.run where typeof(step.args) = 'text'
union all
select 'the value of step ' || step.name || ' of run ' || coalesce(run.id, '?'), step.value
from step left join run on run.seq = step.run where typeof(step.value) = 'text'
union all
select 'what step ' || name || ' of a resumed run had as arguments', args
from earlier where typeof(args) = 'text'
union all
select 'what step ' || name || ' of a resumed run had as value', value
from earlier where typeof(value) = 'text'
union all
select 'the parameters of run ' || id, args from run where typeof(args) = 'text'
union all
select 'the result of run ' || id, value from run where typeof(value) = 'text'
union all
select 'what run ' || coalesce(run.id, '?') || ' reported', digest
from attachment left join run on run.seq = attachment.run;

-- name: logs
select run.id, run.status, run.owner, step.name, step.logs
from step join run on run.seq = step.run where step.logs is not null
union all
select run.id, run.status, run.owner, step.name, attempt.logs
from attempt join step on step.id = attempt.step join run on run.seq = step.run
where attempt.logs is not null;

-- name: steps_without_run
select count(*) from step where run not in (select seq from run) or run <> id >> 32;

-- name: steps_without_component
select count(*) from step where not exists
    (select 1 from component where component.run = step.run and number = step.component);

-- name: components_without_run
select count(*) from component where run not in (select seq from run);

-- name: attempts_without_step
select count(*) from attempt where step not in (select id from step);

-- name: keys_without_step
select count(*) from step_key where step not in (select id from step);

-- name: earlier_without_run
select count(*) from earlier where run not in (select seq from run);

-- name: reported_without_run
select count(*) from (select run from reported union all select run from attachment)
where run not in (select seq from run);

-- name: cached_without_step
select count(*) from cache where step not in (select id from step);

-- name: missing_sources
select count(distinct digest) from
    (select named.value as digest from component, json_each(iif(json_valid(sources), sources, null)) as named
     union all select named.value from run, json_each(iif(json_valid(sources), sources, null)) as named)
where digest not in (select digest from source);

-- name: rm_dangling_cached
delete from cache where step not in (select id from step);

-- name: export_run
select * from run where seq = :seq;

-- name: export_component
select * from component where run = :seq;

-- name: export_step
select * from step where id >= :first and id < :last;

-- name: export_step_key
select * from step_key where step >= :first and step < :last;

-- name: export_attempt
select * from attempt where step >= :first and step < :last;

-- name: export_earlier
select * from earlier where run = :seq;

-- name: export_reported
select * from reported where run = :seq;

-- name: export_attachment
select * from attachment where run = :seq;

-- name: attached
select digest from attachment where run = :seq;

-- name: sources_of_run
select named.value from component, json_each(iif(json_valid(sources), sources, null)) as named where run = :seq
union select named.value from run, json_each(iif(json_valid(sources), sources, null)) as named where seq = :seq;

-- name: export_source
select * from source where digest = :digest;

-- name: put_source
insert or ignore into source values (:digest, :text);

-- name: next_number
select coalesce(max(number), 0) + 1 from run where pipeline = :pipeline;

-- name: number_is_taken
select 1 from run where pipeline = :pipeline and number = :number;
