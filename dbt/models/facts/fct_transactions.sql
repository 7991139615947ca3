-- One row per transaction, with the rate of its day and the version of its user that was valid then.
with transactions as (
    select *, cast(transaction_datetime_UTC as date) as date_day from {{ ref('stg_transactions') }}
)
select
    transactions.transaction_id,
    transactions.user_id,
    users.user_version_id,
    transactions.merchant_name,
    {{ date_key('transactions.date_day') }} as date_key,
    {{ time_key('transactions.transaction_datetime_UTC') }} as time_key,
    transactions.transaction_datetime_UTC,
    transactions.unix_time_seconds,
    transactions.currency,
    transactions.original_amount,
    rates.fx_rate_to_currency,
    rates.fx_rate_timestamp_UTC,
    transactions.original_amount / rates.fx_rate_to_currency as amount_usd,
    transactions.is_fraud,
    transactions.category,
    rates.fx_rate_rule,
    rates.fx_rate_provider,
    case
        when users.user_version_id is not null then 'valid_then'
        when (select count(*) from {{ ref('dim_users_history') }}) = 0 then 'nothing_captured'
        else 'none'
    end as user_version_rule
from transactions
left join {{ ref('dim_fx_rates') }} as rates
    on transactions.currency = rates.currency and transactions.date_day = rates.date_day
left join {{ ref('dim_users_history') }} as users
    on transactions.user_id = users.user_id
    and (users.valid_from is null or users.valid_from <= transactions.transaction_datetime_UTC)
    and (users.valid_to is null or transactions.transaction_datetime_UTC < users.valid_to)
