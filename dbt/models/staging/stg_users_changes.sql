-- What each change made of a user, and the ends of users (is_end), by their order.
{% set texts = ['first_name', 'last_name', 'street', 'city', 'job'] %}
with ends as (
    {{ ends_of_rows(source('lake', 'users_changes'), 'user_id') }}
),
states as (
    select
        *,
        -- Numbers the values that the server sent: a text that an update left unchanged may be missing.
        {% for text in texts %}
        sum(case when _unchanged like '%"{{ text }}"%' then 0 else 1 end) over (
            partition by user_id order by _epoch, _commit_lsn, _seq
            rows between unbounded preceding and current row
        ) as {{ text }}_number{{ ',' if not loop.last }}
        {% endfor %}
    from {{ source('lake', 'users_changes') }}
    where _op in ('snapshot', 'insert', 'update')
)
select
    user_id,
    {% for text in texts %}
    max({{ text }}) over (partition by user_id, {{ text }}_number) as {{ text }},
    {% endfor %}
    gender, zip, lat, long, dob,
    false as is_end,
    _epoch, _commit_lsn, _seq,
    {{ in_utc('_commit_time') }} as changed_at
from states
union all
select
    row_key as user_id,
    {% for text in texts %}
    cast(null as string) as {{ text }},
    {% endfor %}
    cast(null as string) as gender, null as zip, null as lat, null as long, null as dob,
    true as is_end,
    _epoch, _commit_lsn, _seq,
    changed_at
from ends
