-- In which hours of each day?
select
    date_key,
    cast(transaction_datetime_UTC as date) as date_day,
    extract(hour from transaction_datetime_UTC) as hour,
    {{ key_figures() }}
from {{ ref('fct_transactions') }}
group by 1, 2, 3
