-- What does each user spend on each day?
select
    user_id,
    date_key,
    cast(transaction_datetime_UTC as date) as date_day,
    {{ key_figures(users=false) }}
from {{ ref('fct_transactions') }}
group by 1, 2, 3
