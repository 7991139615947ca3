-- The rate of each currency on each day that has a transaction in it, and the rule that gave the rate. A day's
-- rate is its first one, so later rates of the day change no figure; a real one precedes generated ones.
with days as (
    select distinct currency, cast(transaction_datetime_UTC as date) as date_day
    from {{ ref('stg_transactions') }}
),
numbered as (
    select
        currency,
        rate,
        rate_datetime_UTC,
        provider,
        cast(rate_datetime_UTC as date) as rate_day,
        row_number() over (
            partition by currency, cast(rate_datetime_UTC as date)
            order by case when provider = 'offline' then 1 else 0 end, rate_datetime_UTC, rate
        ) as number
    from {{ ref('stg_fx_rates') }}
),
rates as (
    select * from numbered where number = 1
),
nearby as (
    select
        days.currency,
        days.date_day,
        max(case when rates.rate_day <= days.date_day then rates.rate_day end) as day_before,
        min(case when rates.rate_day > days.date_day then rates.rate_day end) as day_after
    from days
    left join rates on days.currency = rates.currency
    group by days.currency, days.date_day
)
select
    nearby.currency,
    {{ date_key('nearby.date_day') }} as date_key,
    nearby.date_day,
    case when nearby.currency = 'USD' then 1e0 else rates.rate end as fx_rate_to_currency,
    rates.rate_datetime_UTC as fx_rate_timestamp_UTC,
    rates.provider as fx_rate_provider,
    case
        when nearby.currency = 'USD' then 'base_currency'
        when nearby.day_before = nearby.date_day then 'same_day'
        when nearby.day_before is not null then 'last_before'
        when nearby.day_after is not null then 'nearest'
        else 'none'
    end as fx_rate_rule
from nearby
left join rates
    on nearby.currency = rates.currency and coalesce(nearby.day_before, nearby.day_after) = rates.rate_day
