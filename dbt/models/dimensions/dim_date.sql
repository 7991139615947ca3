-- Every day of each year that has a transaction.
with years as (
    select distinct extract(year from transaction_datetime_UTC) as year from {{ ref('stg_transactions') }}
),
days as (
    select years.year, {{ day_of_year('years.year', 'numbers.number') }} as date_day
    from years
    cross join {{ numbers_below(366) }} as numbers
),
parts as (
    select
        {{ date_key('date_day') }} as date_key,
        date_day,
        year,
        extract(quarter from date_day) as quarter,
        extract(month from date_day) as month,
        {{ iso_week('date_day') }} as iso_week,
        extract(day from date_day) as day_of_month,
        {{ iso_weekday('date_day') }} as weekday
    from days
    where extract(year from date_day) = year
)
select
    *,
    case weekday
        when 1 then 'Monday' when 2 then 'Tuesday' when 3 then 'Wednesday' when 4 then 'Thursday'
        when 5 then 'Friday' when 6 then 'Saturday' else 'Sunday'
    end as weekday_name,
    weekday >= 6 as is_weekend
from parts
