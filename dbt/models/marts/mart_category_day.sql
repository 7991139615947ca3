-- For what, on each day?
select
    category,
    date_key,
    cast(transaction_datetime_UTC as date) as date_day,
    {{ key_figures() }}
from {{ ref('fct_transactions') }}
group by 1, 2, 3
