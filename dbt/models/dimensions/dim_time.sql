-- Every second of a day.
select
    hours.number * 10000 + minutes.number * 100 + seconds.number as time_key,
    hours.number as hour,
    minutes.number as minute,
    seconds.number as second,
    case
        when hours.number < 6 then 'Night'
        when hours.number < 12 then 'Morning'
        when hours.number < 18 then 'Afternoon'
        else 'Evening'
    end as part_of_day,
    hours.number between 9 and 16 as is_business_hour
from {{ numbers_below(24) }} as hours
cross join {{ numbers_below(60) }} as minutes
cross join {{ numbers_below(60) }} as seconds
