{#
  When rows of a captured table ended, with the position of the end: deleted, given another key, truncated, or
  absent from a later snapshot, which is how a deletion shows that no capture has read.
#}
{% macro ends_of_rows(changes, key) %}
    with changes as (
        select
            {{ key }} as row_key, _op, _before, _epoch, _commit_lsn, _seq,
            {{ in_utc('_commit_time') }} as changed_at
        from {{ changes }}
    ),
    keys as (
        select row_key, min(_epoch) as first_epoch from changes where row_key is not null group by row_key
    )
    select row_key, _epoch, _commit_lsn, _seq, changed_at
    from changes
    where _op = 'delete'
    union all
    select {{ json_text('_before', key) }} as row_key, _epoch, _commit_lsn, _seq, changed_at
    from changes
    where _op = 'update' and {{ json_text('_before', key) }} <> row_key
    union all
    select keys.row_key, changes._epoch, changes._commit_lsn, changes._seq, changes.changed_at
    from changes
    inner join keys on keys.first_epoch <= changes._epoch
    where changes._op = 'truncate'
    union all
    -- -1: before the snapshot's own rows.
    select keys.row_key, epochs._epoch, epochs.snapshot_lsn, -1 as _seq, epochs.snapshot_at
    from {{ ref('stg_captured_epochs') }} as epochs
    inner join keys on keys.first_epoch < epochs._epoch
    left join changes as present
        on present.row_key = keys.row_key and present._epoch = epochs._epoch and present._op = 'snapshot'
    where present.row_key is null
{% endmacro %}
