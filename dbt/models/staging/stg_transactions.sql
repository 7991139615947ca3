-- The lake's rows under the names of the models. Each message is in the lake once, so nothing is removed here:
-- an event that a producer sent twice is there twice, and the test of transaction_id fails.
select
    trans_num as transaction_id,
    user_id,
    {{ merchant_name('merchant') }} as merchant_name,
    category,
    coalesce({{ in_utc('event_time') }}, {{ text_as_time('trans_date_trans_time') }}) as transaction_datetime_UTC,
    unix_time as unix_time_seconds,
    currency,
    original_amt as original_amount,
    is_fraud
from {{ source('lake', 'transactions') }}
