-- What does each merchant take on each day?
select
    merchant_name,
    date_key,
    cast(transaction_datetime_UTC as date) as date_day,
    {{ key_figures(merchants=false) }}
from {{ ref('fct_transactions') }}
group by 1, 2, 3
