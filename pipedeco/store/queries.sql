-- Every statement of pipedeco, by name.

-- name: begin_run
insert into run (id, pipeline, number, version, mode, status, epoch, owner, parent_run,
                 parent_step, started, args, parameters, python, host, command, module, qualname,
                 file)
values (:id, :pipeline,
        (select coalesce(max(number), 0) + 1 from run where pipeline = :pipeline),
        :version, :mode, 'running', 1, :owner, :parent_run, :parent_step, :started, :args,
        :parameters, :python, :host, :command, :module, :qualname, :file)
returning seq, number;

-- name: expected_steps
select steps, coalesce((select number from reported
                        where run = run.seq and kind = 'time' and name = 'seconds'), ended - started)
from run
where pipeline = :pipeline and version is :version and status = 'completed' and epoch = 1
order by number desc limit 1;

-- name: end_run
update run set status = :status, ended = :ended, steps = :steps, reads = :reads, value = :value,
               preview = :preview, error_type = :error_type, error_text = :error_text,
               traceback = :traceback, error = :error
where seq = :seq and epoch = :epoch;

-- name: put_seconds
insert or replace into reported (run, kind, name, number, time)
values (:run, 'time', 'seconds', :seconds, :began);

-- name: seconds_of_run
select number, time from reported where run = :run and kind = 'time' and name = 'seconds';

-- name: last_seen
select max(started + coalesce(duration, 0)) as time from step where id >= :first and id < :last;

-- name: take_over
update run set epoch = epoch + 1, owner = :owner, mode = :mode,
               parent_step = coalesce(:step, parent_step), status = 'running', ended = null, cancel = null,
               steps = null, reads = null, progress = null,
               value = null, preview = null, error_type = null, error_text = null,
               traceback = null, error = null
where seq = :seq;

-- name: steps_to_resume
select step.*, component.name as component_name, component.is_pipeline, component.code,
       component.module, component.qualname, component.file,
       step_key.key, step_key.fingerprint, step_key.origin, step_key.parts as key_parts
from step join component on component.run = step.run and component.number = step.component
left join step_key on step_key.step = step.id
where step.id >= :first and step.id < :last order by step.id;

-- name: put_earlier
insert or replace into earlier values (:run, :name, :row, :args, :value, :error);

-- name: earlier_steps
select * from earlier where run = :run;

-- name: forget_earlier
delete from earlier where run = :run;

-- name: forget_cached
delete from cache where step >= :first and step < :last;

-- name: forget_keys
delete from step_key where step >= :first and step < :last;

-- name: forget_origins
update step_key set origin = null where origin >= :first and origin < :last;

-- name: forget_attempts
delete from attempt where step >= :first and step < :last;

-- name: forget_steps
delete from step where id >= :first and id < :last;

-- name: forget_components
delete from component where run = :run;

-- name: give_up
update run set status = 'failed', ended = :ended, error_type = :type, error_text = :text
where id = :id and epoch = :epoch;

-- name: forget_earlier_step
delete from earlier where run = :run and name = :name;

-- name: rename_earlier_step
update or replace earlier set name = :as where run = :run and name = :name;

-- name: children_to_resume
select id, parent_step, pipeline, args from run
where parent_run = :parent and parent_step is not null order by seq desc;

-- name: move_child
update run set parent_step = :step where id = :id;

-- name: ask_to_cancel
update run set cancel = :reason where id = :id and status = 'running';

-- name: asked_to_cancel
select id, cancel from run where cancel is not null and status = 'running' and owner = :owner;

-- name: ask_to_release
insert or ignore into release (run, step)
select seq, :step from run where id = :id and status = 'running';

-- name: asked_to_release
select release.run, release.step from release join run on run.seq = release.run
where run.owner = :owner and run.status = 'running';

-- name: forget_release
delete from release where run = :run and step = :step;

-- name: forget_releases
delete from release where run = :run;

-- name: owns
select 1 from run where seq = :seq and epoch = :epoch;

-- name: put_component
insert or replace into component values
    (:run, :number, :name, :module, :qualname, :parameters, :file, :line, :options, :is_pipeline,
     :code, :parts, :unproven, :sources, :facts);

-- name: put_code
update run set code = :code, parts = :parts, sources = :sources, version = :version
where seq = :seq and epoch = :epoch;

-- name: put_capture
update run set capture = :capture where seq = :seq and epoch = :epoch;

-- name: put_progress
update run set progress = :progress where seq = :seq and epoch = :epoch;

-- name: put_reported
insert into reported (run, kind, name, number, text, time)
values (:run, :kind, :name, :number, :text, :time)
on conflict (run, kind, name) do update
set number = excluded.number, text = excluded.text, time = excluded.time
where excluded.time >= reported.time;

-- name: put_attachment
insert or ignore into attachment (run, digest) values (:run, :digest);

-- name: forget_reported
delete from reported where run = :run and kind in ('metric', 'param', 'step_tag');

-- name: params_of_run
select name from reported where run = :run and kind = 'param';

-- name: seed_of_run
select text from reported where run = :run and kind = 'option' and name = 'seed';

-- name: tags_of_run
select name from reported where run = :run and kind = 'tag' order by name;

-- name: put_source
insert or ignore into source values (:digest, :text);

-- name: last_version
select version from run where pipeline = :pipeline and version is not null
order by number desc limit 1;

-- name: known_code
select version from run where pipeline = :pipeline and code = :code and version is not null
order by number desc limit 1;

-- name: known_versions
select distinct version from run
where pipeline = :pipeline and code is not null and version is not null;

-- name: put_keys
insert or replace into step_key (step, key, parts, fingerprint, origin) values

-- name: put_cached
insert or replace into cache (key, step, created) values

-- name: put_fingerprint
update step_key set fingerprint = :fingerprint
where step = :step or (step = :origin and key = :key);

-- name: cached_value
select step.id, step.value, step.preview, step_key.fingerprint, cache.created, run.id, step.logs,
       step_key.parts
from cache join step on step.id = cache.step join run on run.seq = step.run
left join step_key on step_key.step = step.id
where cache.key = :key and not run.archived;

-- name: put_attempt
insert or replace into attempt values
    (:step, :number, :state, :worker, :started, :duration, :error_type, :error_text, :traceback, :logs);

-- name: put_steps
insert or replace into step
    (id, run, name, component, state, attempt, worker, started, duration, args, inputs, after,
     reads, line, value, preview, error_type, error_text, traceback, error, reason, logs)
values

-- name: find_runs
select run.*,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run where id like :prefix || '%' escape '\' order by seq limit 3;

-- name: run_by_id
select run.*,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run where id = :id;

-- name: latest_run
select run.*,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run where parent_step is null and not archived order by seq desc limit 1;

-- name: numbered_run
select run.*,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run where pipeline = :pipeline and number = :number;

-- name: list_runs
select run.*,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run
where (:pipeline is null or pipeline = :pipeline) and (:version is null or version = :version)
      and (:archived or not archived)
      and (:chosen is null or seq in (select value from json_each(:chosen)))
order by seq desc limit :limit;

-- name: newest_of
select run.*,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run where pipeline = :pipeline order by archived, seq desc limit 1;

-- name: runs_with_tag
select run from reported where kind in ('tag', 'step_tag') and name = :tag;

-- name: runs_with_param
select seq as run from run, json_each(run.parameters) as given
where given.key = :param and given.value = :value
union select reported.run from reported join run on run.seq = reported.run
where kind = 'param' and name = :param and text = :value
      and not exists (select 1 from json_each(run.parameters) as given where given.key = :param);

-- name: runs_with_metric
select run, number from reported where kind = 'metric' and name = :metric;

-- name: run_steps
select step.*, component.name as component_name, component.module, component.qualname,
       component.parameters, component.file, component.is_pipeline, component.facts
from step join component on component.run = step.run and component.number = step.component
where step.id >= :first and step.id < :last order by step.id;

-- name: child_runs
select id, parent_step from run where parent_run = :parent and parent_step is not null order by seq;

-- name: run_attempts
select * from attempt where step >= :first and step < :last order by step, number;

-- name: count_steps
select state, count(*) as count from step where id >= :first and id < :last group by state;
