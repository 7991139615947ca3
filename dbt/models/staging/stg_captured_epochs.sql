-- Snapshots that are known to be whole: a change follows only when both tables have been copied.
with changes as (
    select _epoch, _op, _commit_lsn, _commit_time from {{ source('lake', 'users_changes') }}
    union all
    select _epoch, _op, _commit_lsn, _commit_time from {{ source('lake', 'merchants_changes') }}
)
select
    _epoch,
    min(_commit_lsn) as snapshot_lsn,
    min({{ in_utc('_commit_time') }}) as snapshot_at
from changes
group by _epoch
having count(case when _op <> 'snapshot' then 1 end) > 0
