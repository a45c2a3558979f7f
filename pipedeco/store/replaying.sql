-- Statements of replays, by name.

-- name: replayed_step
select step.name, step.args, step.inputs, step.reason, step.error_type, step.error_text,
       component.name as component, component.module, component.qualname, component.file,
       component.line, component.is_pipeline, component.code, component.parts,
       component.facts as component_facts,
       run.seq, run.id as run, run.pipeline, run.number, run.module as run_module,
       run.file as run_file, run.capture, step.attempt,
       (select text from reported
        where run = run.seq and kind = 'option' and name = 'seed') as seed
from step join run on run.seq = step.run
join component on component.run = step.run and component.number = step.component
where step.id = :id;

-- name: step_state
select name, state from step where id = :id;
