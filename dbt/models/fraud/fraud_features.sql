-- What was known of a transaction when it came: itself, and what precedes it by at least a second.
-- Windows are over seconds since 1970, because every engine takes ranges of whole numbers.
with transactions as (
    select *, {{ unix_seconds('transaction_datetime_UTC') }} as at_second from {{ ref('fct_transactions') }}
),
with_past as (
    select
        *,
        at_second - max(at_second) over user_before as seconds_since_user_txn,
        at_second - max(at_second) over merchant_before as seconds_since_merchant_txn,
        at_second - max(at_second) over pair_before as seconds_since_pair_txn,
        count(*) over user_24h as user_txn_count_24h,
        sum(amount_usd) over user_24h as user_amount_usd_sum_24h,
        avg(amount_usd) over user_24h as user_amount_usd_avg_24h,
        max(amount_usd) over user_24h as user_amount_usd_max_24h,
        count(*) over user_30d as user_txn_count_30d,
        sum(amount_usd) over user_30d as user_amount_usd_sum_30d,
        avg(amount_usd) over user_30d as user_amount_usd_avg_30d,
        max(amount_usd) over user_30d as user_amount_usd_max_30d,
        count(*) over merchant_30d as merchant_txn_count_30d,
        avg(amount_usd) over merchant_30d as merchant_amount_usd_avg_30d,
        count(*) over pair_30d as pair_txn_count_30d,
        avg(amount_usd) over pair_30d as pair_amount_usd_avg_30d
    from transactions
    window
        user_before as (
            partition by user_id order by at_second range between unbounded preceding and 1 preceding),
        merchant_before as (
            partition by merchant_name order by at_second range between unbounded preceding and 1 preceding),
        pair_before as (
            partition by user_id, merchant_name order by at_second range between unbounded preceding and 1 preceding),
        user_24h as (
            partition by user_id order by at_second range between 86400 preceding and 1 preceding),
        user_30d as (
            partition by user_id order by at_second range between 2592000 preceding and 1 preceding),
        merchant_30d as (
            partition by merchant_name order by at_second range between 2592000 preceding and 1 preceding),
        pair_30d as (
            partition by user_id, merchant_name order by at_second range between 2592000 preceding and 1 preceding)
)
select
    with_past.transaction_id,
    with_past.user_id,
    with_past.merchant_name,
    with_past.transaction_datetime_UTC,
    with_past.original_amount,
    case when with_past.original_amount > -1 then ln(1 + with_past.original_amount) end as log1p_original_amount,
    with_past.amount_usd,
    days.year,
    days.quarter,
    days.month,
    days.iso_week,
    days.weekday,
    times.hour,
    times.is_business_hour,
    days.is_weekend,
    merchants.has_merchant_geo,
    with_past.seconds_since_user_txn,
    with_past.seconds_since_merchant_txn,
    with_past.seconds_since_pair_txn,
    with_past.user_txn_count_24h,
    with_past.user_amount_usd_sum_24h,
    with_past.user_amount_usd_avg_24h,
    with_past.user_amount_usd_max_24h,
    with_past.user_txn_count_30d,
    with_past.user_amount_usd_sum_30d,
    with_past.user_amount_usd_avg_30d,
    with_past.user_amount_usd_max_30d,
    with_past.merchant_txn_count_30d,
    with_past.merchant_amount_usd_avg_30d,
    with_past.pair_txn_count_30d,
    with_past.pair_amount_usd_avg_30d,
    with_past.is_fraud,
    with_past.category
-- Each transaction has its day, time and merchant. Right joins, because DataFusion puts inner ones into another order and
-- then keeps the transactions in memory instead of the small tables.
from {{ ref('dim_merchants') }} as merchants
right join (
    {{ ref('dim_time') }} as times
    right join (
        {{ ref('dim_date') }} as days
        right join with_past on with_past.date_key = days.date_key
    ) on with_past.time_key = times.time_key
) on with_past.merchant_name = merchants.merchant_name
