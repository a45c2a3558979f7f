-- What tells why steps were performed, and which values the cache knows.

-- name: explained_run
select seq, id, pipeline, number, status, owner from run where id = :id;

-- name: explained_steps
select step.id, step.name, step.state, step.started, step.duration, step.reason, step.error_type,
       step.error_text, component.number, component.name as component, component.module,
       component.qualname, component.options, component.is_pipeline,
       step_key.step is not null as keyed, step_key.key, step_key.parts, step_key.origin
from step join component on component.run = step.run and component.number = step.component
left join step_key on step_key.step = step.id
where step.id >= :first and step.id < :last and (:name is null or step.name = :name)
order by step.id;

-- name: explained_component
select code, parts, unproven, parameters from component where run = :run and number = :number;

-- name: explained_arguments
select args, inputs from step where id = :id;

-- name: step_and_preview
select name, preview from step where id = :id;

-- name: step_of_run
select step.id, step.name, step.state, step.started, step.duration,
       step.value is not null and step.value = x'' as unrecorded,
       run.seq, run.id as run, run.pipeline, run.number, run.archived, run.owner
from step join run on run.seq = step.run where step.id = :id;

-- name: equal_keys
select step_key.key, step_key.origin, step.id, step.name, step.state, step.started, step.duration
from step_key join step on step.id = step_key.step
where step_key.key in
    (select mine.key from step_key as mine join step as made on made.id = mine.step
     where mine.step >= :first and mine.step < :last and made.state = 'completed')
order by step.started desc;

-- name: nearest_run
select run.seq, run.id, run.pipeline, run.number
from run
where run.seq < :seq and (:pipeline is null or run.pipeline = :pipeline)
      and (run.archived or run.owner = 'imported') = :hidden and exists
    (select 1
     from component join step on step.id >= run.seq << 32 and step.id < (run.seq + 1) << 32
                                 and step.component = component.number
     join step_key on step_key.step = step.id
     where component.run = run.seq and component.name = :name and component.options like '%"cache"%'
           and (:pipeline is not null
                or component.module = :module and component.qualname = :qualname)
           and step.state in ('completed', 'cached', 'failed'))
order by run.seq desc limit 1;

-- name: explained_child
select id from run where parent_run = :run and parent_step = :step order by seq desc limit 1;

-- name: entries
select cache.key, cache.created, step.name as step, component.name as component, step.preview,
       iif(typeof(step.value) = 'text', null, coalesce(length(step.value), 0)) as size,
       iif(typeof(step.value) = 'text', step.value, null) as digest,
       run.id as run, run.pipeline, run.number, run.archived, coalesce(hit.hits, 0) as hits
from cache join step on step.id = cache.step join run on run.seq = step.run
join component on component.run = step.run and component.number = step.component
left join (select origin, count(*) as hits from step_key where origin is not null group by origin)
     as hit on hit.origin = cache.step
where :component is null or component.name = :component
order by cache.created desc, cache.key limit :limit;

-- name: count_entries
select count(*) from cache join step on step.id = cache.step
join component on component.run = step.run and component.number = step.component
where :component is null or component.name = :component;

-- name: entry_components
select distinct component.name from cache join step on step.id = cache.step
join component on component.run = step.run and component.number = step.component
order by component.name;

-- name: entries_with_prefix
select key from cache where key >= :prefix and key < :prefix || 'g' order by key limit 2;

-- name: chosen_entries
select cache.key from cache left join step on step.id = cache.step
left join component on component.run = step.run and component.number = step.component
where cache.created < :before and (:component is null or component.name = :component)
order by cache.created, cache.key;

-- name: rm_entry
delete from cache where key = :key;
