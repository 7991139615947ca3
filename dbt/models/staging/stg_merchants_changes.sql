-- What each change made of a merchant, and the ends of merchants (is_end), by their order.
with ends as (
    {{ ends_of_rows(source('lake', 'merchants_changes'), 'merchant') }}
)
select
    {{ merchant_name('merchant') }} as merchant_name,
    merch_lat as latitude,
    merch_long as longitude,
    nullif(merch_zipcode, 0) as zip,
    false as is_end,
    _epoch, _commit_lsn, _seq,
    {{ in_utc('_commit_time') }} as changed_at
from {{ source('lake', 'merchants_changes') }}
where _op in ('snapshot', 'insert', 'update')
union all
select
    {{ merchant_name('row_key') }} as merchant_name,
    null as latitude,
    null as longitude,
    null as zip,
    true as is_end,
    _epoch, _commit_lsn, _seq,
    changed_at
from ends
