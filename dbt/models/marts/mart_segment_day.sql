-- Who pays, by gender and age, on each day?
with transactions as (
    select
        facts.*,
        users.gender,
        -- The difference of two dates as YYYYMMDD has the full years before its last four digits.
        facts.date_key - ({{ date_key('users.dob') }}) as age_and_days
    from {{ ref('fct_transactions') }} as facts
    left join {{ ref('dim_users_history') }} as users on facts.user_version_id = users.user_version_id
)
select
    case when gender in ('F', 'M') then gender else 'Unknown' end as gender,
    case
        when age_and_days is null or age_and_days < 0 then 'Unknown'
        when age_and_days < 250000 then 'under 25'
        when age_and_days < 350000 then '25-34'
        when age_and_days < 450000 then '35-44'
        when age_and_days < 550000 then '45-54'
        else '55+'
    end as age_group,
    date_key,
    cast(transaction_datetime_UTC as date) as date_day,
    {{ key_figures() }}
from transactions
group by 1, 2, 3, 4
