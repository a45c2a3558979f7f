-- What the comparison of two runs reads.

-- name: compared_run
select seq, pipeline, version, mode, started, ended, args, parameters, value, preview,
       error_type, error_text, python, host, capture,
       (select text from reported
        where run = run.seq and kind = 'option' and name = 'seed') as seed,
       (select number from reported
        where run = run.seq and kind = 'time' and name = 'seconds') as seconds
from run where id = :id;

-- name: compared_components
select name, options, code, parts, sources from component where run = :seq order by number;

-- name: compared_steps
select step.id, step.name, component.name as component, step.state, step.duration, step.value, step.preview,
       step.error_type, step.error_text, step.reason, step_key.fingerprint
from step join component on component.run = step.run and component.number = step.component
          left join step_key on step_key.step = step.id
where step.id >= :first and step.id < :last order by step.id;

-- name: compared_value
select value from step where id = :id;

-- name: source_text
select text from source where digest = :digest;
