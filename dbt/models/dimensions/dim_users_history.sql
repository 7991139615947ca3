-- Versions of users from the captured changes. The first version is valid from the beginning and the last one
-- without end, also after a deletion: every transaction of a captured user has exactly one version.
{% set attributes = [
    'first_name', 'last_name', 'gender', 'street', 'city', 'zip', 'lat', 'long', 'job', 'dob',
] %}
with changes as (
    select
        *,
        -- Clocks may be set back, positions never are: a version is not valid before the one it follows.
        max(changed_at) over (
            partition by user_id order by _epoch, _commit_lsn, _seq
            rows between unbounded preceding and current row
        ) as known_at,
        coalesce(lag(is_end) over (partition by user_id order by _epoch, _commit_lsn, _seq), true) as follows_end
        {% for attribute in attributes %}
        , lag({{ attribute }}) over (
            partition by user_id order by _epoch, _commit_lsn, _seq
        ) as previous_{{ attribute }}
        {% endfor %}
    from {{ ref('stg_users_changes') }}
),
-- A snapshot that repeats a state adds no version, and nothing ends twice.
kept as (
    select *
    from changes
    where (is_end and not follows_end)
        or (not is_end and (
            follows_end
            {% for attribute in attributes %}
            or ({{ attribute }} is distinct from previous_{{ attribute }})
            {% endfor %}
        ))
),
followed as (
    select
        *,
        coalesce(
            lead(is_end) over (partition by user_id order by _epoch, _commit_lsn, _seq), false
        ) as ends_next,
        lead(known_at) over (partition by user_id order by _epoch, _commit_lsn, _seq) as next_at,
        lead(known_at, 2) over (partition by user_id order by _epoch, _commit_lsn, _seq) as second_next_at
    from kept
),
numbered as (
    select
        *,
        row_number() over (partition by user_id order by _epoch, _commit_lsn, _seq) as version,
        row_number() over (partition by user_id order by _epoch desc, _commit_lsn desc, _seq desc) as from_last
    from followed
    where not is_end
)
select
    user_id || '-' || cast(version as string) as user_version_id,
    user_id,
    version,
    case when version > 1 then known_at end as valid_from,
    case when ends_next then second_next_at else next_at end as valid_to,
    case when ends_next then next_at end as deleted_at,
    from_last = 1 and not ends_next as is_current,
    first_name,
    last_name,
    gender,
    street,
    city,
    zip,
    lat as latitude,
    long as longitude,
    job,
    dob
from numbered
